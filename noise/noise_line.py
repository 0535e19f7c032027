"""The noise line Var[y | x] = shot * x + read of a camera, as measured: with intervals, and silent where data are.

A measured line is a weighted least-squares line through (level, variance) points. The variance of a sample variance
is proportional to the square of the variance itself, so the weights come from the fitted line and the fit is repeated
(iteratively reweighted least squares, the quasi-likelihood of a gamma variable with an identity link). Physics adds
two facts, shot >= 0 and read >= 0: where the unconstrained line crosses black below zero, it is bent to read = 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Method = Literal["single image", "flat pair", "noise profile", "masked border", "flat patches"]
Interval = tuple[float, float]
Floats = NDArray[np.float64]

TOLD: Final = 0.3
"""A coefficient whose 95 % interval reaches further than this share of it is not told."""

NOT_LINEAR: Final = "not linear: the variance falls with the level, as in data after a tone curve"
"""Photon noise never does that."""

NORMAL_95: Final = 1.96
_FALLING: Final = 4.0
_FALL: Final = 0.1
_FLOOR: Final = 0.03
"""Of the median variance: below it no variance is expected, lest one point of it takes all the weight."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseLine:
    """Measured variance line of one channel, in normalised units (black 0, white 1)."""

    shot: float | None
    """Slope; None if the data cannot tell it: then the interval still bounds it."""

    read: float | None
    """Variance at black, rounding included; None if the data cannot tell it: then the interval still bounds it."""

    shot_interval: Interval
    """95 % interval of the slope, never below 0; the upper end may be infinite."""

    read_interval: Interval
    """95 % interval of the variance at black, never below 0; the upper end may be infinite."""

    method: Method
    """How it was measured."""

    curve: tuple[tuple[float, float, float], ...] = ()
    """The points (level, variance, weight) that the line was put through; a weight is 1 / relative error squared."""

    prnu: float = 0.0
    """Relative deviation of the pixels' sensitivity (PRNU): a further variance (prnu x)^2 that the points show and the
    line leaves out; 0 if they show none. Texture in bright areas looks the same."""

    note: str = ""
    """Why a coefficient is missing, or what to beware of, in words; empty if there is nothing to say."""

    def variance(self, level: float) -> float | None:
        """Variance at ``level``, never below 0; None if a coefficient is missing."""
        if self.shot is None or self.read is None:
            return None
        return max(self.shot * level + self.read, 0.0)


@dataclass(frozen=True, slots=True)
class Fit:
    """An unconstrained weighted line: coefficients (shot, read) and what is known of their errors."""

    shot: float
    read: float
    covariance: Floats
    """(2, 2) of shot and read, scaled up where the points scatter more than their errors explain."""

    pull: Floats
    """(2, N) change of the coefficients per unit of each point's variance."""

    dispersion: float
    """Scatter of the points about the line in units of their errors, squared; 1 is expected."""

    bend: float = 0.0
    """Coefficient of the square of the level, where it was fitted too."""

    bend_error: float = 0.0
    """Its standard deviation."""

    def at(self, level: ArrayLike) -> Floats:
        """The line at ``level``, without its bend."""
        return self.shot * np.asarray(level, dtype=np.float64) + self.read

    def bent_at(self, level: ArrayLike) -> Floats:
        """The curve at ``level``, its bend included."""
        return self.at(level) + self.bend * np.square(np.asarray(level, dtype=np.float64))


class NoLineError(ValueError):
    """The levels are too few, or too close to each other, to tell a line."""


def weighted_line(level: Floats, variance: Floats, error: Floats, *, bent: bool = False) -> Fit:
    """Weighted least-squares line through variances whose errors are proportional to the line.

    Args:
        level: (N,), not all equal.
        variance: (N,) above 0.
        error: (N,) standard deviation of each variance relative to the line.
        bent: fit ``bend`` too.

    Raises:
        NoLineError: fewer than two different levels, or three for a bent line, or they are nearly one.
    """
    terms = 3 if bent else 2
    if len(np.unique(level)) < terms:
        raise NoLineError(f"a line needs {terms} different levels, got {len(np.unique(level))}")
    design = np.stack([level, np.ones_like(level), np.square(level)][:terms], axis=1)
    floor = max(_FLOOR * float(np.median(variance)), 1e-30)
    expected = np.maximum(variance, floor)
    for _ in range(30):
        weight = 1 / np.square(expected * error)
        normal = design.T @ (weight[:, None] * design)
        try:
            pull = np.linalg.solve(normal, design.T * weight)
            inverse = np.linalg.inv(normal)
        except np.linalg.LinAlgError:
            raise NoLineError("a line needs levels that differ, got some that are nearly one") from None
        found = pull @ variance
        before, expected = expected, np.maximum(design @ found, floor)
        if np.abs(expected / before - 1).max() < 1e-6:
            break
    freedom = len(level) - terms
    scatter = float(np.sum(weight * np.square(variance - design @ found)))
    dispersion = scatter / freedom if freedom else 1.0
    covariance = np.asarray(inverse * max(dispersion, 1.0))
    bend, bend_error = (float(found[2]), math.sqrt(covariance[2, 2])) if bent else (0.0, 0.0)
    return Fit(float(found[0]), float(found[1]), covariance[:2, :2], np.asarray(pull)[:2], dispersion, bend, bend_error)


