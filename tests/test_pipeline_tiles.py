"""What the command line says and decides about tiles, memory and threads."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models import InferenceSpec, UNetSpec, build, save
from pipeline.data import tiff_regions
from pipeline.data.image_types import Metadata
from pipeline.data.images import Image, read_image, write_image
from pipeline.errors import UserError
from pipeline.inference import tile_plan
from pipeline.inference.denoiser import NetworkDenoiser
from pipeline.inference.threads import usable_cpus
from pipeline.inference.verify_tiles import verify_tiles


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A network of which every weight counts."""
    shape = UNetSpec(width=6, depth=2, convolutions=1, residual=False)
    network = build(shape).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.15, generator=generator)
    save(tmp_path / "weights", network, spec=shape, inference=InferenceSpec(), card={})
    return tmp_path / "weights"


@pytest.fixture
def picture(tmp_path: Path, photo: np.ndarray) -> Path:
    write_image(tmp_path / "in.tif", Image(pixels=photo[:200, :180], metadata=Metadata()))
    return tmp_path / "in.tif"


def test_tiles_are_verified_and_a_halo_that_is_too_small_is_found(model, picture, monkeypatch) -> None:
    denoiser = NetworkDenoiser(model, "cpu")
    found = verify_tiles(denoiser, picture)
    assert found.area == (0, 200, 0, 180)
    assert found.largest <= 1e-5
    assert found.equal
    assert "200x180 pixels in tiles of 100x90" in found.told()
    # The network sees 24 pixels far; with a halo of 2 the tiles must differ, or the check checks nothing.
    monkeypatch.setattr("models.inference._tile_halo", lambda *_: 2)
    broken = verify_tiles(denoiser, picture)
    assert broken.largest > 1e-3
    assert not broken.equal
    assert "expected at most 1e-05" in broken.told()


def test_of_a_large_picture_the_surroundings_of_a_corner_are_taken(model, tmp_path, photo, monkeypatch) -> None:
    monkeypatch.setattr("pipeline.inference.verify_tiles._WHOLE_PIXELS", 0)
    monkeypatch.setattr(tile_plan, "MOST_BYTES", 60_000_000)
    monkeypatch.setattr(tiff_regions, "SMALLEST", 0)
    pixels = np.tile(photo, (4, 4, 1))
    write_image(tmp_path / "a.tif", Image(pixels=pixels))
    found = verify_tiles(NetworkDenoiser(model, "cpu"), tmp_path / "a.tif")
    top, bottom, left, right = found.area
    assert found.equal
    assert (bottom - top) * (right - left) < 300 * 300
    assert 0 < (top + bottom) // 2 < 1024


def test_a_network_without_a_finite_reach_is_not_held_to_it(model, picture) -> None:
    denoiser = NetworkDenoiser(model, "cpu")
    denoiser.network.reach = None
    found = verify_tiles(denoiser, picture)
    assert found.equal
    assert not found.finite
    assert "no bound" in found.told()
    assert not dataclasses.replace(found, finite=True, largest=0.1).equal


def test_the_command_verifies_and_writes_nothing(unveil, model, picture, tmp_path) -> None:
    code, value, _ = unveil("denoise", picture, "--model", model, "--out", tmp_path / "out", "--verify-tiles", "--json")
    assert code == 0
    assert value is not None
    assert value["equal"] is True
    assert value["verified"][0]["largest"] <= 1e-5
    assert not (tmp_path / "out").exists()
    (tmp_path / "bad.png").write_text("no picture")
    arguments = (
        "denoise",
        picture,
        tmp_path / "bad.png",
        "--model",
        model,
        "--out",
        tmp_path / "out",
        "--verify-tiles",
    )
    code, _, stderr = unveil(*arguments)
    assert code == 3
    assert "bad.png" in stderr
    assert "equal bytes (ok)" in stderr.replace("\n", " ")


def test_the_command_fails_where_tiles_differ(unveil, model, picture, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("models.inference._tile_halo", lambda *_: 2)
    code, value, _ = unveil("denoise", picture, "--model", model, "--out", tmp_path / "out", "--verify-tiles", "--json")
    assert code == 1
    assert value is not None
    assert value["equal"] is False


@pytest.mark.parametrize("side", ["0", "15", "1e3", "-64", "70000", "large", "٣٢"])
def test_a_side_that_is_none_is_one_line(unveil, picture, tmp_path, side) -> None:
    code, _, stderr = unveil("denoise", picture, "--model", "m", "--out", tmp_path / "out", f"--tile={side}")
    assert code == 2
    assert "--tile: expected auto or a whole number from 16 to 65536" in stderr.replace("\n", " ")


def test_tiles_are_for_models(unveil, picture, tmp_path) -> None:
    code, _, stderr = unveil("denoise", picture, "--fit", "--tile", 64, "--out", tmp_path / "out")
    assert code == 2
    assert "expected with --model only" in stderr.replace("\n", " ")


def test_any_side_gives_the_same_file_and_threads_are_told(unveil, model, picture, tmp_path) -> None:
    outputs = []
    for side in ("auto", 64, 97):
        out = tmp_path / f"out{side}"
        code, value, _ = unveil("denoise", picture, "--model", model, "--out", out, "--tile", side, "--json")
        assert code == 0
        assert value is not None
        assert value["threads"] == torch.get_num_threads()
        outputs.append(read_image(out / "in.tif").pixels.astype(int))
    for other in outputs[1:]:
        assert np.abs(other - outputs[0]).max() <= 1
        assert np.mean(other != outputs[0]) < 1e-3


def test_a_raw_model_has_no_tiles_to_verify(model, picture) -> None:
    document = json.loads((model / "model.json").read_text())
    document["card"]["domain"] = "raw"
    (model / "model.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="for raw files"):
        verify_tiles(NetworkDenoiser(model, "cpu"), picture)


def test_cpus_that_a_control_group_pays_for_are_what_counts(tmp_path) -> None:
    every = len(os.sched_getaffinity(0))
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert usable_cpus(tmp_path) == every
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert usable_cpus(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert usable_cpus(tmp_path) == min(2, every)
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cpus(tmp_path) == every
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000\n")
    assert usable_cpus(tmp_path) == 1


@pytest.mark.parametrize(("given", "threads"), [("2", min(2, os.cpu_count() or 1)), (None, 1)])
def test_a_number_of_threads_that_was_given_stays(given, threads) -> None:
    code = (
        "import torch\nfrom pipeline.inference import threads\n"
        "threads.usable_cpus = lambda: 1\nprint(threads.choose_threads(), torch.get_num_threads())"
    )
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in variables}
    if given is not None:
        environment["OMP_NUM_THREADS"] = given
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split() == [str(threads)] * 2
