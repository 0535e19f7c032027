"""How alike two representations are: linear CKA in minibatches, with the unbiased HSIC_1.

Song et al., "Feature selection via dependence maximization", JMLR 2012, equation 5 (HSIC_1); Nguyen, Raghu and
Kornblith, arXiv 2010.15327, section 3.1 (minibatch CKA). The masked-training paper (arXiv 2303.13132) shows it in
figure 12. With features X and Y of the same n examples, K = X X' and L = Y Y' with zeros on their diagonals:

    HSIC_1(K, L) = (tr(K L) + (1'K 1)(1'L 1) / ((n - 1)(n - 2)) - 2 / (n - 2) 1'K L 1) / (n (n - 3))
    CKA = mean_b HSIC_1(K, L) / sqrt(mean_b HSIC_1(K, K) mean_b HSIC_1(L, L)), over batches b

0: independent; 1: equal up to rotation and scale. HSIC_1 of a batch is an unbiased estimate whatever its size, so
batches may be small, and CKA can come out a little below 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Features = NDArray[np.floating[Any]]
"""(n, ...), one row an example, any shape behind."""

LEAST = 4
"""Examples that a batch needs: HSIC_1 divides by n - 3."""

# Values that are float64 at once: 16 MB.
_AT_ONCE = 1 << 21


def gram(features: Features) -> Floats:
    """Products of all pairs of examples, (n, n) float64.

    Features are centred first. HSIC_1 does not see that (a number added to a row and the column of an example
    cancels), but its sums would otherwise lose digits where the mean of the features is large.

    Args:
        features: (n, ...), any range.
    """
    rows = features.reshape(len(features), -1)
    return gram_of_parts(rows[:, start:stop] for start, stop in columns(*rows.shape))


def gram_of_parts(parts: Iterable[Features]) -> Floats:
    """The same of features (n, D) that come some columns at a time."""
    total: Any = 0.0
    for one in parts:
        part = one.astype(np.float64)
        part -= part.mean(0)
        total = total + part @ part.T
    return np.asarray(total)


def columns(count: int, width: int) -> Iterator[tuple[int, int]]:
    """Cut ``width`` columns of ``count`` rows into parts of a few million values: their first columns and ends."""
    step = max(1, _AT_ONCE // count)
    for start in range(0, width, step):
        yield start, min(start + step, width)


def hsic(left: Floats, right: Floats) -> Floats:
    """HSIC_1 of all pairs of layers in one batch.

    Args:
        left: (A, n, n) Gram matrices of A layers; diagonals do not matter.
        right: (B, n, n), of the same examples.

    Returns:
        (A, B).

    Raises:
        ValueError: fewer than 4 examples, or different numbers of them.
    """
    n = left.shape[-1]
    if n < LEAST:
        raise ValueError(f"a batch must have at least {LEAST} examples, got {n}")
    if left.shape[1:] != (n, n) or right.shape[1:] != (n, n):
        raise ValueError(f"both sides must have the same examples, got {left.shape[1:]} and {right.shape[1:]}")
    apart = 1 - np.eye(n)
    k, l = left * apart, right * apart  # noqa: E741  as in the equation
    traces = np.einsum("aij,bij->ab", k, l)
    sums_k, sums_l = k.sum(2), l.sum(2)
    product = np.outer(sums_k.sum(1), sums_l.sum(1)) / ((n - 1) * (n - 2))
    result: Floats = (traces + product - 2 / (n - 2) * sums_k @ sums_l.T) / (n * (n - 3))
    return result


class MinibatchCka:
    """CKA of all pairs of layers of two sides, batch by batch."""

    def __init__(self) -> None:
        self._cross: list[Floats] = []
        self._left: list[Floats] = []
        self._right: list[Floats] = []

    def add(self, left: Floats, right: Floats, *, joined: bool = False) -> None:
        """Count one batch in.

        Args:
            left: (A, n, n) of `gram`, one a layer.
            right: (B, n, n), of the same examples.
            joined: it belongs to the batch before (another draw of the same examples), and is left out with it.

        Raises:
            ValueError: as `hsic`, or other numbers of layers than before.
        """
        cross = hsic(left, right)
        if self._cross and cross.shape != self._cross[0].shape:
            raise ValueError(f"batches must have the same layers, got {cross.shape} after {self._cross[0].shape}")
        own = [np.array([hsic(one[None], one[None])[0, 0] for one in side]) for side in (left, right)]
        for sums, part in zip((self._cross, self._left, self._right), (cross, *own), strict=True):
            if joined:
                sums[-1] = sums[-1] + part
            else:
                sums.append(part)

    def value(self) -> Floats:
        """CKA (A, B); NaN for layers whose features are the same for all examples.

        Raises:
            ValueError: no batch has been added.
        """
        if not self._cross:
            raise ValueError("CKA needs at least one batch, got none")
        # A mean is a sum over the number of batches, which cancels.
        return _ratio(sum(self._cross), sum(self._left), sum(self._right))

    def without(self) -> Floats:
        """The value (batches, A, B) without each of at least two batches, for `jackknife_error`; none of one batch."""
        if len(self._cross) < 2:
            return np.empty((0, *self.value().shape))
        sums = [sum(part) for part in (self._cross, self._left, self._right)]
        batches = zip(self._cross, self._left, self._right, strict=True)
        return np.stack([_ratio(*(whole - one for whole, one in zip(sums, part, strict=True))) for part in batches])


def jackknife_error(without: Floats) -> Floats:
    """Standard error of a statistic from its values (B, ...) without each of B batches; NaN for fewer than two.

    For a difference take the difference of two such arrays over the same batches: what they have in common cancels.
    """
    count = len(without)
    if count < 2:
        return np.full(without.shape[1:], np.nan)
    error: Floats = np.sqrt((count - 1) * np.mean(np.square(without - without.mean(0)), axis=0))
    return error


def _ratio(cross: Any, left: Any, right: Any) -> Floats:
    scales = (np.sqrt(np.where(own > 0, own, np.nan)) for own in (left, right))
    result: Floats = cross / np.outer(*scales)
    return result


def minibatch_cka(left: Iterable[Sequence[Features]], right: Iterable[Sequence[Features]]) -> Floats:
    """CKA of all pairs of layers of two sides.

    Args:
        left: batches; each holds the features (n, ...) of A layers, n >= 4.
        right: as many batches of the same examples, in the same order, of B layers.

    Returns:
        (A, B).

    Raises:
        ValueError: other numbers of batches, of examples or of layers; no batch; fewer than 4 examples.
    """
    total = MinibatchCka()
    for layers_left, layers_right in zip(left, right, strict=True):
        total.add(np.stack([gram(one) for one in layers_left]), np.stack([gram(one) for one in layers_right]))
    return total.value()
