"""The noise of raw files: every kind of sensor, the border, the profile, and what contradicts what."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from noise.raw_noise import measure_raw, measure_raw_file, profile_line
from noise.raw_planes import code_steps, raw_planes
from raw.cfa import CFA_PATTERNS
from raw.files import RAW_SUFFIXES, read_raw
from raw.raw_file import RawFile
from tests.xtrans import XTRANS

SHARED = Path(__file__).parents[2] / "shared" / "data" / "raw"
SHOT, READ = 2e-3, 2e-5


def sensor(clean, seed=0, *, white=4095, black=(128.0, 128.0, 128.0, 128.0), shot=SHOT, read=READ):
    """Integers of a 12-bit sensor that sees ``clean`` (H, W)."""
    noise = np.sqrt(shot * clean + read) * np.random.default_rng(seed).standard_normal(clean.shape)
    return np.rint((clean + noise) * (white - black[0]) + black[0]).clip(0, white).astype(np.uint16)


def steps(shape=(960, 960)):
    rows, columns = shape[0] // 6, shape[1] // 6
    levels = np.linspace(0.005, 0.8, 36).reshape(6, 6)
    return np.repeat(np.repeat(levels, rows, 0), columns, 1)


def raw_file(mosaic, **fields):
    made = {
        "kind": "bayer",
        "mosaic": mosaic,
        "pattern": "RGGB",
        "black_levels": (128.0,) * 4,
        "white_level": 4095,
        "white_balance": (1.0, 1.0, 1.0),
        "rgb_cam": np.eye(3),
        "flip": 0,
        "iso": None,
        "bits": 12,
        "saturation": 4095,
    }
    return RawFile(**(made | fields))


@pytest.mark.parametrize("pattern", CFA_PATTERNS)
def test_every_plane_of_a_bayer_sensor_has_the_sensor_s_line(pattern):
    found = measure_raw_file(raw_file(sensor(steps()), pattern=pattern))
    assert found.names == ("R", "Gr", "Gb", "B")
    for line in found.lines:
        assert line.shot == pytest.approx(SHOT, rel=0.1)
    assert found.pooled.shot == pytest.approx(SHOT, rel=0.03)
    assert found.pooled.read == pytest.approx(READ + (1 / 3967) ** 2 / 12, rel=0.1)
    assert max(map(abs, (*found.horizontal, *found.vertical))) < 0.1
    np.testing.assert_allclose(found.channel_correlation, np.eye(4), atol=0.05)
    assert found.flat
    assert found.notes == ()


@pytest.mark.parametrize(("kind", "cfa"), [("xtrans", XTRANS), ("mono", np.ones((1, 1), np.uint8))])
def test_other_mosaics_are_measured_by_their_sites(kind, cfa):
    raw = raw_file(sensor(steps((1152, 1152))), kind=kind, pattern=None, cfa=cfa)
    found = measure_raw_file(raw)
    assert found.names == (("grey",) if kind == "mono" else ("R", "R", "G", "G", "B", "B"))
    assert found.pooled.shot == pytest.approx(SHOT, rel=0.06)


def test_interpolated_colours_are_measured_in_flat_patches_and_said_to_be_no_sensor_s():
    from scipy.ndimage import uniform_filter

    white = np.random.default_rng(0).standard_normal((512, 512, 3))
    noise = 0.01 * uniform_filter(white, (2, 2, 1)) * 2
    level = np.repeat(np.linspace(0.1, 0.8, 8), 64)[:, None, None]
    linear = np.rint((level + noise).clip(0, 1) * 65535).astype(np.uint16)
    found = measure_raw_file(raw_file(None, kind="linear", linear=linear, pattern=None, white_level=65535, bits=16))
    assert [line.method for line in found.lines] == ["flat patches"] * 3
    # The noise does not depend on the level: 1e-4 everywhere.
    variances = [point[1] for line in found.lines for point in line.curve]
    assert np.median(variances) == pytest.approx(1e-4, rel=0.15)
    assert found.horizontal[0] == pytest.approx(0.5, abs=0.1)
    assert "not the sensor's" in found.notes[0]


def border_of(seed=1, read=READ, black=128.0, shape=(960, 60)):
    noise = math.sqrt(read) * 3967 * np.random.default_rng(seed).standard_normal(shape)
    return np.rint(noise + black).clip(0).astype(np.uint16)


def test_a_border_tells_the_read_noise_of_a_picture_without_shadows():
    bright = raw_file(sensor(0.3 + 0.5 * steps()), masked=border_of(), masked_pattern="RGGB")
    alone = measure_raw_file(replace(bright, masked=None, masked_pattern=None))
    assert alone.pooled.read is None
    found = measure_raw_file(bright)
    assert found.pooled.read == pytest.approx(READ, rel=0.05)
    assert found.pooled.method == "masked border"
    assert "read noise from the masked border" in found.notes


def test_a_border_that_contradicts_the_picture_is_reported_and_does_not_overrule_it():
    noisier = raw_file(sensor(steps()), masked=border_of(read=3 * READ), masked_pattern="RGGB")
    found = measure_raw_file(noisier)
    assert found.pooled.read == pytest.approx(READ, rel=0.1)
    assert any(note.startswith("masked border: 3.") or note.startswith("masked border: 2.9") for note in found.notes)


def test_a_wrong_black_level_is_reported():
    found = measure_raw_file(raw_file(sensor(steps()), masked=border_of(black=120.0), masked_pattern="RGGB"))
    # 57600 pixels of deviation 17.7: the mean is known to 0.07.
    assert found.notes[0].startswith(("black level: 128.0 in the file, 119.", "black level: 128.0 in the file, 120."))


def test_a_profile_is_compared_with_what_is_measured():
    profile = ((2 * SHOT, 2 * READ),) * 3
    found = measure_raw_file(raw_file(sensor(steps()), noise_profile=profile))
    assert any("NoiseProfile has 2.0" in note or "NoiseProfile has 1.9" in note for note in found.notes)
    assert found.pooled.shot == pytest.approx(SHOT, rel=0.03)
    assert profile_line(profile).shot == pytest.approx(2 * SHOT)


def test_channels_of_unequal_gain_are_reported():
    mosaic = sensor(steps()).astype(np.float64)
    mosaic[::2, ::2] = (mosaic[::2, ::2] - 128) * 1.5 + 128  # digital gain on red
    found = measure_raw_file(raw_file(np.rint(mosaic).clip(0, 4095).astype(np.uint16)))
    assert any(note.startswith("shot differs by channel (R 1.") for note in found.notes)


@pytest.mark.parametrize("bits", [8, 12])
def test_companded_raws_are_refused(bits):
    # A square-root curve in 8 bits, kept as such or spread over 12 bits by a table.
    clean = steps()
    noisy = clean + np.sqrt(SHOT * clean + READ) * np.random.default_rng(0).standard_normal(clean.shape)
    codes = np.rint(255 * np.sqrt(noisy.clip(0, 1)))
    spread = codes if bits == 8 else np.rint(np.square(codes / 255) * 4095)
    white = 2**bits - 1
    raw = raw_file(spread.astype(np.uint16), black_levels=(0.0,) * 4, white_level=white, saturation=white, bits=bits)
    found = measure_raw_file(raw)
    assert found.pooled.shot is None
    assert found.pooled.read is None
    assert all(line.note.startswith("not linear") for line in found.lines)


def test_eight_bits_are_refused_however_linear_they_look():
    mosaic = sensor(steps(), white=255, black=(0.0,) * 4)
    raw = raw_file(mosaic, black_levels=(0.0,) * 4, white_level=255, saturation=255, bits=8)
    found = measure_raw_file(raw)
    assert found.pooled.shot is None
    assert "8 bits: cameras store these after a tone curve" in found.notes


def test_steps_between_codes_are_found_where_pixels_suffice():
    rng = np.random.default_rng(0)
    even = rng.integers(100, 1000, 500_000).astype(np.uint16)
    assert code_steps(even) == (1, 1)
    assert code_steps(4 * even) == (pytest.approx(4, rel=0.1), pytest.approx(4, rel=0.1))
    squares = np.square(rng.integers(10, 200, 500_000)).astype(np.uint16)
    low, high = code_steps(squares)
    assert high > 2 * low
    assert code_steps(even[:200]) == (1, 1)


def test_files_without_pixels_or_too_small_are_not_measured():
    assert raw_planes(raw_file(None, kind="other", pattern=None)) is None
    assert measure_raw_file(raw_file(np.zeros((40, 40), np.uint16))) is None


def test_planes_are_checked():
    with pytest.raises(ValueError, match="with 4 names, got shape"):
        measure_raw(np.zeros((3, 64, 64)))


@pytest.mark.parametrize(
    ("name", "shot", "read"),
    [
        # "Measured here" of raw-and-isp.md section 4, a quick fit; D30: its picture is texture, its border tells read.
        ("canon_kissx4_bayer14.dng", 1.57e-4, 7.4e-7),
        ("canon_s40_0101.crw", 1.2e-4, 5.6e-7),
        ("canon_eos_d30.crw", 3e-5, 1.4e-6),
    ],
)
def test_real_files_agree_with_what_is_known_of_them(name, shot, read):
    if not (SHARED / name).exists():
        pytest.skip("no raw files beside the checkout")
    found = measure_raw_file(read_raw(SHARED / name))
    assert found.pooled.shot == pytest.approx(shot, rel=0.3)
    assert found.pooled.read == pytest.approx(read, rel=0.15)


def test_no_real_file_stops_the_measurement():
    for path in sorted(SHARED.glob("*")):
        if path.suffix in RAW_SUFFIXES:
            found = measure_raw_file(read_raw(path))
            assert found is not None
            assert all(low <= high for line in found.lines for low, high in (line.shot_interval, line.read_interval))
