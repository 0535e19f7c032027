"""What the pixels say about their own levels: optically black border, black level, and where the data clip.

Metadata are wrong often enough: tables of white levels hold for the model and not for the mode, and black levels
were read doubled. A level from the file stands unless the data contradict it beyond their noise.
"""

import itertools
import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Mosaic = NDArray[np.uint16]
Histogram = NDArray[np.int64]
Box = tuple[slice, slice]

LEVELS: Final = 65536
_BAND_PIXELS: Final = 2**18

_GUARD: Final = 4
"""Pixels of a border beside the visible part that its light still reaches."""

_EDGE: Final = 2
"""Pixels at the edge of the sensor, often without a signal."""

_MIN_BORDER: Final = 512
"""Pixels; from fewer no level is taken."""

_OUTLIERS: Final = 1e-5
"""Share of pixels that may be hot, if that is more than ``_FEW``."""

_FEW: Final = 4

_SPIKE_SHARE: Final = 1e-4
_HUMP_SHARE: Final = 1e-3
_SPIKE_CONTRAST: Final = 4.0
_HUMP_WIDTH: Final = 0.02
"""Of the range: pixels of one sensor saturate at levels that differ by up to this."""

_QUIET: Final = 0.7
_ROWS: Final = 200
_MIN_PAIRS: Final = 100

_BLACK_TOLERANCE: Final = 0.01
"""Of the range: a black level off by more is a mistake and no drift."""


def histograms(pixels: Mosaic, cfa: NDArray[np.uint8] | None) -> list[Histogram]:
    """Count the levels of each colour, in bands of rows so that little memory is taken.

    Args:
        pixels: (H, W) mosaic, or (H, W, 3) with the colours in the last place.
        cfa: (n, m) colours of the repeated cell; None for (H, W, 3).

    Returns:
        For each colour that occurs, (65536,) counts.
    """
    if cfa is None:
        return [_counts(pixels[..., channel]) for channel in range(pixels.shape[2])]
    rows, columns = cfa.shape
    counts: dict[int, Histogram] = {}
    for row in range(rows):
        for column in range(columns):
            color = int(cfa[row, column])
            site = _counts(pixels[row::rows, column::columns])
            counts[color] = counts[color] + site if color in counts else site
    return [counts[color] for color in sorted(counts)]


def clipping_level(counts: list[Histogram], white: int, mosaic: Mosaic | None, step: int) -> int | None:
    """The level at which the data clip below ``white``, or None if they show no such level.

    Two signs are taken. A colour whose highest level holds many more pixels than the levels below it: digital
    clipping. And a hump at the top of the histogram, at one level in two colours or more and quieter than the tones
    below: a sensor saturates at a level of its own, which light of any colour reaches and where noise ceases. Its
    lower end is returned.

    Args:
        counts: histograms of the colours.
        white: white level of the metadata.
        mosaic: (H, W) the pixels; without them the first sign alone is taken.
        step: distance of equal colours in a row.
    """
    spikes = [level for count in counts if (level := _spike(count)) is not None]
    humps = sorted(level for count in counts if (level := _hump(count, white)) is not None)
    shared = [low for low, high in itertools.pairwise(humps) if high - low <= _HUMP_WIDTH * white]
    quiet = [level for level in shared if mosaic is not None and _is_quiet(mosaic, step, level)]
    level = max([*spikes, *quiet], default=None)
    # A dark picture can show either sign; saturation at less than half the white level has not been seen.
    return level if level is not None and white / 2 <= level < white else None


def masked_border(sensor: Mosaic, visible: Box) -> Box | None:
    """Find the largest optically black strip beside the visible part.

    Strips reach from the visible part to the edge of the sensor, without the pixels at either end. A strip is
    black if its spread is small and it is no brighter than the darkest hundredth of the visible part.

    Args:
        sensor: (H, W) whole sensor.
        visible: rows and columns of the visible part.

    Returns:
        Rows and columns of the strip, or None.
    """
    (top, bottom), (left, right) = ((part.start, part.stop) for part in visible)
    height, width = sensor.shape
    rows, columns = slice(top + _GUARD, bottom - _GUARD), slice(left + _GUARD, right - _GUARD)
    boxes = [
        (rows, slice(_EDGE, left - _GUARD)),
        (rows, slice(right + _GUARD, width - _EDGE)),
        (slice(_EDGE, top - _GUARD), columns),
        (slice(bottom + _GUARD, height - _EDGE), columns),
    ]
    darkest = None
    for box in sorted(boxes, key=_area, reverse=True):
        if _area(box) < _MIN_BORDER:
            break
        if darkest is None:
            darkest = _quantile(_counts(sensor[visible][::4, ::4]), 0.01)
        low, middle, high = (_quantile(_counts(sensor[box]), share) for share in (0.16, 0.5, 0.84))
        noise = max(1.0, (high - low) / 2)
        if middle <= darkest + 4 * noise and noise < LEVELS / 64:
            return box
    return None


