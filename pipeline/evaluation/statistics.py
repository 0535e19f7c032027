"""What the numbers of many images say together: means with intervals, differences with p-values, spread over seeds.

Every image is taken for one independent draw. Images of one scene or one camera are not, and then intervals are too
narrow and p-values too small: `docs/metrics.md` says more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
"""Of every interval."""

RESAMPLES = 10_000
"""Of every bootstrap, and random sign patterns of a test that is not exact."""

LEAST_FOR_INTERVAL = 6
"""Fewer images get no interval: below, even the range of the values holds a median in less than 95 of 100 sets."""

EXACT_UP_TO = 18
"""Up to so many differences all 2^n sign patterns are tried."""

_CHUNK = 1 << 22

Values = NDArray[np.float64]


def summarise(values: Sequence[float | None], *, seed: int = 0) -> dict[str, Any]:
    """Return the mean of a metric over images, and how sure it is.

    Args:
        values: one an image; None and what is not finite (equal images have an infinite PSNR) are left out.
        seed: of the resamples.

    Returns:
        mean: None if no value is left; interval: [low, high] that holds the true mean of 95 of 100 such sets, by the
        bootstrap, None below 6 values; n: how many values the mean is of.
    """
    finite = _finite(values)
    return {
        "mean": float(finite.mean()) if finite.size else None,
        "interval": _interval(finite, seed),
        "n": int(finite.size),
    }


def paired(
    a: Sequence[float | None], b: Sequence[float | None], *, seed: int = 0, higher_is_better: bool = True
) -> dict[str, Any]:
    """Compare two methods on the same images.

    None stands for infinity, as in our JSON files: the method returned the clean image. Where both did, the difference
    is zero; where one did, it won, but there is no finite difference, and the image counts in wins and losses alone.
    Images with a value that is no number are left out.

    Args:
        a: values of the first method, one an image.
        b: values of the second one, in the same order.
        seed: of the resamples and of the sign patterns.
        higher_is_better: False for a distance such as LPIPS; decides who wins.

    Returns:
        difference: mean of a - b, None without a finite one; interval: [low, high] of it, as for `summarise`; p: that
        so large a mean difference of either sign comes about when neither method is better, by flipping signs; wins,
        losses: images on which a is better, or worse; n: images compared, the ties among them.

    Raises:
        ValueError: the lengths differ.
    """
    if len(a) != len(b):
        raise ValueError(f"expected values of the same images, got {len(a)} and {len(b)}")
    first, second = _with_infinity(a), _with_infinity(b)
    usable = ~(np.isnan(first) | np.isnan(second))
    first, second = first[usable], second[usable]
    equal = first == second
    better = (first > second) if higher_is_better else (first < second)
    # Infinity minus itself is no number, and here it is zero.
    differences = np.where(equal, 0.0, first - np.where(equal, 0.0, second))
    finite = differences[np.isfinite(differences)]
    return {
        "difference": float(finite.mean()) if finite.size else None,
        "interval": _interval(finite, seed),
        "p": sign_flip_p(finite, seed=seed),
        "wins": int(np.count_nonzero(better)),
        "losses": int(np.count_nonzero(~better & ~equal)),
        "n": int(first.size),
    }


def sign_flip_p(differences: Values, *, seed: int = 0) -> float | None:
    """Return the two-sided p-value of a mean difference by flipping signs (Fisher 1935).

    If neither method is better, a difference is as likely as its negative. Up to 18 differences that are not zero, the
    value is exact: the share of all sign patterns whose mean is at least as far from zero. Beyond, it is
    (1 + count) / (1 + 10000) over random patterns (Phipson and Smyth 2010), which is never zero.

    Args:
        differences: finite values.
        seed: of the random patterns.

    Returns:
        In (0, 1]; None without differences.
    """
    if not differences.size:
        return None
    moved = differences[differences != 0]
    # Patterns that give the same sum in another order must count as the same.
    limit = abs(moved.sum()) - 1e-12 * np.abs(moved).sum()
    if moved.size <= EXACT_UP_TO:
        sums = np.zeros(1)
        for value in moved:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= limit))
    generator = np.random.default_rng(seed)
    count = 0
    for rows in _chunks(moved.size):
        plus = generator.integers(0, 2, (rows, moved.size), dtype=np.int8)
        sums = 2 * (plus @ moved) - moved.sum()
        count += int(np.count_nonzero(np.abs(sums) >= limit))
    return (1 + count) / (1 + RESAMPLES)


def spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Return how a number differs between trainings that differ by their seed alone.

    Args:
        values: one a training; None and what is not finite are left out.

    Returns:
        mean: None without a value; sd: sample standard deviation (n - 1), None below two; n.
    """
    finite = _finite(values)
    return {
        "mean": float(finite.mean()) if finite.size else None,
        "sd": float(finite.std(ddof=1)) if finite.size > 1 else None,
        "n": int(finite.size),
    }


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values of several comparisons (Holm 1979), so that all together err in 5 of 100 cases, not each.

    The smallest of m is multiplied by m, the next one by m - 1 and so on; none comes out below a smaller one before it.

    Args:
        ps: p-values; None ones are no comparisons.

    Returns:
        In the same order, at most 1; None stays None.
    """
    known = sorted((p, index) for index, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[index] = largest
    return adjusted


def _interval(values: Values, seed: int) -> list[float] | None:
    """Percentile bootstrap of the mean, widened for few values (Hesterberg 2015).

    Percentiles of resampled means are too close together by sqrt((n - 1) / n), and by taking the normal distribution
    for that of Student. Both are mended by asking for percentiles further out.
    """
    from scipy.special import ndtr, stdtrit

    if values.size < LEAST_FOR_INTERVAL:
        return None
    count = values.size
    tail = float(ndtr(math.sqrt(count / (count - 1)) * stdtrit(count - 1, (1 - LEVEL) / 2)))
    generator = np.random.default_rng(seed)
    means = np.concatenate(
        [values[generator.integers(0, count, (rows, count), dtype=np.uint32)].mean(axis=1) for rows in _chunks(count)]
    )
    low, high = np.quantile(means, [tail, 1 - tail])
    return [float(low), float(high)]


def _chunks(width: int) -> list[int]:
    """Split the resamples into blocks that do not take much memory."""
    rows = max(1, min(RESAMPLES, _CHUNK // max(width, 1)))
    whole, rest = divmod(RESAMPLES, rows)
    return [rows] * whole + ([rest] if rest else [])


def _finite(values: Sequence[float | None]) -> Values:
    kept = [value for value in values if value is not None and math.isfinite(value)]
    return np.array(kept, dtype=np.float64)


def _with_infinity(values: Sequence[float | None]) -> Values:
    return np.array([math.inf if value is None else value for value in values], dtype=np.float64)
