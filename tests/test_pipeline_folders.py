from pathlib import Path

import pytest

from pipeline.data.folders import SourceFile, manifest_hash, scan
from pipeline.errors import UserError


def plant(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def found(*args, **kwargs):
    return [source.relative.as_posix() for source in scan(*args, **kwargs)]


def test_pictures_are_found_sorted_and_hidden_and_other_files_are_not(tmp_path):
    plant(tmp_path, "b.png", "a.JPG", "sub/c.tif", "sub/.hidden.png", ".git/d.png", "notes.txt", "e.NEF")
    assert found([tmp_path]) == ["a.JPG", "b.png", "e.NEF", "sub/c.tif"]
    assert found([tmp_path], recursive=False) == ["a.JPG", "b.png", "e.NEF"]


def test_several_roots_keep_their_own_relative_paths_and_nothing_comes_twice(tmp_path):
    plant(tmp_path, "x/a.png", "y/a.png", "y/b.bin")
    assert found([tmp_path / "x", tmp_path / "y", tmp_path / "y" / "b.bin"]) == ["a.png", "a.png", "b.bin"]
    assert found([tmp_path / "x", tmp_path / "x" / "a.png"]) == ["a.png"]


def test_patterns_and_folders_are_left_out(tmp_path):
    plant(tmp_path, "a_mean.png", "a_real.png", "out/b.png", "sub/thumbs/c.png")
    assert found([tmp_path], exclude=["*_mean.*", "*/thumbs/*", tmp_path / "out"]) == ["a_real.png"]


def test_links_are_followed_only_inside_the_tree_and_loops_end(tmp_path, caplog):
    plant(tmp_path, "tree/a.png", "outside/secret.png")
    tree = tmp_path / "tree"
    (tree / "inside.png").symlink_to(tree / "a.png")
    (tree / "out.png").symlink_to(tmp_path / "outside" / "secret.png")
    (tree / "outdir").symlink_to(tmp_path / "outside")
    (tree / "loop").symlink_to(tree)
    (tree / "self.png").symlink_to(tree / "self.png")
    (tree / "broken.png").symlink_to(tree / "nothing.png")
    assert found([tree]) == ["a.png", "inside.png"]
    assert "skipped 3" in caplog.text
    (tmp_path / "alias").symlink_to(tree)
    assert found([tmp_path / "alias"]) == ["a.png", "inside.png"]


def test_missing_and_empty_folders_are_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="nowhere: expected a file or a folder, found nothing there"):
        scan([tmp_path / "nowhere"])
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(UserError, match=r"expected pictures \(.*png.*tif.*\), found none"):
        scan([tmp_path])
    with pytest.raises(UserError, match="no path"):
        scan([])
    (tmp_path / "far.png").symlink_to(Path(__file__))
    with pytest.raises(UserError, match="apart from 1 links"):
        scan([tmp_path])


def test_manifest_hash_depends_on_names_and_contents_only(tmp_path):
    plant(tmp_path, "one/a.png", "one/b/c.png", "two/a.png", "two/b/c.png")
    one, two = scan([tmp_path / "one"]), scan([tmp_path / "two"])
    assert [s.path.write_bytes(b"same") for s in (*one, *two)] == [4] * 4
    assert manifest_hash(one) == manifest_hash(two) == manifest_hash(one[::-1])
    two[0].path.write_bytes(b"other")
    assert manifest_hash(one) != manifest_hash(two)
    renamed = [SourceFile(one[0].path, Path("z.png")), one[1]]
    assert manifest_hash(one) != manifest_hash(renamed)


def test_manifest_hash_is_not_fooled_by_newlines_in_names(tmp_path):
    plant(tmp_path, "a", "b")
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "b").write_bytes(b"")
    digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    apart = [SourceFile(tmp_path / "a", Path("x")), SourceFile(tmp_path / "b", Path("y"))]
    for second_line in (f"{digest} y", f"{digest} 1 y"):
        joined = [SourceFile(tmp_path / "a", Path(f"x\n{second_line}"))]
        assert manifest_hash(joined) != manifest_hash(apart)
