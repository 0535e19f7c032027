"""`unveil denoise --dry-run`: says what a run would do, by headers, and writes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models import InferenceSpec, UNetSpec, build, save
from pipeline.data.images import Image, write_image
from pipeline.inference.dry_run import spoken


@pytest.fixture
def model(tmp_path: Path) -> Path:
    spec = UNetSpec(channels=3, width=2, depth=1)
    save(tmp_path / "model", build(spec, seed=0), spec=spec, inference=InferenceSpec(), card={})
    return tmp_path / "model"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name, shape, dtype in (("a.png", (40, 30, 3), np.uint8), ("b.tif", (50, 60, 1), np.uint16)):
        pixels = generator.integers(0, np.iinfo(dtype).max, shape, dtype=dtype)
        write_image(folder / name, Image(pixels=pixels))
    (folder / "c.png").write_text("no picture")
    return folder


def everything(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_written_and_each_file_has_its_fate(unveil, tmp_path, model, photos):
    out = tmp_path / "out"
    before = everything(tmp_path)
    call = ("denoise", photos, "--model", model, "--out", out)
    code, plan, _ = unveil(*call, "--dry-run", "--json")
    assert code == 3
    assert everything(tmp_path) == before
    assert not out.exists()
    assert [file["action"] for file in plan["files"]] == ["write", "write", "fail"]
    first, second, third = plan["files"]
    assert (first["height"], first["width"], first["channels"], first["bits"]) == (40, 30, 3, 8)
    assert (second["height"], second["width"], second["channels"], second["bits"]) == (50, 60, 1, 16)
    assert second["output"] == str(out / "b.tif")
    assert second["seconds"] == pytest.approx(first["seconds"] * 50 * 60 / (40 * 30), abs=0.03)
    assert "found text" in third["reason"]
    assert (plan["write"], plan["replace"], plan["skip"], plan["fail"]) == (2, 0, 0, 1)
    # The run does what was said.
    done, result, _ = unveil(*call, "--json")
    assert done == code
    assert [(file["output"], file["status"]) for file in result["files"]] == [
        (file["output"], {"write": "ok", "fail": "failed"}[file["action"]]) for file in plan["files"]
    ]
    before = everything(tmp_path)
    for options, actions in (
        ((), ["skip", "skip", "fail"]),
        (("--skip-existing",), ["skip", "skip", "fail"]),
        (("--skip-existing", "--format", "png"), ["replace", "write", "fail"]),
        (("--overwrite",), ["replace", "replace", "fail"]),
    ):
        _, plan, _ = unveil(*call, "--dry-run", "--json", *options)
        assert [file["action"] for file in plan["files"]] == actions, options
    assert everything(tmp_path) == before


def test_a_fit_tells_its_time_and_text_goes_to_stderr(unveil, tmp_path, photos):
    (photos / "c.png").unlink()
    call = ("denoise", photos, "--fit", "--out", tmp_path / "out", "--dry-run")
    code, plan, _ = unveil(*call, "--minutes", 2, "--json")
    assert (code, [file["seconds"] for file in plan["files"]]) == (0, [120, 120])
    code, value, told = unveil(*call, "--minutes", 2)
    assert (code, value) == (0, None)
    assert "a.png (30x40 RGB, 8 bits, about 2.0 min) -> " in told
    assert "b.tif (60x50 grey, 16 bits" in told
    assert "; about 4.0 min of denoising in this process; nothing was written" in told
    assert not (tmp_path / "out").exists()


def test_times_are_said_as_people_say_them():
    assert [spoken(value) for value in (0.04, 9.96, 42, 240, 7200)] == ["0.0 s", "10.0 s", "42 s", "4.0 min", "2.0 h"]
