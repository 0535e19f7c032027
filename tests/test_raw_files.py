"""Raw files: a DNG made here is read back to the bit, real files if present; broken ones are refused."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from raw import dng
from raw.dng import dng_like
from raw.files import RAW_SUFFIXES, _gains, raw_size, read_raw, render_srgb
from raw.tiff_writer import Field
from tests.xtrans import XTRANS

SHARED = Path(__file__).parents[2] / "shared"
# Codes of TIFF tag types.
BYTE, ASCII, SHORT, LONG, RATIONAL, SRATIONAL, DOUBLE = 1, 2, 3, 4, 5, 10, 12
BAYER = np.array([[0, 1], [1, 2]])


def write_dng(
    path, mosaic, *, pattern="RGGB", black=(64,) * 4, black_cell=(2, 2), white=1023, active=None, extra=(), subifd=None
):
    """A minimal CFA DNG by tifffile, independent of ``raw.dng``.

    ``pattern`` is a name or a cell of colours; ``black`` is in reading order, ``active`` is top, left, bottom, right.
    With ``subifd`` the mosaic lies in a nested directory with those tags, behind a thumbnail with ``extra``.
    """
    cell = np.array(["RGB".index(color) for color in pattern]).reshape(2, 2) if isinstance(pattern, str) else pattern
    matrix = (8606, -2573, -949, -8237, 15489, 2974, -2649, 3076, 9100)
    camera = [
        (50706, BYTE, 4, (1, 4, 0, 0), True),
        (50708, ASCII, None, "Made Camera", True),
        (50721, SRATIONAL, 9, tuple(part for value in matrix for part in (value, 10000)), True),
        (50728, RATIONAL, 3, (1, 2, 1, 1, 2, 3), True),
        (50778, SHORT, 1, 21, True),
        *extra,
    ]
    sensor = [
        (33421, SHORT, 2, cell.shape, True),
        (33422, BYTE, cell.size, bytes(cell.ravel().tolist()), True),
        (50710, BYTE, 3, (0, 1, 2), True),
        (50711, SHORT, 1, 1, True),
        (50713, SHORT, 2, black_cell, True),
        (50714, SHORT, len(black), black, True),
        (50717, LONG, 1, white, True),
    ]
    if active:
        sensor.append((50829, LONG, 4, active, True))
    options = {"photometric": 32803, "metadata": None, "rowsperstrip": mosaic.shape[0]}
    if subifd is None:
        tifffile.imwrite(path, mosaic, extratags=camera + sensor, **options)
        return
    with tifffile.TiffWriter(path) as tiff:
        thumbnail = np.zeros((8, 8, 3), dtype=np.uint8)
        tiff.write(thumbnail, photometric="rgb", subfiletype=1, subifds=1, extratags=camera, metadata=None)
        tiff.write(mosaic, subfiletype=0, extratags=sensor + list(subifd), **options)


def counting(height=48, width=64):
    return (np.arange(height * width, dtype=np.uint16).reshape(height, width) % 960) + 64


@pytest.fixture
def path(tmp_path):
    return tmp_path / "made.dng"


@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_a_mosaic_is_read_back_to_the_bit(path, pattern):
    write_dng(path, counting(), pattern=pattern)
    raw = read_raw(path)
    assert raw.kind == "bayer"
    assert raw.mosaic.dtype == np.uint16
    np.testing.assert_array_equal(raw.mosaic, counting())
    assert raw.pattern == pattern
    assert "".join("RGB"[color] for color in raw.cfa.flat) == pattern
    assert (raw.height, raw.width) == raw.size == (48, 64)
    assert raw.linear is None
    assert raw.masked is None
    assert raw.white_level == raw.saturation == 1023
    assert raw.bits == 10
    assert raw.white_balance == pytest.approx((2.0, 1.0, 1.5))
    assert raw.flip == 0
    assert raw.iso is None
    assert raw.notes == ()


def test_black_levels_follow_their_colour_not_their_position(path):
    write_dng(path, counting(), pattern="GBRG", black=(10, 20, 30, 40))
    # GBRG holds Gb, B in its first row and R, Gr in its second.
    assert read_raw(path).black_levels == (30, 40, 10, 20)


@pytest.mark.parametrize("active", [(0, 0, 50, 66), (1, 0, 50, 66), (0, 1, 50, 66), (1, 1, 50, 66), (2, 3, 50, 66)])
def test_black_levels_follow_their_colour_behind_odd_margins(path, active):
    # DNG counts the pattern and the levels from the active area, so red is always the first of both.
    write_dng(path, counting(50, 66), black=(10, 20, 30, 40), active=active)
    assert read_raw(path).black_levels == (10, 20, 30, 40)


def test_a_masked_border_is_left_out(path):
    sensor = counting(50, 66)
    write_dng(path, sensor, active=(2, 4, 50, 66))
    raw = read_raw(path)
    np.testing.assert_array_equal(raw.mosaic, sensor[2:50, 4:66])
    assert raw.pattern == "RGGB"


@pytest.mark.parametrize(
    ("active", "pattern"), [((1, 0, 49, 64), "GBRG"), ((0, 1, 48, 65), "GRBG"), ((1, 1, 49, 65), "BGGR")]
)
def test_an_odd_margin_moves_the_pattern(path, active, pattern):
    sensor = counting(50, 66)
    write_dng(path, sensor, pattern="RGGB", active=active)
    raw = read_raw(path)
    # A DNG's pattern starts at its active area; LibRaw starts at the next even row and column.
    top, left = 2 * active[0], 2 * active[1]
    np.testing.assert_array_equal(raw.mosaic, sensor[top : active[2], left : active[3]])
    assert raw.pattern == pattern


@pytest.mark.parametrize(("top", "left"), [(0, 0), (13, 17), (6, 12), (7, 1)])
def test_an_xtrans_mosaic_has_its_cell_at_the_visible_origin(path, top, left):
    sensor = counting(90, 120)
    write_dng(path, sensor, pattern=XTRANS, active=(top, left, 90, 120))
    raw = read_raw(path)
    assert raw.kind == "xtrans"
    assert raw.pattern is None
    np.testing.assert_array_equal(raw.cfa, XTRANS)
    np.testing.assert_array_equal(raw.mosaic, sensor[top:, left:])


def test_black_levels_of_a_large_cell_are_means_of_their_colours(path):
    levels = 50 + 5 * XTRANS  # by colour, which LibRaw does not tell apart in cells of this size
    levels[0, 0] += 8  # one of eight reds
    write_dng(path, counting(), pattern=XTRANS, black=tuple(levels.ravel().tolist()), black_cell=(6, 6))
    assert read_raw(path).black_levels == (51, 55, 55, 60)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (np.array([[0, 0], [1, 2]]), "a 2x2 mosaic that is no Bayer pattern"),
        (XTRANS.clip(0, 1), "a 6x6 mosaic without all of red, green and blue"),
        (np.array([[0, 1, 0, 1], [1, 2, 1, 2], [2, 1, 2, 1], [1, 0, 1, 0]]), "a 4x4 mosaic of RGBG"),
    ],
)
def test_a_mosaic_of_no_known_pattern_is_refused_with_a_reason(path, cell, reason):
    write_dng(path, counting(), pattern=cell)
    raw = read_raw(path)
    assert raw.kind == "other"
    assert raw.mosaic is None
    assert raw.linear is None
    assert (raw.height, raw.width) == (48, 64)
    assert raw.notes[0].startswith(reason)


def test_a_grey_picture_with_a_pattern_of_black_levels_has_their_mean(path, monkeypatch):
    pattern = [Field(50713, SHORT, (1, 2)), Field(50714, SHORT, (10, 20))]
    monkeypatch.setattr(dng, "_black_fields", lambda *_: pattern)
    dng.write_dng(path, counting(), pattern=None, white_level=1023)
    file = read_raw(path)
    assert file.kind == "mono"
    assert file.black_levels == (15.0,) * 4


def test_the_files_own_colour_matrix_comes_before_libraws_table(path):
    # LibRaw knows this camera; a converter that wrote another matrix had its reasons.
    named = [(271, ASCII, None, "SONY", True), (272, ASCII, None, "ILCE-7M3", True)]
    write_dng(path, counting())
    expected = read_raw(path).rgb_cam
    write_dng(path, counting(), extra=named)
    raw = read_raw(path)
    assert (raw.make, raw.model) == ("SONY", "ILCE-7M3")
    np.testing.assert_allclose(raw.rgb_cam, expected, atol=1e-6)
    assert np.abs(expected - np.eye(3)).max() > 0.1


def test_neutral_is_neutral_through_the_colour_matrix(path):
    write_dng(path, counting())
    np.testing.assert_allclose(read_raw(path).rgb_cam.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("stored", "gains"),
    [
        ([1687, 1036, 1655, 1036], (1687 / 1036, 1, 1655 / 1036)),
        ([2.2, 1, 1.8, 0], (2.2, 1, 1.8)),
        ([1, 0.404, 0.684, 0], (1 / 0.404, 1, 0.684 / 0.404)),
        ([-1, 0.976, 1.007, 0], None),
        ([0, 1, 0, 0], None),
        ([0, 0, 0, 0], None),
        ([float("nan"), 1, 1, 1], None),
        ([float("inf"), 1, 1, 1], None),
        ([1e-30, 1, 1e30, 1], None),
    ],
)
def test_gains_are_relative_to_green_and_absent_ones_are_known(stored, gains):
    assert _gains(stored) == (gains if gains is None else pytest.approx(gains))


NOISE = (2e-4, 1e-6, 1e-4, 2e-6, 3e-4, 0.0)


def noise_tag(values):
    return (51041, DOUBLE, len(values), values, True)


def test_a_noise_profile_is_read_from_the_first_directory(path):
    write_dng(path, counting(), extra=[noise_tag(NOISE)])
    assert read_raw(path).noise_profile == ((2e-4, 1e-6), (1e-4, 2e-6), (3e-4, 0.0))


def test_a_noise_profile_is_read_from_a_nested_directory(path):
    write_dng(path, counting(), subifd=[noise_tag(NOISE)])
    raw = read_raw(path)
    np.testing.assert_array_equal(raw.mosaic, counting())
    assert raw.noise_profile == ((2e-4, 1e-6), (1e-4, 2e-6), (3e-4, 0.0))


def test_one_noise_pair_holds_for_all_colours(path):
    write_dng(path, counting(), extra=[noise_tag((1e-4, 1e-6))])
    assert read_raw(path).noise_profile == ((1e-4, 1e-6),) * 3


@pytest.mark.parametrize(
    "values",
    [(0.0, 1e-6), (-1e-4, 1e-6), (1e-4, -1e-6), (float("nan"), 1e-6), (1e-4, float("inf")), (3.0, 0.1), (1e-4,) * 4],
)
def test_a_noise_profile_that_cannot_be_is_left_out(path, values):
    write_dng(path, counting(), extra=[noise_tag(values)])
    assert read_raw(path).noise_profile is None


def dark(height, width, level, std, seed=0):
    noise = np.random.default_rng(seed).normal(level, std, (height, width))
    return np.rint(noise).clip(0).astype(np.uint16)


def scene(height=200, width=300, *, black=512, white=16383, std=8.0, border=20, darkest=0.0):
    """A sensor whose left ``border`` columns are masked, beside a gradient from ``darkest`` to three quarters."""
    sensor = dark(height, width, black, std)
    ramp = np.linspace(darkest, 0.75, width - border) * (white - black)
    sensor[:, border:] += np.rint(ramp).astype(np.uint16)
    return sensor


def test_the_masked_border_is_kept_without_the_pixels_that_light_reaches(path):
    sensor = scene()
    sensor[:, 18:20] += 30  # stray light
    write_dng(path, sensor, black=(512,) * 4, white=16383, active=(0, 20, 200, 300))
    raw = read_raw(path)
    np.testing.assert_array_equal(raw.masked, sensor[4:196, 2:16])
    assert raw.masked_pattern == "RGGB"
    assert raw.black_levels == (512,) * 4


@pytest.mark.parametrize(("side", "active"), [("right", (0, 0, 200, 279)), ("bottom", (0, 0, 181, 300))])
def test_the_phase_of_a_masked_border_is_told(path, side, active):
    sensor = scene(border=0)
    sensor[active[2] :, :] = dark(200 - active[2], 300, 512, 8, seed=1)
    sensor[:, active[3] :] = dark(200, 300 - active[3], 512, 8, seed=2)
    write_dng(path, sensor, black=(512,) * 4, white=16383, active=active)
    # 279 + 4 columns or 181 + 4 rows are odd: the first masked pixel has the other phase.
    assert read_raw(path).masked_pattern == {"right": "GRBG", "bottom": "GBRG"}[side]


def test_a_border_that_is_not_dark_is_no_masked_border(path):
    sensor = scene(border=0, darkest=0.1)
    sensor[:, :20] = dark(200, 20, 6000, 8, seed=1)  # even, but brighter than the darkest of the picture
    write_dng(path, sensor, black=(512,) * 4, white=16383, active=(0, 20, 200, 300))
    assert read_raw(path).masked is None


@pytest.mark.parametrize("border", [0, 20])
def test_a_doubled_black_level_is_found_and_told(path, border):
    write_dng(path, scene(black=1023, border=border), black=(2046,) * 4, white=16383, active=(0, border, 200, 300))
    raw = read_raw(path)
    assert raw.black_levels == pytest.approx((1023,) * 4, abs=2)
    assert len(raw.notes) == 1
    assert "2046 by the file" in raw.notes[0]


@pytest.mark.parametrize("border", [0, 20])
@pytest.mark.parametrize("std", [2.0, 60.0, 600.0])
def test_a_right_black_level_stands_whatever_the_noise(path, border, std):
    write_dng(
        path, scene(black=1023, std=std, border=border), black=(1023,) * 4, white=16383, active=(0, border, 200, 300)
    )
    raw = read_raw(path)
    assert raw.black_levels == (1023,) * 4
    assert raw.notes == ()


def test_dead_pixels_and_a_frame_of_zeros_prove_nothing_about_black(path):
    sensor = scene(border=0)
    sensor[:10] = 0
    write_dng(path, sensor, black=(512,) * 4, white=16383)
    assert read_raw(path).black_levels == (512,) * 4


def test_a_level_at_which_the_data_clip_is_the_saturation(path):
    sensor = np.minimum(scene(border=0) + 2000, 12000).astype(np.uint16)
    write_dng(path, sensor, black=(512,) * 4, white=16383)
    raw = read_raw(path)
    assert raw.saturation == 12000
    assert raw.white_level == 16383


@pytest.mark.parametrize(
    ("tag", "shape"),
    [
        ([], (40, 60)),
        ([(274, SHORT, 1, 3, True)], (40, 60)),
        ([(274, SHORT, 1, 6, True)], (60, 40)),
        ([(274, SHORT, 1, 8, True)], (60, 40)),
        ([(50718, RATIONAL, 2, (153, 100, 1, 1), True)], (40, 92)),
        ([(50718, RATIONAL, 2, (1, 1, 153, 100), True)], (61, 60)),
        ([(50718, RATIONAL, 2, (153, 100, 1, 1), True), (274, SHORT, 1, 6, True)], (92, 40)),
    ],
)
def test_the_size_from_the_header_is_that_of_the_rendering(path, tag, shape):
    write_dng(path, counting(40, 60), extra=tag)
    assert raw_size(path) == shape
    assert render_srgb(path).shape == (*shape, 3)


def test_the_size_is_read_without_the_pixels(path):
    write_dng(path, counting(400, 600))
    path.write_bytes(path.read_bytes()[:4096])
    assert raw_size(path) == (400, 600)
    with pytest.raises(ValueError, match="truncated"):
        read_raw(path)


@pytest.mark.parametrize("reader", [read_raw, render_srgb, raw_size])
def test_a_sensor_beyond_the_limit_is_refused_by_its_header(path, reader):
    write_dng(path, counting(40, 60))
    with pytest.raises(ValueError, match="expected at most 2399 pixels, found 60x40 = 2400 in the header"):
        reader(path, max_pixels=2399)
    reader(path, max_pixels=2400)


def test_a_neutral_raw_renders_grey_at_the_srgb_value_of_its_level(path):
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


@pytest.mark.parametrize("size", [(96, 120), (520, 530)])
def test_an_xtrans_file_of_any_size_is_rendered(path, size):
    write_dng(path, counting(*size), pattern=XTRANS)
    assert render_srgb(path).shape == (*size, 3)


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


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize(
    "name",
    [
        "canon_eos_d30.crw",
        "canon_s40_0101.crw",
        "canon_kissx4_bayer14.dng",
        "canon_6d_lossy_linear.dng",
        "lg_g4_linear.dng",
        "kodak_dc50_0008.kdc",
    ],
)
def test_a_cut_real_file_is_refused(tmp_path, name, share):
    source = shared_raw(name)
    path = tmp_path / name
    path.write_bytes(source.read_bytes()[: int(share * source.stat().st_size)])
    for reader in (read_raw, render_srgb):
        with pytest.raises(ValueError, match="not a readable raw file"):
            reader(path)


@pytest.mark.parametrize("reader", [read_raw, render_srgb, raw_size])
def test_a_missing_file_and_a_folder_are_refused(tmp_path, reader):
    for path in (tmp_path / "none.dng", tmp_path):
        with pytest.raises(ValueError, match="no such file"):
            reader(path)


def test_a_name_that_is_no_text_is_opened(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.dng"))
    write_dng(tmp_path / "made.dng", counting())
    (tmp_path / "made.dng").rename(path)
    np.testing.assert_array_equal(read_raw(path).mosaic, counting())


def test_suffixes_are_lower_case_with_a_dot():
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in RAW_SUFFIXES)


def test_a_rendering_without_the_cameras_balance_is_balanced_for_daylight(tmp_path):
    path = shared_raw("canon_eos_d30.crw")  # which tells no balance
    raw = read_raw(path)
    assert raw.white_balance == raw.daylight_balance
    dng_like(raw, raw.mosaic, tmp_path / "balanced.dng")
    rendered, expected = render_srgb(path), render_srgb(tmp_path / "balanced.dng")
    np.testing.assert_allclose(rendered.mean(axis=(0, 1)), expected.mean(axis=(0, 1)), rtol=1e-3)


def shared_raw(name):
    path = SHARED / "data" / "raw" / name
    if not path.exists():
        pytest.skip(f"{name} is not part of the repository")
    return path


@pytest.mark.parametrize(
    "name", ["canon_eos_d30.crw", "canon_kissx4_bayer14.dng", "canon_s40_0101.crw", "canon_s40_0113.crw"]
)
def test_a_real_file_has_the_metadata_that_libraw_renders_with(name):
    path = shared_raw(name)
    oracle = SHARED / "oracles" / "libraw_half_linear.npz"
    raw = read_raw(path)
    data = {key: np.load(oracle)[f"{path.stem}_{key}"] for key in ("wb", "black", "white", "pattern", "rgb_cam")}
    assert raw.pattern == "".join("RGBG"[index] for index in data["pattern"].flat)
    assert raw.black_levels == tuple(data["black"][[0, 1, 3, 2]])
    assert raw.white_level == data["white"]
    np.testing.assert_allclose(raw.white_balance, data["wb"][:3] / data["wb"][1], rtol=1e-6)
    np.testing.assert_allclose(raw.rgb_cam, data["rgb_cam"], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "make", "model", "iso", "bits"),
    [
        ("canon_eos_d30.crw", "Canon", "Canon EOS D30", 100, 12),
        ("canon_s40_0101.crw", "Canon", "Canon PowerShot S40", 50, 10),
        ("canon_kissx4_bayer14.dng", "Canon", "Canon EOS Kiss X4", None, 14),
        ("canon_6d_lossy_linear.dng", "Canon", "Canon EOS 6D", 1000, 16),
        ("lg_g4_linear.dng", "LG Mobile", "LG-H815", 50, 16),
        ("kodak_dc50_0008.kdc", "Eastman Kodak Company", "Kodak Digital Science DC50 Zoom Camera", 84, 14),
    ],
)
def test_camera_and_speed_of_a_real_file_are_read(name, make, model, iso, bits):
    raw = read_raw(shared_raw(name))
    assert (raw.make, raw.model, raw.iso, raw.bits) == (make, model, iso, bits)
    assert raw.notes == ()


@pytest.mark.parametrize(
    ("name", "level", "std"),
    [("canon_eos_d30.crw", 128.3, 4.8), ("canon_s40_0101.crw", 32.1, 0.7), ("canon_kissx4_bayer14.dng", 2048.8, 17.0)],
)
def test_the_masked_border_of_a_real_file_is_found(name, level, std):
    raw = read_raw(shared_raw(name))
    assert raw.masked_pattern == "RGGB"
    assert raw.masked.size > 50_000
    assert raw.masked.mean() == pytest.approx(level, abs=0.1)
    assert raw.masked.std() == pytest.approx(std, abs=0.1)


def test_a_real_sensor_saturates_below_its_white_level():
    raw = read_raw(shared_raw("canon_eos_d30.crw"))
    # The table says 4095; its pixels saturate at 3818 with a spread of 15.
    assert raw.white_level == 4095
    assert 3790 <= raw.saturation <= 3818


@pytest.mark.parametrize("name", ["canon_s40_0101.crw", "canon_kissx4_bayer14.dng", "kodak_dc50_0008.kdc"])
def test_a_real_file_that_does_not_clip_keeps_its_white_level(name):
    raw = read_raw(shared_raw(name))
    assert raw.saturation == raw.white_level


@pytest.mark.parametrize(
    ("name", "size"), [("canon_6d_lossy_linear.dng", (816, 1224)), ("lg_g4_linear.dng", (338, 600))]
)
def test_a_linear_dng_has_three_colours_at_every_pixel(name, size):
    path = shared_raw(name)
    raw = read_raw(path)
    assert raw.kind == "linear"
    assert raw.mosaic is None
    assert raw.pattern is None
    assert raw.linear.shape == (*size, 3)
    assert raw_size(path) == size
    assert render_srgb(path).shape == (*size, 3)


def test_the_noise_profile_of_a_real_file_is_read():
    profile = read_raw(shared_raw("canon_6d_lossy_linear.dng")).noise_profile
    np.testing.assert_allclose(profile, [(3.314e-5, 9.21e-8), (3.278e-5, 9.28e-8), (3.258e-5, 9.37e-8)], rtol=1e-3)


def test_the_size_of_every_real_file_is_told_by_its_header():
    folder = SHARED / "data" / "raw"
    paths = [path for path in folder.glob("*") if path.suffix in RAW_SUFFIXES]
    if not paths:
        pytest.skip("no real raw files beside the repository")
    for path in paths:
        assert raw_size(path) == render_srgb(path).shape[:2], path.name
