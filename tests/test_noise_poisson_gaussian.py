"""Photons counted one by one: moments, lattice and shape against the exact distribution."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm, poisson

from noise.poisson_gaussian import add_poisson_gaussian, shot_noise
from noise.shot_read import NoiseLevel

COUNT = 400_000


def noisy(x, shot, read, seed=1, dtype=torch.float64):
    raw = torch.full((COUNT,), x, dtype=dtype)
    return add_poisson_gaussian(raw, NoiseLevel(shot=shot, read=read), torch.Generator().manual_seed(seed))


def cumulants(x, shot, read):
    """Exact: those of Poisson are all x / shot, times shot^k; a normal has the first two only."""
    return x, shot * x + read, shot**2 * x, shot**3 * x


@pytest.mark.parametrize(("shot", "read"), [(0.01, 5e-4), (0.012, 1e-6), (1e-4, 1e-6), (0.2, 1e-3), (0.0, 1e-4)])
@pytest.mark.parametrize("x", [0.0, 0.02, 0.4, 1.0])
def test_mean_variance_and_skewness_are_exact(x, shot, read):
    values = noisy(x, shot, read).numpy() - x
    _, variance, third, fourth = cumulants(x, shot, read)
    sixth = shot**5 * x
    # Variances of the sample moments in central moments m2, m4, m6 (m from cumulants); 5 sd each.
    m4 = fourth + 3 * variance**2
    m6 = sixth + 15 * fourth * variance + 10 * third**2 + 15 * variance**3
    assert abs(values.mean()) <= 5 * math.sqrt(variance / COUNT)
    assert abs((values**2).mean() - variance) <= 5 * math.sqrt((m4 - variance**2) / COUNT)
    assert abs((values**3).mean() - third) <= 5 * math.sqrt((m6 - third**2) / COUNT)


@pytest.mark.parametrize("photons", [0.5, 5.0, 11.0, 40.0, 3000.0])
def test_counts_follow_the_poisson_distribution(photons):
    shot = 1e-3
    light = torch.full((COUNT,), photons * shot)
    counts = (shot_noise(light, shot, torch.Generator().manual_seed(2)) / shot).numpy()
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-3)
    steps = np.arange(counts.max() + 1)
    empirical = np.searchsorted(np.sort(np.round(counts)), steps, side="right") / COUNT
    # Dvoretzky-Kiefer-Wolfowitz: the largest distance passes sqrt(ln(2 / odds) / 2n) once in 1e5 tests.
    assert np.abs(empirical - poisson.cdf(steps, photons)).max() < math.sqrt(math.log(2e5) / (2 * COUNT))


def test_below_an_electron_of_read_noise_the_sum_has_its_exact_distribution():
    shot, read, x = 0.02, 2.5e-5, 0.05  # 2.5 photons, read noise of a quarter of an electron
    values = np.sort(noisy(x, shot, read, seed=3).numpy())
    k = np.arange(40)[:, None]
    grid = np.linspace(-0.02, 0.3, 400)
    exact = (poisson.pmf(k, x / shot) * norm.cdf(grid, loc=shot * k, scale=math.sqrt(read))).sum(axis=0)
    empirical = np.searchsorted(values, grid) / COUNT
    assert np.abs(empirical - exact).max() < math.sqrt(math.log(2e5) / (2 * COUNT))
    # A Gaussian of the same variance is somewhere else, by far more.
    gaussian = norm.cdf(grid, loc=x, scale=math.sqrt(shot * x + read))
    assert np.abs(exact - gaussian).max() > 0.05


def test_with_many_photons_it_is_the_gaussian():
    level = NoiseLevel(shot=1e-4, read=1e-6)
    values = (noisy(0.5, level.shot, level.read, seed=4) - 0.5) / math.sqrt(level.shot * 0.5 + level.read)
    distance = np.abs(norm.cdf(np.sort(values.numpy())) - np.arange(1, COUNT + 1) / COUNT).max()
    # The first term of the Edgeworth series: skewness / (6 sqrt(2 pi)) = 9e-4 at 5000 photons.
    assert distance < 0.0009 + math.sqrt(math.log(2e5) / (2 * COUNT)) + 1 / COUNT


def test_below_black_values_keep_their_mean():
    values = noisy(-0.1, 0.01, 1e-4, seed=5).numpy()
    assert abs(values.mean() + 0.1) < 5 * math.sqrt(1e-4 / COUNT)
    assert abs(values.var() - 1e-4) < 5 * math.sqrt(2 / COUNT) * 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype_are_kept_and_the_input_is_untouched(dtype):
    raw = torch.rand((2, 4, 5, 6), generator=torch.Generator().manual_seed(1), dtype=dtype)
    kept = raw.clone()
    made = add_poisson_gaussian(raw, NoiseLevel(shot=0.01, read=1e-4), torch.Generator().manual_seed(1))
    assert made.shape == raw.shape
    assert made.dtype == dtype
    assert torch.equal(raw, kept)


def test_arrays_are_taken_and_returned():
    raw = np.full((4, 8, 8), 0.3, dtype=np.float32)
    level = NoiseLevel(shot=0.01, read=1e-4)
    made = add_poisson_gaussian(raw, level, torch.Generator().manual_seed(1))
    same = add_poisson_gaussian(torch.from_numpy(raw), level, torch.Generator().manual_seed(1))
    assert isinstance(made, np.ndarray)
    np.testing.assert_array_equal(made, same.numpy())
