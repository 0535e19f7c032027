import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from pipeline.commands.synth import synth
from pipeline.data.images import Image, read_image, write_image
from pipeline.data.synth_files import find_clean, make_recipe, pair_seed, synthesise
from pipeline.errors import UserError


def write(path, shape=(48, 50, 3), dtype=np.uint8, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0.3 * np.iinfo(dtype).max, 0.6 * np.iinfo(dtype).max, shape, dtype=dtype)
    write_image(path, Image(pixels=pixels))
    return pixels


def run(source, out, recipe="gaussian", level=None, seed=0, limit=None):
    return synthesise(find_clean(source, out, limit), out, make_recipe(recipe, level), seed)


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_pairs_have_equal_names_and_the_noise_has_the_asked_level(tmp_path):
    pixels = write(tmp_path / "in" / "deep" / "a.b.png", (200, 200, 3))
    run(tmp_path / "in", tmp_path / "out", level="20")
    noisy = read_image(tmp_path / "out" / "noisy" / "deep" / "a.b.png").pixels.astype(float)
    clean = read_image(tmp_path / "out" / "clean" / "deep" / "a.b.png").pixels
    assert np.array_equal(clean, pixels)
    # sd of a sample standard deviation of n normals is sigma / sqrt(2 n); 5 sd, plus rounding to 8 bits
    assert np.std(noisy - clean) == pytest.approx(np.sqrt(400 + 1 / 12), rel=5 / np.sqrt(2 * noisy.size))


@pytest.mark.parametrize("recipe", ["gaussian", "camera"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path, recipe):
    write(tmp_path / "in" / "a.png")
    for name, seed in (("one", 7), ("two", 7), ("other", 8)):
        run(tmp_path / "in", tmp_path / name, recipe, seed=seed)
    one, two, other = (contents(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert one["noisy/a.png"] != other["noisy/a.png"]


def test_a_pair_does_not_depend_on_the_other_files(tmp_path):
    write(tmp_path / "all" / "a.png", seed=1)
    write(tmp_path / "all" / "b.png", seed=2)
    write(tmp_path / "alone" / "b.png", seed=2)
    run(tmp_path / "all", tmp_path / "out1", "camera")
    run(tmp_path / "alone", tmp_path / "out2", "camera")
    assert contents(tmp_path / "out1")["noisy/b.png"] == contents(tmp_path / "out2")["noisy/b.png"]
    assert contents(tmp_path / "out1")["noisy/a.png"] != contents(tmp_path / "out1")["noisy/b.png"]


def test_the_manifest_reproduces_every_pair(tmp_path):
    import torch

    from noise.recipe import reproduce
    from pipeline.data.images import from_float, to_float

    write(tmp_path / "in" / "a.png")
    run(tmp_path / "in", tmp_path / "out", "camera", level="0.001,0.01", seed=3)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    (row,) = manifest["files"]
    assert (manifest["seed"], manifest["recipe"]["kind"]) == (3, "camera")
    assert 0.001 <= row["parameters"]["shot"] <= 0.01
    for part in ("noisy", "clean"):
        data = (tmp_path / "out" / part / row["name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == row[f"{part}_sha256"]
    image = torch.from_numpy(to_float(read_image(tmp_path / "in" / row["source"]).pixels).transpose(2, 0, 1).copy())
    again = reproduce(image, row["parameters"]).noisy.numpy().transpose(1, 2, 0)
    stored = read_image(tmp_path / "out" / "noisy" / row["name"]).pixels
    assert np.array_equal(from_float(again, np.uint8), stored)


def test_depth_follows_the_source_and_grey_and_alpha_are_handled(tmp_path):
    write(tmp_path / "in" / "deep.tif", dtype=np.uint16)
    write(tmp_path / "in" / "grey.png", (48, 50, 1))
    write(tmp_path / "in" / "rgba.png", (48, 50, 4))
    run(tmp_path / "in", tmp_path / "camera", "camera")
    run(tmp_path / "in", tmp_path / "gaussian", "gaussian")
    assert read_image(tmp_path / "camera" / "noisy" / "deep.png").pixels.dtype == np.uint16
    shapes = {
        kind: [read_image(tmp_path / kind / "noisy" / f"{n}.png").pixels.shape[2] for n in ("grey", "rgba")]
        for kind in ("camera", "gaussian")
    }
    assert shapes == {"camera": [3, 3], "gaussian": [1, 3]}


def test_names_that_would_meet_keep_their_suffix(tmp_path):
    write(tmp_path / "in" / "a.png")
    write(tmp_path / "in" / "a.jpg")
    run(tmp_path / "in", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out" / "noisy").iterdir()) == ["a.jpg.png", "a.png.png"]


def test_a_bad_file_is_listed_and_the_rest_goes_on(tmp_path):
    write(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "text.png").write_text("no picture")
    result = run(tmp_path / "in", tmp_path / "out")
    assert (result["ok"], result["failed"]) == (1, 1)
    assert result["failures"][0]["source"] == "text.png"


def test_existing_pairs_and_a_source_inside_the_output_are_refused(tmp_path):
    write(tmp_path / "in" / "a.png")
    run(tmp_path / "in", tmp_path / "out")
    with pytest.raises(UserError, match="new or an empty folder"):
        find_clean(tmp_path / "in", tmp_path / "out", None)
    assert find_clean(tmp_path / "in", tmp_path / "out", None, overwrite=True)
    with pytest.raises(UserError, match="apart from the source"):
        find_clean(tmp_path / "in", tmp_path, None)
    # Inside the source is fine: the results are not taken for sources.
    run(tmp_path / "in", tmp_path / "in" / "out")
    assert len(find_clean(tmp_path / "in", tmp_path / "in" / "out", None, overwrite=True)) == 1


@pytest.mark.parametrize(
    ("recipe", "level", "message"),
    [
        ("poisson", None, "expected one of gaussian, camera"),
        ("gaussian", "much", "expected a number"),
        ("gaussian", "1,2,3", "expected a number"),
        ("gaussian", "-3", "sigma"),
        ("camera", "5", "shot"),
    ],
)
def test_a_wrong_recipe_or_level_is_one_clear_line(recipe, level, message):
    with pytest.raises(UserError, match=message):
        make_recipe(recipe, level)


def test_seeds_differ_by_name_and_seed_and_are_stable():
    seeds = {pair_seed(seed, Path(name)) for seed in (0, 1) for name in ("a", "b", "0", "1a")}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert pair_seed(0, Path("a")) == int(hashlib.sha256(b"0\0a").hexdigest()[:16], 16) >> 1


def test_the_command_prints_one_json_object(tmp_path):
    write(tmp_path / "in" / "a.png")
    write(tmp_path / "in" / "b.png")
    app = Typer()
    app.command()(synth)
    arguments = [
        str(tmp_path / "in"),
        str(tmp_path / "out"),
        "--recipe",
        "gaussian",
        "--level",
        "5,25",
        "--seed",
        "1",
    ]
    result = CliRunner().invoke(app, [*arguments, "--limit", "1", "--json"])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert (answer["ok"], answer["failed"], len(answer["files"])) == (1, 0, 1)
    assert 5 <= answer["files"][0]["parameters"]["sigma"] <= 25
