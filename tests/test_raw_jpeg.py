"""JPEG in memory: what it keeps, what it correlates, and that it depends on nothing but its input."""

import math

import numpy as np
import pytest
import torch

from raw.jpeg import jpeg


def noise(channels=3, size=256, sigma=0.05, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return (0.5 + sigma * torch.randn((channels, size, size), generator=generator)).clamp(0, 1)


def chroma(image):
    """Cb and Cr of JFIF."""
    red, green, blue = image.double().numpy()
    return -0.168736 * red - 0.331264 * green + 0.5 * blue, 0.5 * red - 0.418688 * green - 0.081312 * blue


def lag_one(plane, axis):
    plane = np.moveaxis(plane - plane.mean(), axis, 0)
    return (plane[:-1] * plane[1:]).mean() / plane.var()


def test_a_smooth_image_survives():
    ramp = torch.linspace(0, 1, 64).expand(3, 64, 64)
    assert (jpeg(ramp, 95) - ramp).abs().max() < 3 / 255


def test_white_and_black_are_kept_exactly():
    for value in (0.0, 1.0):
        assert torch.equal(jpeg(torch.full((3, 20, 21), value), 75), torch.full((3, 20, 21), value))


def test_values_are_rounded_to_the_nearest_byte():
    for value, byte in ((99.6, 100), (100.4, 100)):
        assert torch.equal(jpeg(torch.full((3, 16, 16), value / 255), 100), torch.full((3, 16, 16), byte / 255))


@pytest.mark.parametrize(
    ("subsampling", "down", "right"), [("4:4:4", 0.0, 0.0), ("4:2:2", 0.0, 0.75), ("4:2:0", 0.75, 0.75)]
)
def test_subsampled_chroma_is_correlated_in_its_directions(subsampling, down, right):
    """A pair's mean spread again by weights (3, 1) / 4: neighbours share (9 + 6) / 2 of 10 parts, 0.75."""
    made = jpeg(noise(), 100, subsampling)
    for plane in chroma(made):
        # About 256^2 / 16 independent samples of a correlation; rounding at quality 100 takes a little off.
        allowed = 5 / math.sqrt(256**2 / 16) + 0.02
        assert abs(lag_one(plane, 0) - down) < allowed
        assert abs(lag_one(plane, 1) - right) < allowed


def test_luma_noise_stays_white_at_high_quality_and_is_correlated_at_low():
    weights = np.array([0.299, 0.587, 0.114])
    luma = [np.tensordot(weights, jpeg(noise(), quality).double().numpy(), 1) for quality in (100, 30)]
    assert abs(lag_one(luma[0], 1)) < 5 / 256 + 0.01
    assert lag_one(luma[1], 1) > 0.1


def test_lower_quality_loses_more():
    errors = [(jpeg(noise(), quality, "4:4:4") - noise()).square().mean().item() for quality in (100, 90, 70, 40)]
    assert errors == sorted(errors)
    assert errors[0] < errors[-1] / 20


def test_values_are_bytes_and_the_same_every_time():
    first, second = jpeg(noise(), 80), jpeg(noise(), 80)
    assert torch.equal(first, second)
    torch.testing.assert_close(first * 255, (first * 255).round(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 9, 17), (3, 1, 1), (3, 17, 9)])
def test_shape_dtype_and_channels_are_kept(shape):
    image = torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    kept = image.clone()
    made = jpeg(image, 90)
    assert made.shape == shape
    assert made.dtype == torch.float64
    assert torch.equal(image, kept)


def test_channels_do_not_change_places():
    red = torch.zeros(3, 16, 16)
    red[0] = 1
    made = jpeg(red, 95)
    assert made[0].min() > 0.9
    assert made[1:].max() < 0.1


def test_arrays_are_taken_and_returned():
    made = jpeg(noise().numpy(), 80)
    assert isinstance(made, np.ndarray)
    np.testing.assert_array_equal(made, jpeg(noise(), 80).numpy())


@pytest.mark.parametrize(
    ("shape", "quality", "message"),
    [((2, 8, 8), 90, r"\(1 or 3, H, W\), got \(2, 8, 8\)"), ((1, 3, 8, 8), 90, "shape"), ((3, 8, 8), 0, "got 0")],
)
def test_what_no_jpeg_can_hold_is_refused(shape, quality, message):
    with pytest.raises(ValueError, match=message):
        jpeg(torch.zeros(shape), quality)
