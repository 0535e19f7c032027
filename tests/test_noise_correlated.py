"""Correlated noise has the variance, blur and channel correlation that were drawn; a choice keeps its shares."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from noise import Choice, Correlated, Gaussian, Mixture, Poisson, corrupt
from noise.correlated import add_correlated

PLAIN = Correlated(sigma=(8.0, 8.0), gain=0.0, tilt=(0.0, 0.0), ends=(0.0, 0.0), luminance=(0.0, 0.0))


def noise_of(recipe, level=0.5, side=384, seed=5):
    clean = torch.full((3, side, side), level)
    made = corrupt(clean, recipe, torch.Generator().manual_seed(seed))
    assert torch.equal(made.clean, clean)
    return (made.noisy - made.clean) * 255, made.parameters


def lag(noise, distance):
    first, second = noise[..., :-distance], noise[..., distance:]
    return ((first * second).mean() / noise.square().mean()).item()


@pytest.mark.parametrize("blur", [0.0, 0.7, 1.5])
def test_the_blur_changes_the_correlation_and_not_the_variance(blur):
    noise, _ = noise_of(replace(PLAIN, blur=(blur, blur), chroma_blur=(0.0, 0.0)))
    # 3 x 384 x 384 samples, fewer where they are correlated; rounding to 8 bits adds 1/12.
    assert abs(noise.std().item() - (64 + 1 / 12) ** 0.5) < 0.15
    # A Gaussian kernel of standard deviation b has the autocorrelation exp(-d^2 / 4 b^2).
    for distance in (1, 2):
        expected = torch.tensor(-(distance**2) / (4 * blur**2)).exp().item() if blur else 0.0
        assert abs(lag(noise, distance) - expected) < 0.03


def test_chroma_is_blurred_more_than_luminance_and_luminance_is_shared():
    noise, _ = noise_of(replace(PLAIN, blur=(0.0, 0.0), chroma_blur=(1.5, 1.5), luminance=(0.6, 0.6)))
    correlation = torch.corrcoef(noise.flatten(1))
    assert abs(correlation[0, 1].item() - 0.6) < 0.03
    assert abs(lag(noise.mean(0), 1) - (0.4 / 3 * 0.895) / (0.6 + 0.4 / 3)) < 0.03
    assert lag(noise[0] - noise[1], 1) > 0.8


def test_sigma_follows_the_level_and_each_channel_has_its_own():
    tilted = replace(PLAIN, tilt=(0.5, 0.5))
    dark, _ = noise_of(tilted, level=0.25)
    bright, _ = noise_of(tilted, level=0.75)
    assert abs(dark.std().item() / 8 - 1.25) < 0.02
    assert abs(bright.std().item() / 8 - 0.75) < 0.02
    flat_ends, _ = noise_of(replace(PLAIN, ends=(0.6, 0.6)), level=0.25)
    assert abs(flat_ends.std().item() / 8 - (1 - 0.6 * 0.25)) < 0.02
    noise, parameters = noise_of(replace(PLAIN, gain=0.5))
    for channel, sigma in enumerate(parameters["sigma"]):
        assert abs(noise[channel].std().item() / sigma - 1) < 0.02
    assert max(parameters["sigma"]) / min(parameters["sigma"]) > 1.05


def test_half_of_the_images_go_through_jpeg_when_asked():
    recipe = replace(PLAIN, jpeg=(80.0, 90.0))
    generator = torch.Generator().manual_seed(1)
    qualities = [recipe.draw(generator)["jpeg"] for _ in range(400)]
    written = [quality for quality in qualities if quality is not None]
    assert abs(len(written) - 200) < 50
    assert 80 <= min(written) < max(written) <= 90


def test_colour_is_needed():
    with pytest.raises(ValueError, match=r"\(3, H, W\), got \(1, 8, 8\)"):
        add_correlated(torch.zeros(1, 8, 8), Correlated().draw(torch.Generator()))


def test_a_choice_draws_each_recipe_as_often_as_its_share():
    choice = Choice(recipes=(Gaussian(), Poisson(), Mixture()), shares=(6.0, 3.0, 1.0))
    generator = torch.Generator().manual_seed(2)
    counts = Counter(choice.draw(generator)["kind"] for _ in range(2000))
    for kind, share in (("gaussian", 0.6), ("poisson", 0.3), ("mixture", 0.1)):
        assert abs(counts[kind] / 2000 - share) < 5 * (share * (1 - share) / 2000) ** 0.5
    even = Counter(replace(choice, shares=()).draw(generator)["kind"] for _ in range(2000))
    assert min(even.values()) > 560
