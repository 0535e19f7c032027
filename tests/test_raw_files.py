"""Raw files: a DNG made here is read back to the bit, real files if present; broken ones are refused."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from raw.files import RAW_SUFFIXES, _pattern_of, _visible_indices, read_raw, render_srgb

SHARED = Path(__file__).parents[2] / "shared"
# Codes of TIFF tag types.
BYTE, ASCII, SHORT, LONG, RATIONAL, SRATIONAL = 1, 2, 3, 4, 5, 10


def write_dng(path, mosaic, *, pattern="RGGB", black=(64,) * 4, white=1023, active=None):
    """A minimal CFA DNG; ``black`` is in reading order, ``active`` is top, left, bottom, right."""
    matrix = (8606, -2573, -949, -8237, 15489, 2974, -2649, 3076, 9100)
    tags = [
        (33421, SHORT, 2, (2, 2), True),
        (33422, BYTE, 4, bytes("RGB".index(color) for color in pattern), True),
        (50706, BYTE, 4, (1, 4, 0, 0), True),
        (50708, ASCII, None, "Made Camera", True),
        (50710, BYTE, 3, (0, 1, 2), True),
        (50711, SHORT, 1, 1, True),
        (50713, SHORT, 2, (2, 2), True),
        (50714, SHORT, 4, black, True),
        (50717, LONG, 1, white, True),
        (50721, SRATIONAL, 9, tuple(part for value in matrix for part in (value, 10000)), True),
        (50728, RATIONAL, 3, (1, 2, 1, 1, 2, 3), True),
        (50778, SHORT, 1, 21, True),
    ]
    if active:
        tags.append((50829, LONG, 4, active, True))
    tifffile.imwrite(path, mosaic, photometric=32803, extratags=tags, metadata=None, rowsperstrip=mosaic.shape[0])


def counting(height=48, width=64):
    return (np.arange(height * width, dtype=np.uint16).reshape(height, width) % 960) + 64


@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_a_mosaic_is_read_back_to_the_bit(tmp_path, pattern):
    path = tmp_path / "made.dng"
    write_dng(path, counting(), pattern=pattern)
    raw = read_raw(path)
    assert raw.mosaic.dtype == np.uint16
    np.testing.assert_array_equal(raw.mosaic, counting())
    assert raw.pattern == pattern
    assert raw.white_level == 1023
    assert raw.white_balance == pytest.approx((2.0, 1.0, 1.5))
    assert raw.flip == 0
    assert raw.iso is None


def test_black_levels_follow_their_colour_not_their_position(tmp_path):
    path = tmp_path / "made.dng"
    write_dng(path, counting(), pattern="GBRG", black=(10, 20, 30, 40))
    # GBRG holds Gb, B in its first row and R, Gr in its second.
    assert read_raw(path).black_levels == (30, 40, 10, 20)


def test_a_masked_border_is_left_out(tmp_path):
    path = tmp_path / "made.dng"
    sensor = counting(50, 66)
    write_dng(path, sensor, active=(2, 4, 50, 66))
    raw = read_raw(path)
    np.testing.assert_array_equal(raw.mosaic, sensor[2:50, 4:66])
    assert raw.pattern == "RGGB"


@pytest.mark.parametrize(
    ("active", "pattern"), [((1, 0, 49, 64), "GBRG"), ((0, 1, 48, 65), "GRBG"), ((1, 1, 49, 65), "BGGR")]
)
def test_an_odd_margin_moves_the_pattern(tmp_path, active, pattern):
    path = tmp_path / "made.dng"
    sensor = counting(50, 66)
    write_dng(path, sensor, pattern="RGGB", active=active)
    raw = read_raw(path)
    # A DNG's pattern starts at its active area; LibRaw starts at the next even row and column.
    top, left = 2 * active[0], 2 * active[1]
    np.testing.assert_array_equal(raw.mosaic, sensor[top : active[2], left : active[3]])
    assert raw.pattern == pattern


@pytest.mark.parametrize(
    ("top", "left", "pattern"),
    [(0, 0, "RGGB"), (1, 0, "GBRG"), (0, 1, "GRBG"), (1, 1, "BGGR"), (27, 152, "GBRG")],
)
def test_a_pattern_given_from_the_sensor_corner_is_moved_to_the_visible_corner(top, left, pattern):
    # LibRaw keeps odd margins of some formats, which no file made here can have.
    raw = SimpleNamespace(
        raw_pattern=np.array([[0, 1], [3, 2]], dtype=np.uint8),
        sizes=SimpleNamespace(top_margin=top, left_margin=left),
    )
    assert _pattern_of(_visible_indices(raw)) == pattern


def test_neutral_is_neutral_through_the_colour_matrix(tmp_path):
    path = tmp_path / "made.dng"
    write_dng(path, counting())
    np.testing.assert_allclose(read_raw(path).rgb_cam.sum(axis=1), 1, atol=1e-5)


def test_a_neutral_raw_renders_grey_at_the_srgb_value_of_its_level(tmp_path):
    path = tmp_path / "made.dng"
    mosaic = np.zeros((48, 64), dtype=np.uint16)
    level = 0.2  # of green; red and blue reach the sensor weaker by their gains
    for site, gain in {(0, 0): 2.0, (0, 1): 1.0, (1, 0): 1.0, (1, 1): 1.5}.items():
        mosaic[site[0] :: 2, site[1] :: 2] = round(64 + level / gain * 959)
    write_dng(path, mosaic)
    image = render_srgb(path)
    assert image.shape == (48, 64, 3)
    assert image.dtype == np.uint16
    expected = 65535 * (1.055 * level ** (1 / 2.4) - 0.055)
    # One raw step is 1/959 of white, times a gain of 2, times the curve's slope of about 1.
    np.testing.assert_allclose(image[8:-8, 8:-8], expected, atol=65535 * 2 / 959)


BROKEN = {
    "empty": (lambda _whole: b"", "truncated or empty"),
    "text": (lambda _whole: b"not a picture\n" * 50, "Unsupported file format or not RAW file"),
    "cut": (lambda whole: whole[: len(whole) // 2], "truncated or empty"),
}


@pytest.mark.parametrize("reader", [read_raw, render_srgb])
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_refused_in_one_line_with_its_path(tmp_path, kind, reader):
    whole = tmp_path / "whole.dng"
    write_dng(whole, counting())
    damage, reason = BROKEN[kind]
    path = tmp_path / f"{kind}.dng"
    path.write_bytes(damage(whole.read_bytes()))
    with pytest.raises(ValueError, match=reason) as caught:
        reader(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.dng", tmp_path):
        with pytest.raises(ValueError, match="no such file"):
            read_raw(path)


def test_suffixes_are_lower_case_with_a_dot():
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in RAW_SUFFIXES)


@pytest.mark.parametrize(
    "name", ["canon_eos_d30.crw", "canon_kissx4_bayer14.dng", "canon_s40_0101.crw", "canon_s40_0113.crw"]
)
def test_a_real_file_has_the_metadata_that_libraw_renders_with(name):
    path = SHARED / "data" / "raw" / name
    oracle = SHARED / "oracles" / "libraw_half_linear.npz"
    if not (path.exists() and oracle.exists()):
        pytest.skip(f"{name} is not part of the repository")
    raw = read_raw(path)
    data = {key: np.load(oracle)[f"{path.stem}_{key}"] for key in ("wb", "black", "white", "pattern", "rgb_cam")}
    assert raw.pattern == "".join("RGBG"[index] for index in data["pattern"].flat)
    assert raw.black_levels == tuple(data["black"][[0, 1, 3, 2]])
    assert raw.white_level == data["white"]
    np.testing.assert_allclose(raw.white_balance, data["wb"][:3] / data["wb"][1], rtol=1e-6)
    np.testing.assert_allclose(raw.rgb_cam, data["rgb_cam"], atol=1e-6)


def test_iso_of_a_real_file_is_read():
    path = SHARED / "data" / "raw" / "canon_eos_d30.crw"
    if not path.exists():
        pytest.skip(f"{path.name} is not part of the repository")
    assert read_raw(path).iso == 100


@pytest.mark.parametrize(
    ("name", "size"), [("canon_6d_lossy_linear.dng", (816, 1224)), ("lg_g4_linear.dng", (338, 600))]
)
def test_a_linear_dng_has_no_mosaic_but_renders(name, size):
    path = SHARED / "data" / "raw" / name
    if not path.exists():
        pytest.skip(f"{name} is not part of the repository")
    raw = read_raw(path)
    assert raw.mosaic is None
    assert raw.pattern is None
    assert render_srgb(path).shape == (*size, 3)
