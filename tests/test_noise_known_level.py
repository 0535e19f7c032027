"""Which noise level is taken for a raw file: stated, measured, or none with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from noise.known_level import known_level
from noise.shot_read import NoiseLevel
from raw.files import read_raw
from raw.raw_file import RawFile
from tests.raw_scene import write_scene

LEVEL = NoiseLevel(shot=4e-3, read=1e-4)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> RawFile:
    from skimage import data

    path = tmp_path_factory.mktemp("raw") / "a.dng"
    write_scene(path, data.astronaut(), LEVEL)
    return read_raw(path)


def test_a_stated_profile_is_taken(raw: RawFile) -> None:
    found = known_level(raw)
    assert found.source == "noise profile"
    assert (found.level.shot, found.level.read) == pytest.approx((LEVEL.shot, LEVEL.read), rel=1e-6)
    assert found.note == ""


def test_without_a_profile_the_picture_is_measured(raw: RawFile) -> None:
    found = known_level(replace(raw, noise_profile=None))
    assert found.source == "single image"
    for light in (0.02, 0.2):
        true = LEVEL.shot * light + LEVEL.read
        assert found.level.shot * light + found.level.read == pytest.approx(true, rel=0.15)


def test_a_profile_that_the_picture_contradicts_is_not_believed(raw: RawFile) -> None:
    found = known_level(replace(raw, noise_profile=((4e-4, 1e-6),) * 3))
    assert found.source == "single image"
    assert "NoiseProfile states 0.08" in found.note
    assert found.level.shot == pytest.approx(LEVEL.shot, rel=0.2)


def test_what_tells_no_noise_says_why(raw: RawFile) -> None:
    with pytest.raises(ValueError, match="expected a Bayer mosaic, found linear"):
        known_level(replace(raw, kind="linear"))
    assert raw.mosaic is not None
    small = replace(raw, mosaic=raw.mosaic[:32, :32], noise_profile=None)
    with pytest.raises(ValueError, match="fewer than 64x64 pixels"):
        known_level(small)
    # Codes that lie further apart in lights: a tone curve, so that no line holds.
    companded = np.where(raw.mosaic > 5000, raw.mosaic // 16 * 16, raw.mosaic // 4 * 4).astype(np.uint16)
    with pytest.raises(ValueError, match="not linear"):
        known_level(replace(raw, mosaic=companded, noise_profile=None))


def test_a_profile_serves_where_nothing_can_be_measured(raw: RawFile) -> None:
    assert raw.mosaic is not None
    found = known_level(replace(raw, mosaic=raw.mosaic[:32, :32]))
    assert found.source == "noise profile"


SHARED = Path(__file__).parents[2] / "shared" / "data" / "raw"


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")
def test_real_cameras_are_measured_or_refused_with_the_reason() -> None:
    found = known_level(read_raw(SHARED / "canon_kissx4_bayer14.dng"))
    assert found.level.shot == pytest.approx(1.57e-4, rel=0.05)
    with pytest.raises(ValueError, match="companded"):
        known_level(read_raw(SHARED / "kodak_dc50_0008.kdc"))
