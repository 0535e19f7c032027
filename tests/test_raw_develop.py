"""Our own raw converter: LibRaw's half-size rule to the step, whole pictures upright and independent of bands."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rawpy

import raw.develop
from raw.cfa import CFA_PATTERNS
from raw.develop import SHARP, develop, half_linear
from raw.dng import write_dng
from raw.files import read_raw, render_srgb
from raw.raw_file import RawFile
from raw.rendering import Rendering
from tests.xtrans import XTRANS

SHARED = Path(__file__).parents[2] / "shared"
ORACLE = Path(__file__).parent / "oracles" / "libraw_half_linear_s40.npz"
ALL_ORACLES = SHARED / "oracles" / "libraw_half_linear.npz"
NAMES = ("canon_eos_d30", "canon_g2_0304", "canon_kissx4_bayer14", "canon_s40_0101", "canon_s40_0113")
# LibRaw rounds its result and the D30's black levels, which differ by colour, to integers.
TOLERANCE = dict.fromkeys(NAMES, 1e-4) | {"canon_eos_d30": 3.2e-4}
MATRIX = np.array([[1.5, -0.4, -0.1], [-0.1, 1.4, -0.3], [0.05, -0.45, 1.4]])


def raw_of(arrays, prefix=""):
    """The crop of an oracle as a raw file."""
    balance = arrays[f"{prefix}wb"][:3] / arrays[f"{prefix}wb"][1]
    return RawFile(
        kind="bayer",
        mosaic=arrays[f"{prefix}raw_crop"],
        pattern="".join("RGBG"[index] for index in arrays[f"{prefix}pattern"].flat),
        black_levels=tuple(float(level) for level in arrays[f"{prefix}black"][[0, 1, 3, 2]]),
        white_level=int(arrays[f"{prefix}white"]),
        white_balance=tuple(float(gain) for gain in balance),
        rgb_cam=arrays[f"{prefix}rgb_cam"],
        flip=0,
        iso=None,
    )


def test_half_size_is_what_libraw_makes_of_it():
    with np.load(ORACLE) as arrays:
        np.testing.assert_allclose(half_linear(raw_of(arrays)), arrays["half_linear_srgb"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_half_size_of_every_sensor_is_what_libraw_makes_of_it(name):
    if not ALL_ORACLES.exists():
        pytest.skip("the arrays of all sensors are not part of the repository")
    with np.load(ALL_ORACLES) as arrays:
        ours = half_linear(raw_of(arrays, f"{name}_"))
        np.testing.assert_allclose(ours, arrays[f"{name}_half_linear_srgb"], rtol=0, atol=TOLERANCE[name])


def real(stem):
    paths = list((SHARED / "data" / "raw").glob(f"{stem}.*"))
    if not paths:
        pytest.skip(f"{stem} is not part of the repository")
    return paths[0]


def place_of(crop, mosaic):
    """Where the crop lies in the mosaic."""
    height, width = crop.shape
    corners = (mosaic[: 1 - height, : 1 - width] == crop[0, 0]) & (mosaic[height - 1 :, width - 1 :] == crop[-1, -1])
    for top, left in np.argwhere(corners):
        if np.array_equal(mosaic[top : top + height, left : left + width], crop):
            return int(top), int(left)
    raise AssertionError("the crop is not in the mosaic")


@pytest.mark.parametrize("name", NAMES)
def test_half_size_of_a_real_file_is_the_oracles(name):
    path = real(name)
    raw_file = read_raw(path)
    with np.load(ALL_ORACLES) as arrays:
        top, left = place_of(arrays[f"{name}_raw_crop"], raw_file.mosaic)
        assert (top % 2, left % 2) == (0, 0)
        ours = half_linear(raw_file)[top // 2 : top // 2 + 64, left // 2 : left // 2 + 64]
        np.testing.assert_allclose(ours, arrays[f"{name}_half_linear_srgb"], rtol=0, atol=TOLERANCE[name])


def libraw_linear(path, **options):
    with rawpy.imread(str(path)) as raw_file:
        image = raw_file.postprocess(
            no_auto_bright=True, gamma=(1, 1), output_bps=16, adjust_maximum_thr=0.0, user_flip=0, **options
        )
    return image / 65535


@pytest.mark.parametrize("name", NAMES)
def test_half_size_of_a_whole_real_file_is_libraws(name):
    path = real(name)
    raw_file = read_raw(path)
    camera_has_balance = raw_file.white_balance != raw_file.daylight_balance
    expected = libraw_linear(path, half_size=True, use_camera_wb=camera_has_balance)
    np.testing.assert_allclose(half_linear(raw_file), expected, rtol=0, atol=TOLERANCE[name])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "made.dng"


def smooth(height, width, *, black=512, white=16383):
    """An RGGB mosaic of slow waves, other ones in each colour."""
    rows, columns = np.mgrid[:height, :width]
    mosaic = np.empty((height, width), dtype=np.uint16)
    for row, column, color, gain in ((0, 0, 0, 2.0), (0, 1, 1, 1.0), (1, 0, 1, 1.0), (1, 1, 2, 1.5)):
        light = 0.5 + 0.2 * np.sin(rows / 30 + color) * np.cos(columns / 40 + color)
        sites = (rows % 2 == row) & (columns % 2 == column)
        mosaic[sites] = np.rint(black + (white - black) * light / gain)[sites]
    return mosaic


def random_mosaic(height, width):
    return np.random.default_rng(0).integers(300, 16384, (height, width), dtype=np.uint16)


def made(path, mosaic, **options):
    arguments = {"black_levels": (512.0,) * 4, "white_level": 16383, "white_balance": (2.0, 1.0, 1.5)}
    write_dng(path, mosaic, **{**arguments, "rgb_cam": MATRIX, **options})
    return read_raw(path)


@pytest.mark.parametrize("gains", [(2.0, 1.0, 1.5), (0.8, 1.0, 1.5), (1.2, 1.0, 0.6)])
@pytest.mark.parametrize("pattern", CFA_PATTERNS)
def test_half_size_of_every_pattern_is_libraws(path, pattern, gains):
    raw_file = made(path, random_mosaic(60, 80), pattern=pattern, white_balance=gains)
    expected = libraw_linear(path, half_size=True, use_camera_wb=True)
    np.testing.assert_allclose(half_linear(raw_file), expected, rtol=0, atol=1e-4)


def test_half_size_of_an_odd_sensor_is_rounded_up(path):
    assert half_linear(made(path, random_mosaic(61, 81))).shape == (31, 41, 3)


def test_half_size_is_for_bayer_sensors(path):
    with pytest.raises(ValueError, match="'xtrans'"):
        half_linear(made(path, random_mosaic(60, 84), pattern=XTRANS))


@pytest.mark.parametrize("rendering", [SHARP, Rendering(), Rendering(tone="smoothstep")])
@pytest.mark.parametrize("kind", [*CFA_PATTERNS, "xtrans", "mono", "linear"])
def test_bands_leave_no_trace(path, monkeypatch, kind, rendering):
    patterns = {"xtrans": XTRANS, "mono": None, "linear": None}
    mosaic = random_mosaic(61, 83)
    raw_file = made(
        path, np.stack([mosaic] * 3, axis=2) if kind == "linear" else mosaic, pattern=patterns.get(kind, kind)
    )
    assert raw_file.kind == ("bayer" if kind in CFA_PATTERNS else kind)
    whole = develop(raw_file, rendering)
    monkeypatch.setattr(raw.develop, "_BAND_PIXELS", 83 * 6)
    np.testing.assert_allclose(develop(raw_file, rendering), whole, rtol=0, atol=2e-6)


@pytest.mark.parametrize("shape", [(121, 90), (90, 121)])
@pytest.mark.parametrize("flip", range(8))
def test_pictures_stand_upright(path, flip, shape):
    raw_file = made(path, smooth(*shape), flip=flip)
    ours, theirs = develop(raw_file), render_srgb(path) / 65535
    assert ours.shape == theirs.shape
    assert ours.dtype == np.float32
    # Another demosaicing of waves that it follows nearly as well; any wrong turn is off by 0.2 and more.
    assert np.abs(ours - theirs)[4:-4, 4:-4].max() < 0.02


@pytest.mark.parametrize("aspect", [1.53, 0.6])
@pytest.mark.parametrize("flip", [0, 6])
def test_oblong_pixels_become_square(path, aspect, flip):
    raw_file = made(path, smooth(121, 90), flip=flip, pixel_aspect=aspect)
    ours, theirs = develop(raw_file), render_srgb(path) / 65535
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs)[8:-8, 8:-8].max() < 0.02


@pytest.mark.parametrize("gains", [(2.0, 1.0, 1.5), (0.6, 1.0, 1.5)])
def test_saturated_light_is_white(path, gains):
    mosaic = random_mosaic(60, 80)
    mosaic[20:40, 30:60] = 16383
    image = develop(made(path, mosaic, white_balance=gains), Rendering(transfer="srgb"))
    np.testing.assert_allclose(image[24:36, 34:56], 1.0, atol=1e-5)


def test_light_that_clips_below_the_white_level_is_white_too(path):
    mosaic = np.minimum(smooth(200, 300) + np.arange(300, dtype=np.uint16) * 40, 12000).astype(np.uint16)
    raw_file = made(path, mosaic)
    assert raw_file.saturation == 12000
    clipped = (mosaic == 12000).reshape(100, 2, 150, 2).all(axis=(1, 3)).repeat(2, axis=0).repeat(2, axis=1)
    image = develop(raw_file, Rendering(transfer="srgb"))
    inside = clipped & np.roll(clipped, 2, axis=1) & np.roll(clipped, -2, axis=1)
    inside[:2] = inside[-2:] = False
    inside[:, :2] = inside[:, -2:] = False
    inside &= np.roll(clipped, 2, axis=0) & np.roll(clipped, -2, axis=0)
    assert inside.sum() > 1000
    np.testing.assert_allclose(image[inside], 1.0, atol=1e-5)


def test_an_even_xtrans_field_has_no_pattern(path):
    mosaic = np.empty((60, 84), dtype=np.uint16)
    for color, level in enumerate((0.1, 0.2, 0.15)):
        sites = np.tile(color == XTRANS, (10, 14))
        mosaic[sites] = round(512 + level * (16383 - 512))
    raw_file = made(path, mosaic, pattern=XTRANS, white_balance=(2.0, 1.0, 4 / 3))
    image = develop(raw_file)
    expected = 1.055 * 0.2 ** (1 / 2.4) - 0.055
    np.testing.assert_allclose(image, expected, atol=2e-4)


def test_an_xtrans_gradient_is_followed_in_all_colours(path):
    ramp = np.rint(np.linspace(600, 8000, 84)).astype(np.uint16) * np.ones((60, 1), dtype=np.uint16)
    raw_file = made(path, ramp, pattern=XTRANS, white_balance=(1, 1, 1), rgb_cam=np.eye(3))
    image = develop(raw_file)
    linear = (ramp - 512.0) / (16383 - 512)
    expected = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clip(1e-9) ** (1 / 2.4) - 0.055)
    # The samples near by lie to one side by up to half a column, where the ramp rises by 0.006 and more at its foot.
    assert np.abs(image - expected[..., None])[4:-4, 12:-4].max() < 0.01


def test_a_sensor_without_filters_gives_grey(path):
    mosaic = random_mosaic(60, 80)
    image = develop(made(path, mosaic, pattern=None), Rendering(transfer="srgb"))
    np.testing.assert_array_equal(image[..., 0], image[..., 1])
    np.testing.assert_array_equal(image[..., 0], image[..., 2])
    linear = ((mosaic - 512.0) / (16383 - 512)).clip(0, 1)
    expected = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clip(1e-9) ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(image[..., 0], expected, atol=2e-6)


def test_a_linear_file_is_what_libraw_makes_of_it(path):
    linear = np.random.default_rng(0).integers(0, 16384, (60, 80, 3), dtype=np.uint16)
    raw_file = made(path, linear, pattern=None, black_levels=(0.0,) * 4)
    # A step of 1/65535 before the curve is 2e-4 behind its steepest part.
    np.testing.assert_allclose(develop(raw_file), render_srgb(path) / 65535, atol=1e-3)


def test_black_is_subtracted_from_a_linear_file(path):
    # LibRaw forgets to stretch the range by it.
    image = develop(made(path, np.full((60, 80, 3), 512 + 3174, dtype=np.uint16), pattern=None, rgb_cam=np.eye(3)))
    expected = 1.055 * (np.array([2.0, 1.0, 1.5]) * 3174 / (16383 - 512)) ** (1 / 2.4) - 0.055
    np.testing.assert_allclose(image, np.broadcast_to(expected, image.shape), atol=1e-5)


@pytest.mark.parametrize("name", ["canon_6d_lossy_linear", "lg_g4_linear"])
def test_a_real_linear_file_is_what_libraw_makes_of_it(name):
    path = real(name)
    difference = np.abs(develop(read_raw(path)) - render_srgb(path) / 65535)
    assert np.median(difference) < 1e-4
    assert difference.max() < 1e-3


@pytest.mark.parametrize("name", ["canon_s40_0101", "canon_kissx4_bayer14"])
def test_a_real_mosaic_is_close_to_what_libraw_makes_of_it(name):
    path = real(name)
    difference = np.abs(develop(read_raw(path)) - render_srgb(path) / 65535)
    # Two ways to demosaic differ at edges and agree elsewhere.
    assert np.median(difference) < 0.005
    assert difference.mean() < 0.01


def test_nothing_can_be_developed_from_nothing(path):
    refused = replace(made(path, random_mosaic(60, 80)), kind="other", mosaic=None, pattern=None, notes=("why not",))
    with pytest.raises(ValueError, match="'other' cannot be developed: why not"):
        develop(refused)
