"""A camera's own noise levels from its files: what `unveil synth` and `unveil train` draw instead of another's.

Exposures of one ISO share shot and read noise, so their points are put together first. With enough gains the pairs
follow a line in logarithms, read against shot (Brooks et al., CVPR 2019, figure 5, for one camera); with few they are
kept as a table.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from noise.levels import LevelLine, LevelTable
from noise.noise_line import NoiseLine, line_through

SAME_GAIN: Final = 0.15
"""Relative difference of shot up to which two exposures of unknown ISO count as one gain."""

LINE_GAINS: Final = 4
LINE_SPAN: Final = 4.0
"""A line needs this many gains, over this factor of shot; less makes a table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exposure:
    """One measured file."""

    line: NoiseLine
    """Its noise line."""

    iso: float | None = None
    """Its ISO speed; None if unknown."""


def fit_levels(exposures: Sequence[Exposure]) -> LevelLine | LevelTable:
    """Fit a spec of noise levels to measured exposures of one camera.

    Args:
        exposures: of one camera; those that tell no shot noise are left out.

    Returns:
        `LevelLine` from four gains or more that span a factor of 4, with the scatter of the gains around it; else
        `LevelTable`.

    Raises:
        ValueError: no gain has both its shot and its read noise told.
    """
    pairs = sorted(dict(pair for gain in _gains(exposures) if (pair := _pair(gain)) is not None).items())
    if not pairs:
        raise ValueError(
            f"none of {len(exposures)} measured files tells both shot and read noise: take some with dark and bright "
            "areas, flat-field pairs, or a dark frame"
        )
    log_shot, log_read = (np.log(column) for column in zip(*pairs, strict=True))
    if len(pairs) >= LINE_GAINS and pairs[-1][0] / pairs[0][0] >= LINE_SPAN:
        slope, intercept = (float(value) for value in np.polyfit(log_shot, log_read, 1))
        scatter = log_read - (slope * log_shot + intercept)
        std = math.sqrt(float(np.square(scatter).sum()) / (len(pairs) - 2))
        ends = (pairs[0][0], min(pairs[-1][0], 1.0))
        if all(slope * math.log(end) + intercept <= 0 for end in ends):
            return LevelLine(shot=ends, slope=slope, intercept=intercept, std=std)
    return LevelTable(points=tuple((min(shot, 1.0), min(read, 1.0)) for shot, read in pairs))


def _gains(exposures: Sequence[Exposure]) -> list[list[NoiseLine]]:
    """Exposures of one ISO; those of unknown ISO by their shot noise."""
    told = sorted((exposure for exposure in exposures if exposure.line.shot), key=lambda item: item.line.shot or 0.0)
    by_iso: dict[float, list[NoiseLine]] = {}
    groups: list[list[NoiseLine]] = []
    first = 0.0
    for exposure in told:
        shot = exposure.line.shot or 0.0
        if exposure.iso is not None:
            by_iso.setdefault(exposure.iso, []).append(exposure.line)
        elif groups and shot <= (1 + SAME_GAIN) * first:
            groups[-1].append(exposure.line)
        else:
            groups.append([exposure.line])
            first = shot
    return [*by_iso.values(), *groups]


def _pair(lines: list[NoiseLine]) -> tuple[float, float] | None:
    """(shot, read) of one gain: medians of what its files tell, or the line through all of their points."""
    shot = float(np.median([line.shot for line in lines if line.shot is not None]))
    reads = [line.read for line in lines if line.read is not None]
    if reads:
        return shot, float(np.median(reads))
    joined = line_through([point for line in lines for point in line.curve], method=lines[0].method)
    if joined.shot is None or joined.read is None:
        return None
    return joined.shot, joined.read
