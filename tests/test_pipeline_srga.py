"""SRGA: each step against an independent one, and the whole against a restatement in float64."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.evaluation.cka import gram
from pipeline.evaluation.srga import (
    GeneralisedGaussian,
    divergence,
    fit_moments,
    fit_scores,
    pca_scores,
    srga,
    srga_of,
    without,
)

Floats = NDArray[np.float64]


def features(seed: int, count: int, scale: float = 1.0) -> Floats:
    """Features (N, 3, 8, 8) whose directions differ in strength."""
    generator = np.random.default_rng(seed)
    strengths = generator.gamma(0.7, size=192) * scale
    return (generator.normal(size=(count, 192)) * strengths + 5).reshape(count, 3, 8, 8)


def restated(reference: Floats, test: Floats, components: int) -> float:
    """The steps as the authors' code has them, with an SVD and the gamma function itself."""
    fits = []
    for one in (reference, test):
        flat = one.reshape(len(one), -1)
        u, s, _ = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
        x = (u * s)[:, :components].ravel()
        x = x[(x >= x.mean() - 5 * x.std()) & (x <= x.mean() + 5 * x.std())]
        rho = np.mean(x**2) / np.mean(np.abs(x - x.mean())) ** 2
        best, shape = math.inf, 0.0
        for g in np.arange(0.2, 10, 0.001):
            miss = abs(rho - math.gamma(1 / g) * math.gamma(3 / g) / math.gamma(2 / g) ** 2)
            if miss < best:
                best, shape = miss, float(g)
        fits.append((math.sqrt(np.mean(x**2)), shape))
    (s1, b1), (s2, b2) = fits
    gamma = math.gamma
    i1 = b1 * s2 * gamma(1 / b2) * math.sqrt(gamma(1 / b2) * gamma(3 / b1))
    i2 = b2 * s1 * gamma(1 / b1) * math.sqrt(gamma(1 / b1) * gamma(3 / b2))
    i3 = s1 * math.sqrt(gamma(1 / b1) * gamma(3 / b2))
    i4 = s2 * math.sqrt(gamma(1 / b2) * gamma(3 / b1))
    kl = math.log(i1 / i2) - 1 / b1 + (i3 / i4) ** b2 * gamma(b2 / b1 + 1 / b1) / gamma(1 / b1)
    return math.log10(kl + 1e-5) + 5


def test_a_set_does_not_differ_from_itself() -> None:
    one = features(0, 20)
    assert srga(one, one, 20) == pytest.approx(0, abs=1e-9)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(192, 192)))[0]
    turned = (one.reshape(20, -1) @ rotation - 40).reshape(one.shape)
    assert srga(one, turned, 15) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("scale", "components"), [(1.3, 12), (0.4, 30), (1.02, 29)])
def test_equals_the_restatement(scale: float, components: int) -> None:
    reference, test = features(0, 30), features(1, 40, scale)
    assert srga(reference, test, components) == pytest.approx(restated(reference, test, components), abs=1e-6)


def test_scores_are_those_of_an_independent_pca_up_to_their_signs() -> None:
    one = features(3, 25)
    flat = one.reshape(25, -1)
    ours = pca_scores(one, 25)
    u, s, _ = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(ours[:, :24]), np.abs(u * s)[:, :24], atol=1e-8)
    assert np.abs(ours[:, 24]).max() < 1e-5  # 25 centred examples span 24 dimensions
    decomposition = pytest.importorskip("sklearn.decomposition")
    theirs = decomposition.PCA(n_components=20, svd_solver="full").fit_transform(flat)
    np.testing.assert_allclose(np.abs(ours[:, :20]), np.abs(theirs), atol=1e-8)


@pytest.mark.parametrize(("name", "shape"), [("normal", 2.0), ("laplace", 1.0)])
def test_moments_find_known_shapes(name: str, shape: float) -> None:
    values = getattr(np.random.default_rng(0), name)(0, 3, size=400_000)
    found = fit_moments(values)
    # By the delta method the logarithm of E x^2 / (E |x|)^2 has a variance of 1 / n (Laplace) and 0.283 / n (Gaussian),
    # and its slope in the shape is -0.50 and -0.11: an sd of the shape of 0.0032 and 0.0074. 5 sd, and the grid.
    assert found.shape == pytest.approx(shape, abs=5 * 0.0074 + 0.0005)
    assert found.sigma == pytest.approx(values.std(), rel=1e-3)


def test_the_divergence_equals_the_integral() -> None:
    integrate = pytest.importorskip("scipy.integrate")

    def log_density(x: float, one: GeneralisedGaussian) -> float:
        b = one.shape
        a = one.sigma * math.sqrt(math.gamma(1 / b) / math.gamma(3 / b))
        return math.log(b / (2 * a * math.gamma(1 / b))) - (abs(x) / a) ** b

    pairs = [((1.0, 2.0), (1.5, 2.0)), ((1.0, 1.0), (0.8, 2.5)), ((0.02, 0.7), (0.03, 0.6)), ((2.0, 6.0), (2.0, 1.0))]
    for first, second in pairs:
        reference, test = GeneralisedGaussian(*first), GeneralisedGaussian(*second)

        def integrand(x: float, r: GeneralisedGaussian = reference, t: GeneralisedGaussian = test) -> float:
            return 2 * math.exp(log_density(x, r)) * (log_density(x, r) - log_density(x, t))

        ends = np.array([0, 0.01, 0.1, 1, 5, 20, 100]) * first[0]
        whole = sum(integrate.quad(integrand, *pair, limit=200)[0] for pair in itertools.pairwise(ends))
        assert divergence(reference, test) == pytest.approx(whole, rel=1e-6)
    assert divergence(reference, reference) == pytest.approx(0, abs=1e-12)


def test_outliers_beyond_five_standard_deviations_do_not_count() -> None:
    values = np.random.default_rng(0).normal(size=10_000)
    with_outlier = np.append(values, 1e3)
    # The outlier makes the standard deviation 10; it alone is beyond 50.
    assert fit_scores(with_outlier) == fit_moments(values)


def test_the_scale_of_srga() -> None:
    assert srga_of(0.0) == pytest.approx(0)
    assert srga_of(-1e-17) == pytest.approx(0)
    assert srga_of(1.0) == pytest.approx(5, abs=1e-5)


def test_what_has_no_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="1 to the number of examples 20, got 21"):
        srga(features(0, 20), features(1, 20), 21)
    with pytest.raises(ValueError, match="must differ"):
        srga(np.ones((5, 3)), features(1, 5), 5)


def test_moments_are_around_zero_and_deviations_around_the_mean() -> None:
    """As the definition has it: sigma^2 = E x^2, and E |x - E x| below it."""
    values = np.array([0.0, 1.0, 1.0, 2.0, 6.0])
    found = fit_moments(values)
    assert found.sigma == pytest.approx(math.sqrt(42 / 5))
    ratio = (42 / 5) / (8 / 5) ** 2  # the mean is 2
    shapes = np.arange(0.2, 10, 0.001)
    expected = [math.gamma(1 / b) * math.gamma(3 / b) / math.gamma(2 / b) ** 2 for b in shapes]
    assert found.shape == pytest.approx(shapes[int(np.argmin(np.abs(np.array(expected) - ratio)))])


def test_what_is_left_out_of_the_products_is_left_out_of_the_features() -> None:
    one = features(0, 20)
    products = without(gram(one), slice(5, 9))
    np.testing.assert_allclose(products, gram(np.delete(one, slice(5, 9), 0)), atol=1e-9)
