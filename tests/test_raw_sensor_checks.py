"""Levels that the pixels show: where they clip, and what is no clipping."""

import numpy as np
import pytest

from raw.sensor_checks import clipping_level, histograms

BAYER = np.array([[0, 1], [1, 2]], dtype=np.uint8)
WHITE = 16383
BLACK = 512
SHOT = 1e-3
CLEANEST = 3e-6
"""Of a sensor that holds 330,000 electrons in a pixel: less noise than any on sale, so the narrowest histograms."""


def noisy(signal, seed=0, shot=SHOT):
    """A mosaic of (H, W) levels in 0..1 with shot noise, unclipped above."""
    random = np.random.default_rng(seed)
    noise = np.sqrt(shot * signal) * random.standard_normal(signal.shape)
    return BLACK + (WHITE - BLACK) * (signal + noise)


def as_file(levels):
    return np.rint(levels).clip(0, 65535).astype(np.uint16)


def found(mosaic, white=WHITE):
    return clipping_level(histograms(mosaic, BAYER), white, mosaic, 2)


def gradient(top, height=400, width=600):
    return np.tile(np.linspace(0.02, top, width), (height, 1))


def test_histograms_count_every_pixel_under_its_colour():
    mosaic = np.arange(48, dtype=np.uint16).reshape(6, 8)
    red, green, blue = histograms(mosaic, BAYER)
    assert (red.sum(), green.sum(), blue.sum()) == (12, 24, 12)
    np.testing.assert_array_equal(np.flatnonzero(red), mosaic[::2, ::2].ravel())
    np.testing.assert_array_equal(np.flatnonzero(blue), mosaic[1::2, 1::2].ravel())


def test_digital_clipping_is_found_to_the_level():
    assert found(as_file(np.minimum(noisy(gradient(1.2)), 14000))) == 14000


def test_digital_clipping_is_found_under_hot_pixels():
    mosaic = as_file(np.minimum(noisy(gradient(1.2)), 14000))
    mosaic[100:102, 100:102] = 16000  # a pixel of each colour
    assert found(mosaic) == 14000


def saturated(spread):
    """Pixels that each saturate at a level of their own, and stay there whatever the light."""
    signal = gradient(1.2)
    own = 13000 + spread * np.random.default_rng(1).standard_normal(signal.shape)
    return as_file(np.minimum(noisy(signal), own))


@pytest.mark.parametrize("spread", [5.0, 20.0, 60.0])
def test_saturation_that_differs_by_pixel_is_found_at_its_lower_end(spread):
    assert 13000 - 3 * spread <= found(saturated(spread)) <= 13000


def test_saturation_of_one_colour_alone_is_not_taken_for_the_sensors():
    mosaic = saturated(20.0)
    mosaic[1::2] //= 2  # green of the blue rows and blue
    mosaic[::2, ::2] //= 2
    # Greens of half the pixels still reach 13000; their histogram has no second colour to agree with.
    assert found(mosaic) is None


@pytest.mark.parametrize("shot", [SHOT, 1e-4, CLEANEST])
@pytest.mark.parametrize("level", [0.3, 0.6, 0.8, 0.95])
def test_an_even_field_is_not_clipped(level, shot):
    assert found(as_file(noisy(np.full((400, 600), level), shot=shot))) is None


@pytest.mark.parametrize("shot", [SHOT, 1e-4, CLEANEST])
def test_a_chart_of_even_patches_is_not_clipped(shot):
    patches = np.repeat(np.repeat(np.linspace(0.05, 0.9, 24).reshape(4, 6), 100, axis=0), 100, axis=1)
    assert found(as_file(noisy(patches, shot=shot))) is None


def test_patches_without_noise_are_not_clipped():
    patches = np.repeat(np.repeat(np.linspace(0.05, 0.9, 24).reshape(4, 6), 100, axis=0), 100, axis=1)
    assert found(as_file(BLACK + (WHITE - BLACK) * patches)) is None


def test_a_picture_that_fades_out_below_white_is_not_clipped():
    assert found(as_file(noisy(gradient(0.7)))) is None


def test_a_dark_frame_is_not_clipped():
    assert found(as_file(noisy(np.full((400, 600), 1e-6)))) is None


def test_clipping_at_the_white_level_is_nothing_new():
    assert found(as_file(np.minimum(noisy(gradient(1.2)), WHITE))) is None


def test_a_linear_picture_that_clips_is_found_too():
    linear = np.repeat(as_file(np.minimum(noisy(gradient(1.2)), 14000))[..., None], 3, axis=2)
    assert clipping_level(histograms(linear, None), WHITE, None, 1) == 14000
