"""Read noise, row noise and black level from the optically black border of a sensor: no light, so no shot noise."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from noise.noise_line import NORMAL_95, Interval, NoiseLine
from noise.truncated import truncated_variance

Floats = NDArray[np.float64]

SMALLEST: Final = (16, 8)
_FAR: Final = 5.0
_WIDTH: Final = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class BorderNoise:
    """What a masked border tells, in normalised units; four values are those of the planes R, Gr, Gb, B."""

    black: tuple[float, float, float, float]
    """Mean level less the black level of the metadata."""

    read: tuple[float, float, float, float]
    """Variance of a pixel, without what a row or a column shares."""

    read_intervals: tuple[Interval, Interval, Interval, Interval]
    """95 % intervals of ``read``."""

    row: float
    """Standard deviation that the pixels of one sensor row share, both its colours; 0 if it is lost in the noise."""

    column: float
    """The same of sensor columns."""

    pixels: int
    """Pixels that were used."""

    def lines(self) -> tuple[NoiseLine, ...]:
        """The planes' noise lines, as far as a border tells: read noise, and nothing of shot noise."""
        return tuple(
            NoiseLine(
                shot=None,
                read=read,
                shot_interval=(0.0, float("inf")),
                read_interval=interval,
                method="masked border",
                curve=((black, read, self.pixels / 16),),
            )
            for black, read, interval in zip(self.black, self.read, self.read_intervals, strict=True)
        )


def measure_border(packed: NDArray[np.floating]) -> BorderNoise | None:
    """Measure the noise of a masked border.

    Columns and rows at the edges that are still lit, or that lead in the readout, are left out: those whose median is
    far from that of the others. Hot pixels do not count. The pixel's own noise comes from the diagonal differences
    (a - b - c + d) / 2 of 2x2 neighbours of one colour, which rows and columns of equal offset leave at zero.

    Args:
        packed: (4, h, w), planes R Gr Gb B of the border, normalised: black 0, white 1, not clipped at 0.

    Returns:
        None if less than 16x8 pixels of each plane are left.

    Raises:
        ValueError: not four planes.
    """
    if packed.ndim != 3 or packed.shape[0] != 4:
        raise ValueError(f"a border must have four planes (4, h, w), got shape {packed.shape}")
    planes = _trimmed(np.asarray(packed, dtype=np.float64))
    if planes.shape[1] < SMALLEST[0] or planes.shape[2] < SMALLEST[1]:
        return None
    diagonal = (planes[:, :-1, :-1] - planes[:, :-1, 1:] - planes[:, 1:, :-1] + planes[:, 1:, 1:]) / 2
    read = [truncated_variance(plane.ravel(), width=_WIDTH) for plane in diagonal]
    # Overlapping diagonal differences: one independent sample in 2.25 of them.
    error = NORMAL_95 * np.sqrt(2 * 2.25 / diagonal[0].size)
    tamed = _tamed(planes)
    black = [float(plane.mean()) for plane in tamed]
    levelled = tamed - np.array(black)[:, None, None]
    # A sensor row holds R and Gr, or Gb and B; a column R and Gb, or Gr and B.
    row = _shared([levelled[:2], levelled[2:]], read, axis=2)
    column = _shared([levelled[[0, 2]], levelled[[1, 3]]], read, axis=1)
    return BorderNoise(
        black=(black[0], black[1], black[2], black[3]),
        read=(read[0], read[1], read[2], read[3]),
        read_intervals=tuple((value * (1 - error), value * (1 + error)) for value in read),  # type: ignore[arg-type]
        row=row,
        column=column,
        pixels=planes.size,
    )


def _trimmed(planes: Floats) -> Floats:
    """Without the columns, then the rows, at the edges whose mean is far off."""
    for axis in (2, 1):
        means = _tamed(planes).mean(axis=3 - axis)  # (4, length)
        offset = np.abs(means - np.median(means, axis=1, keepdims=True))
        usual = np.median(offset, axis=1, keepdims=True) / 0.6745
        good = np.flatnonzero((offset <= _FAR * np.maximum(usual, 1e-12)).all(axis=0))
        if not len(good):
            return planes[:, :0, :0]
        planes = planes.take(range(good[0], good[-1] + 1), axis=axis)
    return planes


def _tamed(planes: Floats) -> Floats:
    """With the values of each plane held within four deviations of its middle, for the sake of hot pixels.

    Deviations come from quantiles: the median deviation of integers of little noise may be 0.
    """
    low, middle, high = np.quantile(planes, (0.025, 0.5, 0.975), axis=(1, 2))[:, :, None, None]
    reach = 4 / (2 * NORMAL_95) * (high - low)
    return np.clip(planes, middle - reach, middle + reach)


def _shared(pairs: list[Floats], read: list[float], *, axis: int) -> float:
    """Standard deviation of what the lines along ``axis`` share, beyond what their pixels' own noise explains."""
    excess = []
    for pair in pairs:
        means = pair.mean(axis=(0, axis))
        own = float(np.mean(read)) / (2 * pair.shape[axis])
        excess.append(truncated_variance(means - means.mean(), width=_WIDTH) - own)
    # Of few lines the variance is uncertain: three times its error is asked for.
    count = sum(pair.shape[3 - axis] for pair in pairs)
    mean, doubt = float(np.mean(excess)), 3 * own * np.sqrt(2 / count)
    return float(np.sqrt(mean)) if mean > doubt else 0.0
