"""The Tukey-lambda distribution against float64 oracles, SciPy and its own closed forms."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import tukeylambda

from noise.tukey_lambda import quantile, sample, variance

ORACLE = Path(__file__).parent / "oracles" / "tukey_lambda.npz"
COUNT = 400_000


def test_quantiles_equal_the_oracle():
    data = np.load(ORACLE)
    for shape, expected in zip(data["lam"].tolist(), data["quantiles"], strict=True):
        np.testing.assert_allclose(quantile(data["p"], shape), expected, rtol=1e-9, atol=1e-15)


def test_variances_equal_the_oracle():
    data = np.load(ORACLE)
    ours = [variance(shape) for shape in data["lam"].tolist()]
    np.testing.assert_allclose(ours, data["variance"], rtol=1e-9)
    np.testing.assert_allclose(ours, data["variance_closed_form"], rtol=1e-9)


@pytest.mark.parametrize("shape", [0.0, 1e-12, -1e-7, 1e-5, 9.99e-4, -9.99e-4, 1.001e-3, -1.001e-3, -0.49])
def test_the_variance_is_smooth_through_zero(shape):
    assert variance(shape) == pytest.approx(float(tukeylambda.var(shape)), rel=1e-9)


def test_an_infinite_variance_is_refused():
    with pytest.raises(ValueError, match=r"a shape above -1/2, got -0\.5"):
        variance(-0.5)


@pytest.mark.parametrize("shape", [-0.243, -0.1, 0.0, 1e-4, 0.14, 0.2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_have_the_distribution(shape, dtype):
    values = sample((COUNT,), shape, torch.Generator().manual_seed(1), dtype=dtype).double().numpy()
    empirical = np.arange(1, COUNT + 1) / COUNT
    # Dvoretzky-Kiefer-Wolfowitz at odds of 1e-5.
    distance = np.abs(tukeylambda.cdf(np.sort(values), shape) - empirical).max()
    assert distance < math.sqrt(math.log(2e5) / (2 * COUNT)) + 1 / COUNT
    # A sample variance has variance (excess kurtosis + 2) var^2 / n; near -1/4 the kurtosis grows without limit.
    kurtosis = float(tukeylambda.stats(shape, moments="k")) if shape > -0.2 else 100.0
    assert abs(values.var() / variance(shape) - 1) < 5 * math.sqrt((kurtosis + 2) / COUNT)
    assert abs(values.mean()) < 5 * math.sqrt(variance(shape) / COUNT)


def test_float32_samples_are_float64_samples_rounded():
    """A float32 probability has no value in (0, 6e-8), and 4 million of its 16 million values collide."""
    single, double = (
        sample((2**22,), -0.25, torch.Generator().manual_seed(4), dtype=dtype)
        for dtype in (torch.float32, torch.float64)
    )
    np.testing.assert_allclose(single.numpy(), double.numpy(), rtol=2e-6, atol=2e-7)
    assert double.isfinite().all()
    assert len(double.unique()) == len(double)


def test_both_tails_are_alike():
    values = sample((COUNT,), -0.2, torch.Generator().manual_seed(3)).numpy()
    for probability in (1e-4, 1e-3, 1e-2):
        edge = -quantile(np.array(probability), -0.2)
        allowed = 5 * math.sqrt(probability / COUNT)
        assert abs((values > edge).mean() - probability) < allowed
        assert abs((values < -edge).mean() - probability) < allowed