def conclude(
    fit: Fit,
    level: Floats,
    variance: Floats,
    error: Floats,
    *,
    method: Method,
    excess: Floats | None = None,
    note: str = "",
) -> NoiseLine:
    """Turn a fit into what may be said: constrained coefficients, intervals, and None where they tell nothing.

    Args:
        fit: of the points.
        level: (N,).
        variance: (N,).
        error: (N,), relative.
        method: how the points were measured.
        excess: (N,) share of each variance that may be something else than noise, such as texture; the intervals
            reach to the line that is left without it.
        note: what to beware of.
    """
    deviation = NORMAL_95 * np.sqrt(np.diag(fit.covariance))
    without = np.zeros(2) if excess is None else -(fit.pull @ (variance * excess))
    ends = []
    for index, value in enumerate((fit.shot, fit.read)):
        shift = float(without[index])
        ends.append([value + min(shift, 0.0) - deviation[index], value + max(shift, 0.0) + deviation[index]])
    values = [fit.shot, fit.read]
    falls = fit.shot < -_FALLING * math.sqrt(fit.covariance[0, 0]) and -fit.shot * np.ptp(level) > _FALL * np.mean(
        variance
    )
    for bound, other in ((1, 0), (0, 1)):
        if values[bound] < 0:  # the most likely line among those that have 0 here
            moved = -float(fit.covariance[0, 1] / fit.covariance[bound, bound]) * values[bound]
            values[bound], values[other] = 0.0, values[other] + moved
            ends[other] = [end + moved for end in ends[other]]
            break
    # Where the points lie, the line is known best; with read >= 0 and shot >= 0 that bounds both.
    weight = 1 / np.square(error)
    centre = float(np.average(level, weights=weight))
    spread = np.array([centre, 1.0]) @ fit.covariance @ np.array([centre, 1.0])
    highest = max(float(fit.at(centre)), 0.0) + NORMAL_95 * math.sqrt(max(spread, 0.0))
    if centre > 0:
        ends[0][1] = min(ends[0][1], highest / centre)
    ends[1][1] = min(ends[1][1], highest) if centre >= 0 else ends[1][1]
    if ends[1][1] <= 0:  # something tilts the line; still, read noise is no more than the least variance
        least = int(np.argmin(variance))
        ends[1][1] = float(variance[least]) * (1 + NORMAL_95 * float(error[least]))
    shot_interval, read_interval = ((max(float(low), 0.0), max(float(high), 0.0)) for low, high in ends)
    return NoiseLine(
        shot=None if falls else told(values[0], shot_interval),
        read=None if falls else told(values[1], read_interval),
        shot_interval=shot_interval,
        read_interval=read_interval,
        method=method,
        curve=points(level, variance, error),
        prnu=math.sqrt(max(fit.bend, 0.0)),
        note=NOT_LINEAR if falls else note,
    )


def told(value: float, interval: Interval) -> float | None:
    """``value`` if its interval excludes 0 and is no wider than ``TOLD`` of it to either side, else None."""
    low, high = interval
    return float(value) if low > 0 and high - low <= 2 * TOLD * value else None


def points(level: Floats, variance: Floats, error: Floats) -> tuple[tuple[float, float, float], ...]:
    """The ``curve`` of a `NoiseLine`."""
    return tuple((float(x), float(v), float(1 / e**2)) for x, v, e in zip(level, variance, error, strict=True))


def line_through(
    curve: Sequence[tuple[float, float, float]], *, method: Method, note: str = "", bent: bool = False
) -> NoiseLine:
    """The line through points (level, variance, weight), such as the curves of several channels together.

    One level alone cannot tell shot from read: then both are None and the intervals say what each could be at most.

    Args:
        curve: the points.
        method: how they were measured.
        note: what to beware of.
        bent: fit the pixels' unequal sensitivity too (``NoiseLine.prnu``).

    Raises:
        ValueError: no points.
    """
    if not curve:
        raise ValueError("a line needs points, got none")
    level, variance, weight = (np.array(column, dtype=np.float64) for column in zip(*curve, strict=True))
    error = 1 / np.sqrt(weight)
    if len(level) > 1 and np.ptp(level) > 0:
        fit = weighted_line(level, variance, error, bent=bent)
        return conclude(fit, level, variance, error, method=method, note=note)
    mean = float(np.average(variance, weights=weight))
    highest = mean * (1 + NORMAL_95 / math.sqrt(float(weight.sum())))
    return NoiseLine(
        shot=None,
        read=None,
        shot_interval=(0.0, highest / level[0] if level[0] > 0 else math.inf),
        read_interval=(0.0, highest),
        method=method,
        curve=tuple(curve),
        note=note or "one level alone cannot tell shot from read noise",
    )
