"""How far deep features move when the noise changes: SRGA, after its authors' published code.

Liu et al., "Evaluating the generalization ability of super-resolution networks" (SRGA), which the masked-training
paper (arXiv 2303.13132) uses in figure 14. Of the deepest features of N patches under the trained noise (the
reference) and under another (the test):

1. PCA, fitted to each set on its own;
2. all scores together, without those beyond 5 standard deviations of their mean;
3. a generalised Gaussian around zero, fitted by moments: sigma^2 = E x^2, and the shape b in [0.2, 10) for which
   G(1/b) G(3/b) / G(2/b)^2 is nearest to E x^2 / (E |x - E x|)^2, with the gamma function G;
4. SRGA = log10(KL(reference || test) + 1e-5) + 5: 0 for equal distributions, 5 where KL is 1.

Because PCA centres and rotates each set on its own, SRGA sees how much features vary and how that is spread over
directions; a shift of all of them, or a rotation, it does not see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.cka import gram

Floats = NDArray[np.float64]

COMPONENTS = 300
"""Of the PCA in the authors' code; fewer patches have no more than their number."""

_OUTLIER = 5.0
_FLOOR = 1e-5


@dataclass(frozen=True, slots=True)
class GeneralisedGaussian:
    """Density b / (2 a G(1/b)) exp(-(|x| / a)^b) with a = sigma sqrt(G(1/b) / G(3/b))."""

    sigma: float
    """Standard deviation."""

    shape: float
    """b: 2 for a Gaussian, 1 for a Laplacian."""

    @property
    def spread(self) -> float:
        """The scale a."""
        from scipy.special import gammaln

        b = self.shape
        return float(self.sigma * np.exp((gammaln(1 / b) - gammaln(3 / b)) / 2))


def pca_scores(features: NDArray[np.floating[Any]], components: int) -> Floats:
    """Scores of a PCA of (N, ...) features: (N, components), each up to its sign.

    From the N x N products of the centred features, so that millions of dimensions cost no more memory than thousands.

    Raises:
        ValueError: ``components`` is not 1 to N.
    """
    return scores_of_gram(gram(features), components)


def scores_of_gram(products: Floats, components: int) -> Floats:
    """Scores of a PCA, from the products (N, N) of centred features.

    Centred, N examples span N - 1 dimensions, so component N, if asked for, has scores of 0.

    Raises:
        ValueError: ``components`` is not 1 to N.
    """
    count = len(products)
    if not 1 <= components <= count:
        raise ValueError(f"components must be 1 to the number of examples {count}, got {components}")
    values, vectors = np.linalg.eigh(products)
    chosen = slice(None, -components - 1, -1)
    # With U S V' = X: the scores X V are U S, and X X' = U S^2 U'. Rounding leaves tiny negative squares.
    scores: Floats = vectors[:, chosen] * np.sqrt(np.maximum(values[chosen], 0))
    return scores


def without(products: Floats, left_out: slice) -> Floats:
    """Products of centred features without some of the examples, centred again."""
    kept = np.delete(np.delete(products, left_out, 0), left_out, 1)
    kept -= kept.mean(0)
    centred: Floats = kept - kept.mean(1, keepdims=True)
    return centred


def fit_scores(scores: Floats) -> GeneralisedGaussian:
    """Fit all scores, of any shape, without outliers.

    Raises:
        ValueError: they are all 0: the features are the same for every example.
    """
    flat = scores.ravel()
    return fit_moments(flat[np.abs(flat - flat.mean()) <= _OUTLIER * flat.std()])


def fit_moments(values: Floats) -> GeneralisedGaussian:
    """Fit a generalised Gaussian around zero to (N,) values.

    Raises:
        ValueError: they are all equal.
    """
    from scipy.special import gammaln

    square = np.mean(np.square(values))
    absolute = np.mean(np.abs(values - values.mean()))
    if absolute == 0:
        raise ValueError("values must differ, got equal ones")
    grid = np.arange(0.2, 10, 0.001)
    ratio = np.exp(gammaln(1 / grid) + gammaln(3 / grid) - 2 * gammaln(2 / grid))
    nearest = int(np.argmin(np.abs(square / absolute**2 - ratio)))
    return GeneralisedGaussian(sigma=float(np.sqrt(square)), shape=float(grid[nearest]))


def divergence(reference: GeneralisedGaussian, test: GeneralisedGaussian) -> float:
    """KL(reference || test) in nats, in closed form."""
    from scipy.special import gammaln

    b1, b2 = reference.shape, test.shape
    a1, a2 = reference.spread, test.spread
    heights = np.log(b1 * a2 / (b2 * a1)) + gammaln(1 / b2) - gammaln(1 / b1)
    tail = np.exp(b2 * np.log(a1 / a2) + gammaln((b2 + 1) / b1) - gammaln(1 / b1))
    return float(heights - 1 / b1 + tail)


def srga_of(kl: float) -> float:
    """SRGA of a divergence; rounding may leave one a little below 0."""
    return float(np.log10(max(kl, 0.0) + _FLOOR) + 5)


def srga(reference: NDArray[np.floating[Any]], test: NDArray[np.floating[Any]], components: int = COMPONENTS) -> float:
    """SRGA of two sets of features.

    Args:
        reference: (N, ...) deepest features under the trained noise.
        test: (M, ...) under another one.
        components: of the PCA; at most N and M. The authors take 300 of at least 300 patches; with another number the
            value is another one, so compare only what has the same.

    Raises:
        ValueError: ``components`` is out of range, or features do not vary.
    """
    fits = (fit_scores(pca_scores(features, components)) for features in (reference, test))
    return srga_of(divergence(*fits))
