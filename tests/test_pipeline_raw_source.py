"""Samples from raw files: one geometry for every CFA pattern and turn, the file's noise with each, no picture read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from noise.shot_read import NoiseLevel
from noise.stabilised import deviation, restore
from pipeline.config import load_config
from pipeline.data.held_out import MEASURE_BATCH
from pipeline.data.raw_source import Mosaic, RawBatchSource, cut_cells, turned
from pipeline.data.source import SourceSpec, batch_source
from pipeline.errors import UserError
from pipeline.training.intake import data_card, read_source
from raw.cfa import CFA_PATTERNS, CFAPattern, plane_sites
from raw.dng import write_dng
from tests.raw_scene import write_scene

LEVEL = NoiseLevel(shot=4e-3, read=2e-5)
SMALL = ["data.crop=24", "training.batch=4", "cluster.workers=0"]


def config_for(folder: Path, *overrides: str):
    return load_config(preset="raw", overrides=[*SMALL, *overrides], data=str(folder))


def spec_for(folder: Path, *overrides: str) -> SourceSpec:
    return read_source(config_for(folder, *overrides), lambda *_: None)[0]


@pytest.fixture
def raws(tmp_path: Path, photo: np.ndarray) -> Path:
    folder = tmp_path / "raws"
    folder.mkdir()
    write_scene(folder / "a.dng", photo, LEVEL, pattern="GRBG", size=(161, 173))
    write_scene(folder / "b.dng", photo, NoiseLevel(shot=1e-3, read=1e-5), pattern="BGGR", model="Camera Y")
    return folder


def ramp(pattern: CFAPattern) -> Mosaic:
    """A mosaic whose pixel (r, c) of colour k holds 1000 k + 7 r + 3 c, green being one colour."""
    rows, columns = np.mgrid[:64, :64]
    pixels = 7 * rows + 3 * columns
    for colour, (row, column) in zip((0, 1, 1, 2), plane_sites(pattern), strict=True):
        pixels[row::2, column::2] += 1000 * colour
    return Mosaic(pixels=pixels.astype(np.uint16), pattern=pattern, black_levels=(0.0,) * 4, white_level=10000)


@pytest.mark.parametrize("pattern", CFA_PATTERNS)
def test_every_pattern_and_every_turn_lies_as_rggb(pattern: CFAPattern) -> None:
    mosaic = ramp(pattern)
    slopes = set()
    for seed in range(64):
        planes = turned(cut_cells(mosaic, 3, 5, 17, 17), np.random.default_rng(seed))
        assert planes.shape == (4, 16, 16)
        red, green_r, green_b, blue = np.rint(planes * 10000).astype(int)
        assert (red < 1000).all()
        assert all(((green >= 1000) & (green < 2000)).all() for green in (green_r, green_b))
        assert (blue >= 2000).all()
        down, across = red[1, 0] - red[0, 0], red[0, 1] - red[0, 0]
        # A step to the next cell is two pixels: Gr lies half a step to the right of R, Gb half a step below.
        np.testing.assert_array_equal(green_r - 1000, red + across // 2)
        np.testing.assert_array_equal(green_b - 1000, red + down // 2)
        np.testing.assert_array_equal(blue - 2000, red + (across + down) // 2)
        slopes.add((down, across))
    # Mirrored both ways and transposed: all eight turns came up.
    assert slopes == {(a, b) for s in (1, -1) for t in (1, -1) for a, b in ((14 * s, 6 * t), (6 * s, 14 * t))}


def test_samples_are_a_function_of_seed_and_position_and_bring_their_noise(raws: Path) -> None:
    spec = spec_for(raws, "trust.every=0")
    first, again = (batch_source(spec).batch(3, range(8)) for _ in range(2))
    assert isinstance(batch_source(spec), RawBatchSource)
    for name in ("noisy", "seeds", "noise", "levels"):
        np.testing.assert_array_equal(first[name], again[name])
    np.testing.assert_array_equal(batch_source(spec).batch(3, [5])["noisy"][0], first["noisy"][5])
    assert first["noisy"].shape == (8, 4, 24, 24)
    assert first["noisy"].dtype == first["noise"].dtype == np.float32
    assert not np.array_equal(first["noisy"], batch_source(spec).batch(4, range(8))["noisy"])
    # Two files, two levels, each told on the curve: no shot noise, one deviation.
    expected = {np.float32(deviation(level) ** 2) for level in (LEVEL, NoiseLevel(shot=1e-3, read=1e-5))}
    assert {np.float32(read) for read in first["noise"][:, 1]} == expected
    assert not first["noise"][:, 0].any()


def test_the_dark_keeps_both_signs(tmp_path: Path) -> None:
    dark = np.random.default_rng(0).normal(2048, 30, (128, 128)).round().astype(np.uint16)
    level = NoiseLevel(shot=1e-3, read=(30 / 12952) ** 2)
    write_dng(
        tmp_path / "dark.dng", dark, black_levels=(2048,) * 4, white_level=15000, noise=[(level.shot, level.read)]
    )
    noisy = restore(batch_source(spec_for(tmp_path, "trust.every=0")).batch(0, range(4))["noisy"], level)
    assert noisy.min() < -2 * 30 / 12952
    assert abs(noisy.mean()) < 3 * 30 / 12952 / np.sqrt(noisy.size)


def test_linear_samples_are_the_numbers_of_the_file(raws: Path) -> None:
    spec = spec_for(raws, "trust.every=0", "data.raw_curve=linear")
    batch = batch_source(spec).batch(0, range(8))
    assert {tuple(pair) for pair in batch["noise"]} == {
        (np.float32(4e-3), np.float32(2e-5)),
        (np.float32(1e-3), np.float32(1e-5)),
    }
    numbers = batch["noisy"][:, 0] * (15000 - 2048)
    np.testing.assert_allclose(numbers, np.rint(numbers), atol=2e-3)


def test_a_network_without_a_level_map_is_not_told_the_noise(raws: Path) -> None:
    batch = batch_source(spec_for(raws, "network.level_map=false", "trust.every=0")).batch(0, range(2))
    assert "noise" not in batch


def test_held_out_cells_are_never_trained_on(raws: Path) -> None:
    spec = spec_for(raws, "trust.held_out=0.2")
    source = batch_source(spec)
    assert spec.held_out
    measured = source.batch(MEASURE_BATCH, range(4))
    assert measured["noise"].shape == (len(measured["noisy"]), 2)
    for index in range(40):
        for position in range(4):
            random = np.random.default_rng([spec.seed, index, position])
            path, top, left = source._place(random, spec.crop + 1)
            assert not any(area.touches(top, left, spec.crop + 1) for area in spec.held_out if area.file == path)


def test_the_manifest_and_the_card_tell_cameras_and_noise(raws: Path) -> None:
    (raws / "broken.dng").write_bytes((raws / "a.dng").read_bytes()[:3000])
    (raws / "picture.png").write_bytes(b"\x89PNG")
    write_dng(raws / "linear.dng", np.full((64, 64, 3), 100, np.uint16), pattern=None)
    config, said = config_for(raws), []
    _, manifest = read_source(config, lambda _, value: said.append(value["text"]))
    assert manifest["files"] == ["a.dng", "b.dng"]
    assert any(line.startswith("left out: 1 files that are no raw files") for line in said)
    skipped = "\n".join(manifest["skipped"])
    assert "broken.dng" in skipped
    assert "linear.dng: expected a Bayer mosaic, found linear" in skipped
    assert "noise: Made Camera X, ISO 1600: shot 0.004, read 2e-05 (1 file; noise profile)" in said
    card = data_card(config, manifest)
    assert (card["domain"], card["clean_images_read"]) == ("raw", False)
    assert card["raw"]["cameras"] == ["Made Camera X", "Made Camera Y"]
    assert card["raw"]["shot"] == pytest.approx([1e-3, 4e-3])
    assert card["raw"]["curve"] == "stabilised"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("network.channels=3",), r"network.channels: expected 4 .* found 3"),
        (("noise.kind=gaussian",), "noise.kind: expected 'camera' with data.domain 'raw', found 'gaussian'"),
        (("method.kind=masked",), "masked"),
        (("data.domain=display", "network.channels=3"), "network.level_map: expected false"),
        (("data.crop=90",), "expected more than data.crop"),
    ],
)
def test_settings_that_do_not_go_together_are_one_line(raws: Path, overrides, message) -> None:
    with pytest.raises(UserError, match=message):
        spec_for(raws, *overrides)


def test_a_folder_without_raw_files_is_one_line(photo_folder: Path) -> None:
    with pytest.raises(UserError, match=r"expected camera raw files .* found 3 other files"):
        spec_for(photo_folder)
