"""Resizing: constants, positions and anti-aliasing."""

import math

import numpy as np
import pytest
import torch

from raw.resize import resize


@pytest.mark.parametrize("size", [(8, 8), (16, 24), (40, 7), (1, 1)])
def test_a_constant_stays_constant(size):
    made = resize(torch.full((3, 16, 24), 0.4), *size)
    torch.testing.assert_close(made, torch.full((3, *size), 0.4))


def test_pixel_areas_line_up():
    """Pixel centres are at (i + 1/2) / n of the side, so a ramp keeps its values and nothing shifts."""
    ramp = ((torch.arange(32) + 0.5) / 32).expand(1, 32, 32)
    small = resize(ramp, 16, 16)
    torch.testing.assert_close(small[0, 8, 2:-2], (torch.arange(2, 14) + 0.5) / 16, rtol=0, atol=1e-5)
    large = resize(ramp, 64, 64)
    torch.testing.assert_close(large[0, 8, 6:-6], (torch.arange(6, 58) + 0.5) / 64, rtol=0, atol=1e-5)


def test_rows_and_columns_are_not_exchanged():
    image = torch.zeros(1, 8, 8)
    image[0, 0] = 1
    made = resize(image, 16, 4)
    assert made.shape == (1, 16, 4)
    assert made[0, 0].min() > 0.5
    assert made[0, 4:].max() < 0.1


def test_shrinking_does_not_alias():
    checker = ((torch.arange(64)[:, None] + torch.arange(64)) % 2).float()[None]
    torch.testing.assert_close(resize(checker, 16, 16)[:, 2:-2, 2:-2], torch.full((1, 12, 12), 0.5), rtol=0, atol=1e-3)


def test_shrinking_averages_noise():
    generator = torch.Generator().manual_seed(1)
    noise = 0.5 + 0.05 * torch.randn((3, 256, 256), generator=generator)
    spread = resize(noise, 64, 64).std().item()
    # The sum of squares of the widened cubic's weights, per axis, by hand from a = -1/2 at 16 taps.
    positions = (np.arange(16) - 7.5) / 4
    distance = np.abs(positions)
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance < 1, near, far)
    want = 0.05 * np.square(weights / weights.sum()).sum()
    assert abs(spread / want - 1) < 5 / math.sqrt(2 * 3 * 64**2 / 4)


def test_overshoot_is_clipped():
    edge = torch.zeros(1, 16, 16)
    edge[..., 8:] = 1
    made = resize(edge, 64, 64)
    assert made.min() == 0
    assert made.max() == 1


def test_a_batch_is_resized_image_by_image():
    batch = torch.rand((2, 2, 3, 9, 10), generator=torch.Generator().manual_seed(1))
    made = resize(batch, 5, 6)
    assert made.shape == (2, 2, 3, 5, 6)
    torch.testing.assert_close(made[1, 0], resize(batch[1, 0], 5, 6))


def test_arrays_are_taken_and_returned():
    made = resize(np.full((3, 8, 8), 0.5, dtype=np.float32), 4, 4)
    assert isinstance(made, np.ndarray)
    assert made.shape == (3, 4, 4)


def test_an_empty_size_is_refused():
    with pytest.raises(ValueError, match="cannot be resized to 0x4"):
        resize(torch.zeros(3, 8, 8), 0, 4)
