"""Recharging gives lost structure back and leaves noise out; what is flat stays as smooth as it was."""

import pytest
import torch

from noise.measured import gaussian_blur
from noise.recharge import recharge

SIGMA = 0.05


def picture():
    """Left half flat, right half stripes."""
    image = torch.full((3, 96, 128), 0.5)
    image[:, :, 64::4] = 0.9
    image[:, :, 65::4] = 0.9
    return image


def noisy_of(clean, seed=0):
    return clean + SIGMA * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))


def error(estimate, clean, columns):
    return float((estimate - clean)[..., columns].square().mean().sqrt())


FLAT, STRIPES = slice(8, 52), slice(74, 120)


def test_most_structure_that_was_blurred_comes_back_and_flat_areas_stay_smooth():
    clean = picture()
    noisy = noisy_of(clean)
    smooth, fine = gaussian_blur(noisy, 3.0), gaussian_blur(noisy, 0.7)
    result = recharge(noisy, [smooth, fine])
    assert error(smooth, clean, STRIPES) > 3 * SIGMA  # there was something to give back
    assert error(result, clean, STRIPES) < 0.55 * error(smooth, clean, STRIPES)
    assert error(result, clean, FLAT) < 1.3 * error(smooth, clean, FLAT) < 0.3 * SIGMA


def test_a_picture_that_a_network_has_ruined_comes_back():
    clean = picture()
    noisy = noisy_of(clean)
    ruined = torch.full_like(clean, 0.5)
    result = recharge(noisy, [ruined])
    assert error(result, clean, STRIPES) < 0.3 * error(ruined, clean, STRIPES)
    assert error(result, clean, FLAT) < 0.3 * SIGMA


def test_a_larger_margin_is_smoother_and_infinity_gives_nothing_back():
    noisy = noisy_of(picture())
    smooth = gaussian_blur(noisy, 3.0)
    distance = [float((recharge(noisy, [smooth], margin=margin) - smooth).abs().mean()) for margin in (1.0, 3.0, 30.0)]
    assert distance[0] > distance[1] > distance[2]
    assert torch.equal(recharge(noisy, [smooth], margin=1e9), smooth)


def test_a_grey_picture_and_one_estimate_are_enough():
    noisy = noisy_of(picture())[:1]
    assert recharge(noisy, [gaussian_blur(noisy, 2.0)]).shape == noisy.shape


@pytest.mark.parametrize("estimates", [[], [torch.zeros(3, 8, 9)]])
def test_estimates_of_another_shape_are_refused(estimates):
    with pytest.raises(ValueError, match="one or more of shape"):
        recharge(torch.zeros(3, 8, 8), estimates)
