"""Raw files that the shipped model for raws cannot serve: developed for the other one, unless a model was named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from noise.shot_read import NoiseLevel
from pipeline.inference import shipped
from pipeline.inference.manifest import MANIFEST_NAME
from raw.dng import write_dng
from raw.files import read_raw
from tests.raw_scene import BLACK, WHITE, write_scene
from tests.xtrans import XTRANS

LEVEL = NoiseLevel(shot=4e-3, read=1e-4)
SIDE = 160

pytestmark = pytest.mark.skipif(
    not all(map(shipped.is_shipped, shipped.NAMES)), reason="needs both models that come with unveil"
)


def write_all(folder: Path, photo: np.ndarray) -> Path:
    """A folder with a Bayer raw that tells its noise, a photo, and raws that are nothing for a model for raws."""
    import imageio.v3 as iio

    (folder / "sub").mkdir(parents=True)
    photo = photo[:SIDE, :SIDE]
    scene = write_scene(folder / "bayer.dng", photo, LEVEL)
    # Codes that lie further apart in lights: no noise line holds after a tone curve.
    companded = np.where(scene.noisy > 5000, scene.noisy // 16 * 16, scene.noisy // 4 * 4).astype(np.uint16)
    write_dng(folder / "companded.dng", companded, black_levels=BLACK, white_level=WHITE)
    rows, columns = np.indices((SIDE, SIDE))
    linear = (photo.astype(np.float64) ** 2.2 / 255**2.2 * 65535).astype(np.uint16)
    write_dng(folder / "sub" / "linear.dng", linear, pattern=None)
    mosaic = np.take_along_axis(linear, XTRANS[rows % 6, columns % 6].astype(int)[..., None], axis=2)[..., 0]
    write_dng(folder / "sub" / "xtrans.dng", mosaic, pattern=XTRANS)
    write_dng(folder / "mono.dng", linear[..., 1], pattern=None)
    iio.imwrite(folder / "photo.png", photo)
    return folder


@pytest.fixture
def folder(tmp_path: Path, photo: np.ndarray) -> Path:
    return write_all(tmp_path / "in", photo)


DEVELOPED = {
    "companded.tif": "not linear: companded; codes lie 4 apart in shadows",
    "mono.tif": "expected a Bayer mosaic, found mono",
    "sub/linear.tif": "expected a Bayer mosaic, found linear",
    "sub/xtrans.tif": "expected a Bayer mosaic, found xtrans",
}
OUTPUTS = sorted([*DEVELOPED, "bayer.dng", "photo.png"])


def fates(found: dict, out: Path, key: str = "output") -> dict[str, tuple[str, str | None]]:
    """Output below ``out``: the model, and why the one for raws could not serve the file."""
    return {Path(file[key]).relative_to(out).as_posix(): (file["model"], file["fallback"]) for file in found["files"]}


def written(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def check_fates(found: dict, out: Path) -> None:
    told = fates(found, out)
    assert sorted(told) == OUTPUTS
    assert told.pop("bayer.dng") == ("default-raw", None)
    assert told.pop("photo.png") == ("default", None)
    for name, (model, reason) in told.items():
        assert model == "default"
        assert DEVELOPED[name] in reason
        assert "\n" not in reason
        assert not reason.startswith("/")


def test_what_the_model_for_raws_cannot_serve_is_what_the_other_one_makes_of_it(unveil, tmp_path, folder):
    out = tmp_path / "out"
    code, plan, told = unveil("denoise", folder, "--out", out, "--dry-run", "--json")
    assert (code, plan["write"], plan["fail"]) == (0, 6, 0), told
    assert not out.exists()
    code, found, told = unveil("denoise", folder, "--out", out, "--json")
    assert (code, found["ok"], found["left"]) == (0, 6, 0), told
    check_fates(plan, out)
    check_fates(found, out)
    assert [(one["model"], one["files"]) for one in found["models"]] == [("default", 5), ("default-raw", 1)]
    assert all(one["chosen_by_default"] for one in found["models"])
    assert all(file["residual"] for file in found["files"] if file["model"] == "default")
    assert [file["source"] for file in found["files"]] == sorted(file["source"] for file in found["files"])
    assert read_raw(out / "bayer.dng").kind == "bayer"
    code, _, told = unveil("denoise", folder, "--model", "default", "--out", tmp_path / "named")
    assert code == 0, told
    here, named = written(out), written(tmp_path / "named")
    assert sorted({*here} - {MANIFEST_NAME}) == OUTPUTS
    for name in DEVELOPED:
        assert here[name] == named[name], name


def test_a_line_for_each_reason_says_so(unveil, tmp_path, folder):
    (folder / "sub" / "second.dng").write_bytes((folder / "sub" / "linear.dng").read_bytes())
    code, _, told = unveil("denoise", folder, "--out", tmp_path / "out")
    assert code == 0, told
    lines = told.splitlines()
    assert (
        "2 raw files developed and denoised by default, not default-raw: expected a Bayer mosaic, found linear "
        "(linear.dng, second.dng)"
    ) in lines
    assert (
        "1 raw file developed and denoised by default, not default-raw: expected a Bayer mosaic, found mono (mono.dng)"
    ) in lines
    assert any("found neither (not linear: companded" in line and line.endswith("(companded.dng)") for line in lines)


def test_a_second_call_neither_redoes_nor_refuses_what_the_first_did(unveil, tmp_path, folder):
    out = tmp_path / "out"
    call = ("denoise", folder, "--out", out, "--json")
    assert unveil(*call)[0] == 0
    before = written(out)
    for more, left_alone in (((), True), (("--skip-existing",), False)):
        code, found, told = unveil(*call, *more)
        assert (code, found["ok"], found["skipped"], found["failed"]) == (0, 0, 6, 0), told
        assert all((file["error"] is not None) is left_alone for file in found["files"])
        check_fates(found, out)
        assert [(one["model"], one["files"]) for one in found["models"]] == [("default", 5), ("default-raw", 1)]
        assert written(out) == before
    # A run that was stopped, and one whose output was damaged: what is missing is made, to the same bytes.
    (out / "sub" / "linear.tif").unlink()
    (out / "bayer.dng").unlink()
    (out / "mono.tif").write_bytes(b"torn")
    code, plan, _ = unveil(*call, "--skip-existing", "--dry-run")
    assert (code, plan["write"], plan["replace"], plan["skip"]) == (0, 2, 1, 3)
    code, found, told = unveil(*call, "--skip-existing")
    assert (code, found["ok"], found["skipped"]) == (0, 3, 3), told
    after = written(out)
    assert after.pop(MANIFEST_NAME).startswith(before.pop(MANIFEST_NAME))
    assert after == before
    code, found, told = unveil(*call, "--overwrite")
    assert (code, found["ok"]) == (0, 6), told


def test_one_name_for_both_models_is_no_reason_to_do_it_again(unveil, tmp_path, folder):
    """With a format for pictures the name is the same whichever model makes it; the manifest knows which did."""
    out = tmp_path / "out"
    call = ("denoise", folder / "sub", folder / "bayer.dng", "--out", out, "--format", "png", "--json")
    code, found, told = unveil(*call)
    assert (code, found["ok"]) == (0, 3), told
    assert {name: model for name, (model, _) in fates(found, out).items()} == {
        "linear.png": "default",
        "xtrans.png": "default",
        "bayer.png": "default-raw",
    }
    before = written(out)
    code, found, told = unveil(*call, "--skip-existing")
    assert (code, found["skipped"]) == (0, 3), told
    assert written(out) == before


def test_named_it_refuses_with_the_reason_as_before(unveil, tmp_path, folder):
    out = tmp_path / "out"
    code, found, _ = unveil("denoise", folder, "--model", "default-raw", "--out", out, "--json")
    assert (code, found["ok"], found["failed"]) == (3, 1, 4)
    errors = {Path(file["source"]).name: file["error"] for file in found["files"] if file["status"] == "failed"}
    assert errors["linear.dng"] == f"{folder / 'sub' / 'linear.dng'}: expected a Bayer mosaic, found linear"
    assert "expected a NoiseProfile or noise that can be measured" in errors["companded.dng"]
    assert all(file["fallback"] is None and file["model"] == "default-raw" for file in found["files"])
    assert [(one["model"], one["files"]) for one in found["models"]] == [("default-raw", 5)]
    assert sorted(written(out)) == ["bayer.dng", MANIFEST_NAME]
    reasons = [line for line in (out / MANIFEST_NAME).read_text().splitlines() if '"status":"failed"' in line]
    assert len(reasons) == 4


def test_what_cannot_be_decoded_fails_and_the_exit_code_says_how_much_did(unveil, tmp_path, folder):
    (folder / "broken.dng").write_bytes((folder / "bayer.dng").read_bytes()[:3000])
    for more in (("--dry-run",), ()):
        code, found, _ = unveil("denoise", folder, "--out", tmp_path / "out", "--json", *more)
        assert (code, len(found["files"])) == (3, 7)
    (bad,) = [file for file in found["files"] if file["status"] == "failed"]
    assert bad["source"].endswith("broken.dng")
    assert "not a readable raw file" in bad["error"]
    assert bad["fallback"] is None
    code, found, _ = unveil("denoise", folder / "broken.dng", "--out", tmp_path / "one", "--json")
    assert (code, found["failed"]) == (1, 1)


def test_noise_that_only_the_measurement_finds_out_of_reach_is_handed_on_too(unveil, tmp_path):
    light = np.linspace(0.05, 0.9, SIDE)[None].repeat(SIDE, 0)
    noise = np.random.default_rng(0).normal(0, 400, (SIDE, SIDE)) * (1 - light) ** 2
    write_dng(tmp_path / "curved.dng", (16000 * light + noise).clip(0).astype(np.uint16), white_level=16383)
    call = ("denoise", tmp_path / "curved.dng", "--out", tmp_path / "out", "--json")
    # Headers and a look at the numbers do not tell it, and a dry run measures nothing.
    assert [Path(file["output"]).name for file in unveil(*call, "--dry-run")[1]["files"]] == ["curved.dng"]
    code, found, told = unveil(*call)
    assert code == 0, told
    assert [Path(file["output"]).name for file in found["files"]] == ["curved.tif"]
    assert "not linear: the variance falls with the level" in found["files"][0]["fallback"]
    assert [(one["model"], one["files"]) for one in found["models"]] == [("default", 1)]


def test_a_picture_of_the_name_that_a_developed_raw_would_have_stays_apart(unveil, tmp_path, folder, photo):
    from pipeline.data.images import Image, write_image

    write_image(folder / "mono.tif", Image(pixels=photo[:64, :64]))
    for _ in range(2):
        code, found, told = unveil("denoise", folder, "--out", tmp_path / "out", "--json")
        assert code == 0, told
        outputs = {Path(file["source"]).name: Path(file["output"]).name for file in found["files"]}
        assert (outputs["mono.tif"], outputs["mono.dng"]) == ("mono.tif", "mono.dng.tif")
    assert found["skipped"] == 7
    # What only one of them could have is refused before anything is read.
    write_image(folder / "mono.dng.tif", Image(pixels=photo[:64, :64]))
    code, _, told = unveil("denoise", folder, "--out", tmp_path / "other")
    assert code == 2
    assert "expected an output of its own" in told
    assert not (tmp_path / "other").exists()


def test_a_developed_picture_is_no_dng_and_nothing_takes_it_where_default_is_not_shipped(
    unveil, tmp_path, folder, monkeypatch
):
    raws = [folder / "bayer.dng", folder / "sub" / "linear.dng"]
    code, found, _ = unveil("denoise", *raws, "--out", tmp_path / "out", "--format", "dng", "--json")
    assert (code, found["ok"], found["failed"]) == (3, 1, 1)
    assert found["files"][1]["error"].endswith("linear.dng: expected a Bayer mosaic, found linear")
    shutil.copytree(shipped.FOLDER / "default-raw", tmp_path / "shipped" / "default-raw")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "shipped")
    code, found, _ = unveil("denoise", *raws, "--out", tmp_path / "alone", "--json")
    assert (code, found["ok"], found["failed"]) == (3, 1, 1)


def test_a_run_that_is_stopped_counts_what_was_handed_on_as_left(monkeypatch):
    from pipeline.commands.denoise_parts import Part
    from pipeline.commands.denoise_run import _denoised
    from pipeline.data.folders import SourceFile
    from pipeline.inference.results import FileResult, FilesSummary

    files = [SourceFile(Path(f"{name}.dng"), Path(f"{name}.dng")) for name in "abc"]
    refused = FileResult(source="a.dng", output="a.dng", status="failed", error="a.dng: expected b, found c")

    def stopped(*_: object) -> FilesSummary:
        return FilesSummary(files=(), stopped=True, left=2, unserved=(refused,))

    def never(*_: object) -> FilesSummary:
        raise AssertionError

    def part(ref: str, run, fallback: Part | None = None) -> Part:
        outputs = [file.path for file in files]
        facts = {"files": files, "outputs": outputs, "denoiser": lambda image: image, "made_with": {}}
        return Part(ref=ref, run=run, speed=lambda: None, fallback=fallback, **facts)

    summary, used = _denoised([part("default-raw", stopped, part("default", never))])
    assert (summary.stopped, summary.left, summary.files) == (True, 3, ())
    assert {one.ref: len(one.files) for one in used} == {"default": 1, "default-raw": 2}
