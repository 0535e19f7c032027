"""Groups of places of one level in an image, and the variance of the noise at those of them that are smooth.

Smooth is where the energy of the wavelet details around a place, and one scale up, is no more than that of the noise.
For white noise this energy is independent of the details at the place itself, which are the noise samples, and follows
a chi-squared law: so the choice does not bias the variance, and the law tells what share of the chosen places is pure.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from noise.truncated import truncated_variance
from noise.wavelet import ENERGY_FREEDOM, Places

Indices = NDArray[np.intp]
Floats32 = NDArray[np.float32]

GROUPS: Final = 24
SMALLEST_GROUP: Final = 400
_SMALLEST_SHARE: Final = 0.03
_SMALLEST_CHOICE: Final = 80
_LOW_QUANTILE: Final = -0.5244
_LOW_SHARE: Final = 0.3


@dataclass(frozen=True, slots=True)
class Choice:
    """Which samples make the variance of a group."""

    details: slice
    """Rows of ``Places.details``."""

    quantile: float
    """Normal quantile of the energy of pure noise up to which a place is smooth."""

    share: float
    """Share of pure noise below it."""

    width: float
    """Truncation in standard deviations."""

    efficiency: float
    """What the truncation leaves of the number of samples; so low that the intervals hold in simulations."""

    excess: float
    """Relative error of the variance per unit of excess kurtosis, which clipping causes; from a simulation."""

    samples: dict[int, float]
    """Independent samples per place, by the number of decompositions: shifted ones overlap."""


STRICT: Final = Choice(slice(2, 3), -0.5244, 0.3, 2.0, 0.55, -0.21, {1: 1.0, 4: 0.372})
DIAGONAL: Final = Choice(slice(2, 3), 0.8416, 0.8, 2.0, 0.55, -0.12, {1: 1.0, 4: 0.372})
ALL: Final = Choice(slice(0, 3), 0.8416, 0.8, 2.5, 0.7, -0.07, {1: 3.0, 4: 0.842})


def grouped(level: Floats32) -> list[Indices]:
    """Indices of the places of each level: equal numbers, cut again where they span much, not too few."""
    shares = np.linspace(0, 1, GROUPS + 1)[1:-1]
    low, high = np.quantile(level, (0.001, 0.999))
    steps = np.linspace(low, high, GROUPS)[1:-1]
    name = np.searchsorted(np.unique(np.concatenate([np.quantile(level, shares), steps])), level)
    least = max(min(SMALLEST_GROUP, len(level) // 8), len(level) // 400)
    merged, filled = np.zeros(name.max() + 1, dtype=np.intp), 0
    for index, count in enumerate(np.bincount(name)[:-1]):
        filled += int(count)
        merged[index + 1 :] += filled >= least
        filled = 0 if filled >= least else filled
    if filled + np.count_nonzero(name == name.max()) < least and merged[-1]:
        merged[merged == merged[-1]] -= 1
    name = merged[name]
    return np.split(np.argsort(name, kind="stable"), np.cumsum(np.bincount(name))[:-1])


def first_guess(found: Places, groups: list[Indices]) -> Floats32:
    """Variance from the least energies of each group: low rather than high, as the fit then rises to the noise."""
    expected = np.empty_like(found.level)
    for group in groups:
        expected[group] = np.quantile(found.energy[group], 0.02) / _energy_quantile(-1.2816)
    return np.maximum(expected, 1e-20)


def measured_point(
    found: Places, group: Indices, choice: Choice, expected: Floats32
) -> tuple[float, float, float, float]:
    """Mean level, variance and number of independent samples of a group, and its share of pure noise (0: forced)."""
    energy = found.energy[group] / expected[group]
    smooth = energy <= _energy_quantile(choice.quantile)
    share = float(smooth.mean())
    least = min(max(_SMALLEST_SHARE, _SMALLEST_CHOICE / len(group)), 1.0)
    if share < least:
        smooth, pure = energy <= np.quantile(energy, least), 0.0
    else:
        flat = float((energy <= _energy_quantile(_LOW_QUANTILE)).mean()) / _LOW_SHARE
        pure = min(flat * choice.share / share, 1.0)
    chosen = group[smooth]
    around = expected[chosen]
    variance = truncated_variance((found.details[choice.details, chosen] / np.sqrt(around)).ravel(), width=choice.width)
    # The median of the difference, as stars and edges make the mean of the levels uncertain.
    level = found.surroundings[chosen].mean() + np.median(found.level[chosen] - found.surroundings[chosen])
    samples = len(chosen) * choice.samples[found.shifts] * choice.efficiency
    return float(level), variance * float(around.mean()), samples, pure


def _energy_quantile(normal: float) -> float:
    """Quantile of the energy of unit noise, chi-squared: the cube root is nearly normal (Wilson and Hilferty, 1931)."""
    spread = 2 / (9 * ENERGY_FREEDOM)
    return ENERGY_FREEDOM * (1 - spread + normal * math.sqrt(spread)) ** 3
