"""Mixture noise: its three parts are there, its levels have the input PSNRs they were chosen for."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from noise import Gaussian, Mixture, Poisson, SaltPepper, Sequence, corrupt
from noise.mixture import ALPHAS, DENSITY, SIGMA_PER_ALPHA

KODAK = Path(__file__).parents[2] / "shared" / "data" / "dev" / "kodak24"
SIDE = 400


@pytest.mark.parametrize("level", [1, 3, 5])
def test_a_flat_field_has_the_variance_of_all_three_parts(level):
    x = 128 / 255
    clean = torch.full((3, SIDE, SIDE), x, dtype=torch.float64)
    clean[:, :16, :16] = torch.arange(256).reshape(16, 16) / 255  # so that V is 256 as in a photo
    made = corrupt(clean, Mixture(level=(level, level), eight_bit=False), torch.Generator().manual_seed(level))
    error = (made.noisy - clean)[:, 16:].numpy()
    alpha = ALPHAS[level - 1]
    continuous = alpha**2 * x / 256 + (SIGMA_PER_ALPHA * alpha / 255) ** 2
    lost = DENSITY / 2 * (x**2 + (1 - x) ** 2)
    want = (1 - DENSITY) * continuous + lost
    # Kurtosis below 3.1 and the variance of a squared lost sample, 1/16 of density: 5 sd of the mean square.
    sd = math.sqrt((2.1 * continuous**2 + DENSITY / 16) / error.size)
    assert abs((error**2).mean() - want) < 5 * sd
    for value in (0.0, 1.0):
        share = (made.noisy[:, 16:] == value).double().mean().item()
        assert abs(share - DENSITY / 2) < 5 * math.sqrt(DENSITY / 2 / error.size)


def test_it_is_the_sequence_of_its_parts():
    clean = torch.rand((3, 32, 32), generator=torch.Generator().manual_seed(1))
    alpha, sigma = ALPHAS[1], SIGMA_PER_ALPHA * ALPHAS[1]
    steps = (
        Poisson(alpha=(alpha, alpha), eight_bit=False),
        Gaussian(sigma=(sigma, sigma), clip=False),
        SaltPepper(density=(DENSITY, DENSITY)),
    )
    mixture = corrupt(clean, Mixture(level=(2, 2)), torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    torch.randint(2, 3, (), generator=generator)  # the level
    sequence = corrupt(clean, Sequence(steps=steps), generator)
    assert torch.equal(mixture.noisy, sequence.noisy)
    assert torch.equal(mixture.clean, clean)
    assert mixture.parameters["level"] == 2


def test_all_levels_of_the_range_are_drawn_equally_often():
    generator = torch.Generator().manual_seed(3)
    levels = [Mixture(level=(2, 5)).draw(generator)["level"] for _ in range(2000)]
    counts = np.bincount(levels, minlength=6)
    assert counts[:2].sum() == 0
    assert np.abs(counts[2:] - 500).max() < 5 * math.sqrt(2000 * 0.25 * 0.75)


@pytest.mark.parametrize("level", [(0, 3), (3, 6), (4, 2), (1.5, 2)])
def test_other_levels_are_refused(level):
    with pytest.raises(ValueError, match="level must be a range of whole numbers 1 <= lowest <= highest <= 5"):
        Mixture(level=level)


@pytest.mark.skipif(not KODAK.is_dir(), reason="needs ../shared")
def test_levels_have_the_input_psnr_of_the_poisson_noise_that_the_paper_s_networks_score_alike_on():
    from PIL import Image

    names = sorted(KODAK.glob("*.png"))[::4]
    images = [torch.from_numpy(np.asarray(Image.open(name)).transpose(2, 0, 1).copy()) for name in names]

    def psnr(recipe):
        errors = [
            (made.noisy - made.clean).square().mean().item()
            for index, image in enumerate(images)
            for made in [corrupt(image, recipe, torch.Generator().manual_seed(index))]
        ]
        return float(np.mean([-10 * math.log10(error) for error in errors]))

    # From figure 11: (baseline, Ours) of each mixture, placed between their scores at Poisson 2, 2.5, 3, 3.5.
    alphas = [2.0, 2.5, 3.0, 3.5]
    poisson = {"baseline": [27.7, 23.8, 21.2, 19.4], "ours": [30.6, 28.8, 27.1, 25.5]}
    mixtures = {"baseline": [28.1, 26.2, 23.2, 21.4, 20.1], "ours": [30.3, 29.6, 28.1, 26.9, 25.9]}
    for level in range(1, 6):
        alpha = float(
            np.mean([np.interp(-mixtures[who][level - 1], np.negative(poisson[who]), alphas) for who in poisson])
        )
        ours, theirs = psnr(Mixture(level=(level, level))), psnr(Poisson(alpha=(alpha, alpha)))
        assert abs(ours - theirs) < 0.3, (level, alpha, ours, theirs)
