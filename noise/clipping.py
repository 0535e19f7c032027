"""Gaussian noise that a sensor has clipped: what is seen of it, and the way back to what was there."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

USABLE: Final = 0.65
"""Where clipping leaves less than this share of the variance, too little of the noise is seen."""

DOUBT: Final = 0.2
"""Relative error of a corrected variance per share that was lost: levels differ inside of a group."""

_REACH: Final = 5.0
_STEPS: Final = 400
_NODES: Final = 201
_FAR: Final = 100.0


@dataclass(frozen=True, slots=True)
class Clipped:
    """Noise on the line ``shot * x + read``, clipped: what is seen of it, tabulated over the true level."""

    seen: Floats
    """(K,) mean level after clipping, rising."""

    true: Floats
    """(K,) mean level before."""

    kept: Floats
    """(K,) share of the variance that is left."""

    kurtosis: Floats
    """(K,) excess kurtosis of what is left, 0 without clipping."""

    def expected(self, seen: NDArray[np.floating], line: Callable[[Floats], Floats]) -> Floats:
        """Variance of the data where their mean is ``seen``, from the ``line`` of variances before clipping."""
        return np.asarray(np.interp(seen, self.seen, self.kept * line(self.true)))

    def undone(
        self, seen: Floats, variance: Floats, *, excess: float
    ) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
        """Levels and variances before clipping, the relative error of that, and where enough is left to tell them.

        Args:
            seen: (N,) mean levels of the data.
            variance: (N,) variances of the data.
            excess: relative error that the estimator of the variances makes per unit of excess kurtosis.
        """
        share, kurtosis = (np.interp(seen, self.seen, values) for values in (self.kept, self.kurtosis))
        usable = share >= USABLE
        factor = np.maximum(share * (1 + excess * np.clip(kurtosis, -1, 0)), 1e-3)
        return np.interp(seen, self.seen, self.true), variance / factor, DOUBT * (1 - share), usable


def clipped(shot: float, read: float, clip: tuple[float, float], *, floor: float) -> Clipped:
    """Tabulate what clipping leaves of Gaussian noise.

    Args:
        shot: slope of the variance.
        read: variance at black.
        clip: (lowest, highest) level of the data; both may be infinite.
        floor: least variance, where the line falls below it.
    """
    low, high = (min(max(end, -_FAR), _FAR) for end in clip)
    deviation = math.sqrt(max(shot * high + read, shot * low + read, floor))
    near = np.linspace(-_REACH, _REACH, _STEPS) * deviation
    true = np.unique(np.concatenate([low + near, high + near]))
    sigma = np.sqrt(np.maximum(shot * true + read, floor))
    mean, variance, kurtosis = clipped_moments(true, sigma, (low, high))
    return Clipped(np.maximum.accumulate(mean), true, variance / np.square(sigma), kurtosis)


def clipped_moments(mean: Floats, sigma: Floats, clip: tuple[float, float]) -> tuple[Floats, Floats, Floats]:
    """Mean, variance and excess kurtosis of ``min(max(y, low), high)`` for Gaussian y, by numerical integration.

    Args:
        mean: (K,) of y.
        sigma: (K,) standard deviation of y.
        clip: (low, high).
    """
    nodes = np.linspace(-6, 6, _NODES)
    weight = np.exp(-np.square(nodes) / 2)
    weight /= weight.sum()
    values = np.clip(mean[:, None] + sigma[:, None] * nodes, *clip)
    centre = values @ weight
    squares = np.square(values - centre[:, None])
    variance = squares @ weight
    kurtosis = np.square(squares) @ weight / np.maximum(np.square(variance), 1e-60) - 3
    return centre, variance, kurtosis
