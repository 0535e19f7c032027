"""DNG files written here: LibRaw reads the same bits and the same metadata, for every kind of sensor."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import rawpy
import tifffile

from raw.cfa import CFA_PATTERNS
from raw.dng import dng_like, write_dng
from raw.files import RAW_SUFFIXES, read_raw
from raw.raw_file import Shot
from tests.xtrans import XTRANS

SHARED_RAW = Path(__file__).parents[2] / "shared" / "data" / "raw"
REAL = sorted(path.name for path in SHARED_RAW.glob("*") if path.suffix in RAW_SUFFIXES) or ["none"]
MATRIX = np.array([[1.5, -0.4, -0.1], [-0.1, 1.4, -0.3], [0.05, -0.45, 1.4]])


def pixels(*shape, low=0, high=16384):
    return np.random.default_rng(0).integers(low, high, shape, dtype=np.uint16)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "written.dng"


@pytest.mark.parametrize("shape", [(48, 64), (49, 65), (101, 64)])
@pytest.mark.parametrize("pattern", CFA_PATTERNS)
def test_a_mosaic_of_every_pattern_comes_back_to_the_bit_with_its_levels(path, pattern, shape):
    mosaic = pixels(*shape, high=65536)
    write_dng(path, mosaic, pattern=pattern, black_levels=(100, 110, 120, 130), white_level=16383)
    raw = read_raw(path)
    np.testing.assert_array_equal(raw.mosaic, mosaic)
    assert raw.pattern == pattern
    assert raw.black_levels == (100, 110, 120, 130)
    assert raw.white_level == 16383


def test_the_metadata_come_back(path):
    noise = ((2e-4, 1e-6), (1e-4, 2e-6), (3e-4, 0.0))
    shot = Shot(iso=800, exposure_time=1 / 60, aperture=2.8, focal_length=35.5, taken="2024:02:29 23:59:58")
    write_dng(
        path,
        pixels(48, 64),
        white_level=16383,
        white_balance=(2.1, 1.0, 1.6),
        rgb_cam=MATRIX,
        noise=noise,
        make="Maker",
        model="Model 1",
        pixel_aspect=1.5,
        shot=shot,
    )
    raw = read_raw(path)
    assert raw.white_balance == pytest.approx((2.1, 1.0, 1.6), rel=1e-5)
    np.testing.assert_allclose(raw.rgb_cam, MATRIX, atol=1e-5)
    assert raw.noise_profile == noise
    assert (raw.make, raw.model) == ("Maker", "Model 1")
    assert raw.pixel_aspect == pytest.approx(1.5)
    assert raw.iso == 800
    assert raw.taken == shot.taken
    found = (raw.exposure_time, raw.aperture, raw.focal_length)
    assert found == pytest.approx((1 / 60, 2.8, 35.5), rel=1e-5)


@pytest.mark.parametrize("iso", [6, 100, 65535, 102400, 409600])
def test_every_speed_comes_back(path, iso):
    write_dng(path, pixels(48, 64), shot=Shot(iso=iso))
    assert read_raw(path).iso == iso


def test_the_fields_are_where_the_specification_puts_them(path):
    write_dng(
        path, pixels(48, 64), pattern="GBRG", black_levels=(10, 20, 30, 40), white_level=4095, white_balance=(2, 1, 1.5)
    )
    with tifffile.TiffFile(path) as tiff:
        (page,) = tiff.pages
        assert tiff.is_dng
        assert page.photometric == tifffile.PHOTOMETRIC.CFA
        np.testing.assert_array_equal(page.asarray(), pixels(48, 64))
        tags = {tag.code: tag.value for tag in page.tags}
    assert tags[33422] == b"\1\2\0\1"
    assert tags[50714] == (30, 40, 10, 20)  # in reading order: Gb B R Gr
    neutral = np.array(tags[50728]).reshape(3, 2)
    np.testing.assert_allclose(neutral[:, 0] / neutral[:, 1], (1 / 2, 1, 1 / 1.5), atol=1e-6)
    assert tags[50829] == (0, 0, 48, 64)


@pytest.mark.parametrize("flip", range(8))
def test_every_orientation_comes_back(path, flip):
    write_dng(path, pixels(48, 64), flip=flip)
    assert read_raw(path).flip == flip


@pytest.mark.parametrize("black", [(1023,) * 4, (1000, 1010, 1010, 1020)])
def test_an_xtrans_mosaic_comes_back(path, black):
    mosaic = pixels(60, 66, low=900)
    write_dng(path, mosaic, pattern=XTRANS, black_levels=black, white_level=16383, rgb_cam=MATRIX)
    raw = read_raw(path)
    assert raw.kind == "xtrans"
    np.testing.assert_array_equal(raw.mosaic, mosaic)
    np.testing.assert_array_equal(raw.cfa, XTRANS)
    assert raw.black_levels == black
    np.testing.assert_allclose(raw.rgb_cam, MATRIX, atol=1e-5)


def test_a_picture_without_colour_filters_comes_back(path):
    mosaic = pixels(60, 66)
    write_dng(path, mosaic, pattern=None, black_levels=(100,) * 4, white_level=16383)
    raw = read_raw(path)
    assert raw.kind == "mono"
    np.testing.assert_array_equal(raw.mosaic, mosaic)
    np.testing.assert_array_equal(raw.cfa, [[1]])
    assert raw.black_levels == (100,) * 4


def test_three_colours_at_every_pixel_come_back(path):
    linear = pixels(60, 66, 3)
    write_dng(
        path,
        linear,
        pattern=None,
        black_levels=(100,) * 4,
        white_level=16383,
        white_balance=(2, 1, 1.5),
        rgb_cam=MATRIX,
        noise=((1e-4, 1e-6),),
    )
    raw = read_raw(path)
    assert raw.kind == "linear"
    assert raw.cfa is None
    np.testing.assert_array_equal(raw.linear, linear)
    assert raw.black_levels == (100,) * 4
    assert raw.white_balance == pytest.approx((2, 1, 1.5))
    np.testing.assert_allclose(raw.rgb_cam, MATRIX, atol=1e-5)
    assert raw.noise_profile == ((1e-4, 1e-6),) * 3


def test_both_greens_of_another_cell_have_their_mean_black_level(path):
    write_dng(path, pixels(60, 66), pattern=XTRANS, black_levels=(100, 110, 130, 140), white_level=16383)
    assert read_raw(path).black_levels == (100, 120, 120, 140)


def test_values_lie_at_even_places(path):
    write_dng(path, pixels(48, 64), make="ab de", model="ab defg", shot=Shot(iso=100, exposure_time=1.0))
    with tifffile.TiffFile(path) as tiff:
        assert all(tag.valueoffset % 2 == 0 for tag in tiff.pages[0].tags)


def test_a_fraction_of_a_black_level_is_kept(path):
    write_dng(path, pixels(48, 64), black_levels=(64.25, 64.5, 63.75, 64.125), white_level=16383)
    assert read_raw(path).black_levels == (64.25, 64.5, 63.75, 64.125)


def test_text_that_is_no_ascii_does_no_harm(path):
    write_dng(path, pixels(48, 64), make="Mäker\0hidden", model="\x1b[31mModel")
    raw = read_raw(path)
    assert raw.make == "M?kerhidden"
    assert raw.model == "[31mModel"


def test_the_same_pixels_make_the_same_file(tmp_path):
    for name in ("a.dng", "b.dng"):
        write_dng(tmp_path / name, pixels(48, 64))
    assert (tmp_path / "a.dng").read_bytes() == (tmp_path / "b.dng").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixels": np.zeros((48, 64), np.float32)}, "uint16"),
        ({"pixels": np.zeros((48, 64, 4), np.uint16)}, "uint16"),
        ({"pixels": np.zeros((1, 64), np.uint16)}, "2 to 65535 rows"),
        ({"pattern": "RGBG"}, "pattern must be one of"),
        ({"pattern": np.full((2, 2), 3, np.uint8)}, "colours 0 to 2"),
        ({"white_level": 65536}, "0..65535"),
        ({"black_levels": (1.0, 1.0)}, "0..65535"),
        ({"black_levels": (-1.0,) * 4}, "0..65535"),
        ({"black_levels": (16383.0,) * 4}, "below the white level"),
        ({"white_balance": (0.0, 1.0, 1.0)}, "gains above 0"),
        ({"white_balance": (float("nan"), 1.0, 1.0)}, "gains above 0"),
        ({"noise": ((0.0, 1e-6),)}, "shot above 0"),
        ({"noise": ((1e-4, 1e-6),) * 2}, "one or three pairs"),
        ({"rgb_cam": np.ones((3, 3))}, "inverse"),
        ({"xyz2cam": np.full((3, 3), np.nan)}, "finite"),
        ({"flip": 8}, "0 to 7"),
    ],
)
def test_what_makes_no_dng_is_refused_before_a_file_is_made(path, change, message):
    arguments = {"pixels": pixels(48, 64), "white_level": 16383, **change}
    with pytest.raises(ValueError, match=message):
        write_dng(path, arguments.pop("pixels"), **arguments)
    assert not path.exists()


def real(name):
    path = SHARED_RAW / name
    if not path.exists():
        pytest.skip("no real raw files beside the repository")
    return path


def rendered_by_libraw(path, color):
    with rawpy.imread(str(path)) as raw:
        return raw.postprocess(
            half_size=True, no_auto_bright=True, output_bps=16, adjust_maximum_thr=0.0, output_color=color
        )


@pytest.mark.parametrize("name", REAL)
def test_a_real_file_written_as_dng_is_the_same_file_to_libraw(path, name):
    raw = read_raw(real(name))
    held = raw.mosaic if raw.mosaic is not None else raw.linear
    dng_like(raw, held, path)
    again = read_raw(path)
    left_out = {"masked", "masked_pattern"}  # of the border, which is not written
    for field in fields(raw):
        first, second = getattr(raw, field.name), getattr(again, field.name)
        if field.name in ("mosaic", "linear", "cfa"):
            np.testing.assert_array_equal(first, second)
        elif field.name in ("rgb_cam", "white_balance", "daylight_balance"):
            np.testing.assert_allclose(second, first, atol=2e-6)
        elif field.name in ("exposure_time", "aperture", "focal_length"):
            assert (second or 0) == pytest.approx(first or 0, rel=1e-5)
        elif field.name not in left_out:
            assert first == second, field.name
    # The DC50's matrix is hidden in LibRaw, which tells of none.
    color = rawpy.ColorSpace.raw if "dc50" in name else rawpy.ColorSpace.sRGB
    ours, theirs = rendered_by_libraw(path, color), rendered_by_libraw(real(name), color)
    # Gains and matrix are written to six digits; the curve is up to 4.5 times as steep as the line.
    assert np.abs(ours.astype(int) - theirs).max() <= 16


def test_new_pixels_keep_the_metadata_of_the_file(path, tmp_path):
    write_dng(tmp_path / "old.dng", pixels(48, 64), white_level=16383, flip=6, make="Maker", shot=Shot(iso=200))
    raw = read_raw(tmp_path / "old.dng")
    dng_like(raw, raw.mosaic // 2, path)
    again = read_raw(path)
    np.testing.assert_array_equal(again.mosaic, raw.mosaic // 2)
    assert (again.flip, again.make, again.iso, again.pattern) == (6, "Maker", 200, raw.pattern)


def test_pixels_of_another_shape_are_no_such_file(path, tmp_path):
    write_dng(tmp_path / "old.dng", pixels(48, 64))
    raw = read_raw(tmp_path / "old.dng")
    with pytest.raises(ValueError, match="shape of the raw file"):
        dng_like(raw, pixels(48, 66), path)
    with pytest.raises(ValueError, match="shape of the raw file"):
        dng_like(replace(raw, kind="other", mosaic=None), pixels(48, 64), path)
