"""Normalised raw: nothing is clipped or lost on the way from the integers and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import raw.levels as levels_module
from raw.cfa import CFA_PATTERNS
from raw.levels import Levels, denormalise, normalise
from raw.mosaic import pack


def every_level(white):
    """A mosaic that holds each integer up to ``white`` at each of the four sites."""
    values = np.arange(white + 1, dtype=np.uint16)
    return np.repeat(np.repeat(values[:, None], 2, axis=0), 2, axis=1)


@settings(max_examples=25, deadline=None)
@given(
    white=st.integers(2, 65535),
    shares=st.tuples(*[st.floats(0, 0.99)] * 4),
    whole=st.booleans(),
    pattern=st.sampled_from(CFA_PATTERNS),
)
def test_every_integer_up_to_white_comes_back_exactly(white, shares, whole, pattern):
    blacks = tuple(float(int(share * white) if whole else share * white) for share in shares)
    levels = Levels(pattern=pattern, black_levels=blacks, white_level=white)
    mosaic = every_level(white)
    np.testing.assert_array_equal(denormalise(normalise(mosaic, levels), levels), mosaic)


def test_every_integer_comes_back_even_above_white():
    levels = Levels(black_levels=(2048.85, 2047, 2049, 2048), white_level=15000)
    mosaic = every_level(65535)
    np.testing.assert_array_equal(denormalise(normalise(mosaic, levels), levels, maximum=65535), mosaic)
    np.testing.assert_array_equal(denormalise(normalise(mosaic, levels), levels), np.minimum(mosaic, 15000))


@pytest.mark.parametrize("pattern", CFA_PATTERNS)
def test_planes_are_those_of_the_packed_mosaic(pattern):
    mosaic = np.arange(64, dtype=np.uint16).reshape(8, 8)
    levels = Levels(pattern=pattern, black_levels=(8, 4, 2, 1), white_level=100)
    packed = normalise(mosaic, levels)
    assert packed.dtype == np.float32
    for plane, raw, black in zip(packed, pack(mosaic.astype(np.float32), pattern), (8, 4, 2, 1), strict=True):
        np.testing.assert_allclose(plane, (raw - black) / (100 - black), rtol=1e-6)


def test_values_below_black_and_above_white_survive():
    levels = Levels(black_levels=(100.0,) * 4, white_level=300)
    packed = normalise(np.array([[50, 100], [300, 400]], dtype=np.uint16), levels)
    np.testing.assert_allclose(packed.ravel(), [-0.25, 0.0, 1.0, 1.5])


def test_noise_around_black_keeps_its_mean():
    count = 400 * 400
    mosaic = np.rint(np.random.default_rng(0).normal(512, 20, (400, 400))).astype(np.uint16)
    packed = normalise(mosaic, Levels(black_levels=(512.0,) * 4, white_level=16383))
    # Five standard errors of the mean, with the variance of rounding.
    assert abs(packed.mean()) < 5 * np.sqrt(20**2 + 1 / 12) / (16383 - 512) / np.sqrt(count)


@pytest.mark.parametrize("shape", [(7, 8), (8, 7), (7, 7), (2, 3), (3, 2)])
@pytest.mark.parametrize("pattern", CFA_PATTERNS)
def test_an_odd_side_is_rounded_up_and_comes_back(shape, pattern):
    mosaic = np.random.default_rng(0).integers(0, 1024, shape, dtype=np.uint16)
    levels = Levels(pattern=pattern, black_levels=(64.0,) * 4, white_level=1023)
    packed = normalise(mosaic, levels)
    assert packed.shape == (4, -(-shape[0] // 2), -(-shape[1] // 2))
    assert np.isfinite(packed).all()
    np.testing.assert_array_equal(denormalise(packed, levels, shape=shape), mosaic)


def test_planes_that_lack_a_row_or_a_column_repeat_their_last_one():
    mosaic = np.arange(25, dtype=np.uint16).reshape(5, 5)
    packed = normalise(mosaic, Levels(white_level=1))
    np.testing.assert_array_equal(packed[3], [[6, 8, 8], [16, 18, 18], [16, 18, 18]])


def test_a_batch_is_converted_picture_by_picture():
    mosaic = np.random.default_rng(0).integers(0, 1024, (2, 3, 6, 8), dtype=np.uint16)
    levels = Levels(black_levels=(64.0,) * 4, white_level=1023)
    packed = normalise(mosaic, levels)
    assert packed.shape == (2, 3, 4, 3, 4)
    np.testing.assert_array_equal(packed[1, 2], normalise(mosaic[1, 2], levels))
    np.testing.assert_array_equal(denormalise(packed, levels), mosaic)


def test_results_are_rounded_to_the_nearest_integer_and_clipped_to_what_a_file_holds():
    levels = Levels(black_levels=(100.0,) * 4, white_level=1100)
    packed = np.array([-0.2, 0.0104, 0.0106, 1.7], dtype=np.float32).reshape(4, 1, 1)
    np.testing.assert_array_equal(denormalise(packed, levels), [[0, 110], [111, 1100]])


def test_neither_direction_changes_its_input():
    mosaic = every_level(1023)
    levels = Levels(black_levels=(64.0,) * 4, white_level=1023)
    packed = normalise(mosaic, levels)
    before = packed.copy()
    denormalise(packed, levels)
    np.testing.assert_array_equal(mosaic, every_level(1023))
    np.testing.assert_array_equal(packed, before)


class NoPattern:
    pattern = None
    black_levels = (0.0,) * 4
    white_level = 1


@pytest.mark.parametrize(
    ("mosaic", "levels", "message"),
    [
        (np.zeros((1, 4), np.uint16), Levels(), "at least 2x2"),
        (np.zeros((4, 4), np.uint16), NoPattern(), "Bayer pattern"),
        (np.zeros((4, 4), np.uint16), Levels(black_levels=(5.0,) * 4, white_level=5), "below the white level"),
        (np.zeros((4, 4), np.uint16), Levels(black_levels=(float("nan"),) * 4), "below the white level"),
    ],
)
def test_a_mosaic_that_cannot_be_normalised_is_refused(mosaic, levels, message):
    with pytest.raises(ValueError, match=message):
        normalise(mosaic, levels)


@pytest.mark.parametrize(
    ("packed", "shape", "message"),
    [
        (np.zeros((3, 4, 4)), None, "must have shape"),
        (np.zeros((4, 4, 4)), (6, 8), "make no mosaic"),
        (np.full((4, 4, 4), np.nan), None, "finite"),
        (np.full((4, 4, 4), np.inf), None, "finite"),
    ],
)
def test_planes_that_make_no_mosaic_are_refused(packed, shape, message):
    with pytest.raises(ValueError, match=message):
        denormalise(packed, Levels(), shape=shape)


def test_memory_as_it_was_found_is_not_computed_with(monkeypatch):
    # A signalling NaN, which any arithmetic on it reports; np.empty returns such memory now and then.
    def found(shape, dtype):
        return np.full(shape, 0x7FA00000, dtype=np.uint32).view(dtype)

    monkeypatch.setattr(levels_module.np, "empty", found)
    with np.errstate(all="raise"):
        packed = normalise(np.arange(25, dtype=np.uint16).reshape(5, 5), Levels(white_level=3))
    assert np.isfinite(packed).all()