def contradicted_black(black: float, white: int, mosaic: Mosaic, step: int, border: Mosaic | None) -> float:
    """The black level that the data show if they contradict ``black``, else ``black``.

    A masked border shows it. Without one, many pixels below black by more than their own noise prove it wrong;
    then half of it is taken if that fits (levels were read doubled), or else the level of the darkest pixels.

    Args:
        black: mean black level of the metadata.
        white: white level.
        mosaic: (H, W) visible part.
        step: distance of equal colours in a row.
        border: (h, w) masked border, or None.
    """
    tolerance = _BLACK_TOLERANCE * white
    if border is not None:
        measured = _quantile(_counts(border), 0.5)
        return measured if abs(measured - black) > tolerance else black
    counts = _counts(mosaic)
    counts[0] = 0  # of dead pixels and of frames that some cameras add
    if not counts.any():
        return black
    darkest = _quantile(counts, 0.005)
    if darkest >= black - tolerance:
        return black
    noise = _noise_between(1, round(black), mosaic, step)
    if noise is None or darkest >= black - tolerance - 6 * noise:
        return black
    return black / 2 if darkest >= black / 2 - tolerance - 6 * noise else darkest


def _noise_between(low: int, high: int, mosaic: Mosaic, step: int) -> float | None:
    """Robust standard deviation of the noise at levels ``low`` to ``high``; None from too few pixels.

    It is that of the differences of equal neighbours in a sample of rows; the odd distance of the rows meets all
    colours.
    """
    differences = []
    for top in range(0, mosaic.shape[0], mosaic.shape[0] // _ROWS | 1):
        row = mosaic[top].astype(np.int32)
        first, second = row[:-step], row[step:]
        inside = (first >= low) & (first <= high) & (second >= low) & (second <= high)
        differences.append((second - first)[inside])
    found = np.concatenate(differences)
    return float(np.median(np.abs(found))) / 0.6745 / math.sqrt(2) if found.size >= _MIN_PAIRS else None


def _is_quiet(mosaic: Mosaic, step: int, level: int) -> bool:
    """Whether the noise above ``level`` is well below that of the tones under it, as it is where light clips."""
    above = _noise_between(level, LEVELS, mosaic, step)
    below = _noise_between(round(0.5 * level), round(0.9 * level), mosaic, step)
    return above is not None and below is not None and above < _QUIET * below


def _spike(counts: Histogram) -> int | None:
    top = _top(counts)
    below = np.flatnonzero(counts[:top])[-8:]
    if len(below) < 8 or counts[top] < max(32, _SPIKE_SHARE * counts.sum()):
        return None
    return top if counts[top] >= _SPIKE_CONTRAST * counts[below].mean() else None


def _hump(counts: Histogram, white: int) -> int | None:
    top = _top(counts)
    width = max(2, round(_HUMP_WIDTH * white))
    start = top - width
    if start - width < 0:
        return None
    upper, lower = counts[start : top + 1], counts[start - width : start]
    if upper.sum() < _HUMP_SHARE * counts.sum() or upper.sum() < _SPIKE_CONTRAST * max(1, lower.sum()):
        return None
    return start + int(_quantile(upper, 0.05))


def _top(counts: Histogram) -> int:
    """The highest level, hot pixels aside."""
    total = np.cumsum(counts)
    return int(np.searchsorted(total, total[-1] - max(_FEW, int(_OUTLIERS * total[-1]))))


def _quantile(counts: Histogram, share: float) -> float:
    total = np.cumsum(counts)
    return float(np.searchsorted(total, max(1.0, share * total[-1])))


def _counts(pixels: Mosaic) -> Histogram:
    counts = np.zeros(LEVELS, dtype=np.int64)
    rows = max(1, _BAND_PIXELS // max(1, pixels.shape[1]))
    for start in range(0, pixels.shape[0], rows):
        counts += np.bincount(pixels[start : start + rows].ravel(), minlength=LEVELS)
    return counts


def _area(box: Box) -> int:
    rows, columns = (max(0, part.stop - part.start) if part.start >= 0 else 0 for part in box)
    return rows * columns
