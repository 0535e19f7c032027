"""Values that are no numbers, as renderers leave them: replaced by what lies around them."""

from __future__ import annotations

import warnings
from typing import Final

import numpy as np
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]

_RADII: Final = (1, 2, 4, 8)
_CHUNK: Final = 1 << 13


def fill_non_finite(colours: FloatImage) -> tuple[FloatImage, int]:
    """Replace NaN and infinity by the median of the finite values around, channel by channel.

    Args:
        colours: (H, W, C) float32; not changed.

    Returns:
        The same array if all is finite, else a copy; and the number of pixels with a value that was replaced. The
        window grows from 3x3 to 17x17 until it holds a finite value; beyond it is the median of the whole channel.
    """
    broken = ~np.isfinite(colours)
    count = int(np.count_nonzero(broken.any(axis=-1)))
    if not count:
        return colours, 0
    filled = np.where(broken, np.float32(np.nan), colours)
    known = filled.copy()
    for channel in range(colours.shape[2]):
        rows, columns = np.nonzero(broken[..., channel])
        for radius in _RADII:
            rows, columns = _filled_from_around(known[..., channel], filled[..., channel], rows, columns, radius)
        if rows.size:
            finite = known[..., channel][~broken[..., channel]]
            filled[rows, columns, channel] = np.median(finite) if finite.size else 0.0
    return filled, count


def _filled_from_around(
    known: FloatImage, filled: FloatImage, rows: NDArray[np.int64], columns: NDArray[np.int64], radius: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Fill places of (H, W) ``filled`` from finite values of ``known`` around them; return those that have none."""
    if not rows.size:
        return rows, columns
    height, width = known.shape
    down, across = (offset.ravel() for offset in np.mgrid[-radius : radius + 1, -radius : radius + 1])
    left = np.zeros(rows.size, dtype=bool)
    for start in range(0, rows.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        y, x = rows[part, None] + down, columns[part, None] + across
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        around = np.where(inside, known[y.clip(0, height - 1), x.clip(0, width - 1)], np.float32(np.nan))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # windows without a value
            medians = np.nanmedian(around, axis=1)
        filled[rows[part], columns[part]] = medians
        left[part] = np.isnan(medians)
    return rows[left], columns[left]
