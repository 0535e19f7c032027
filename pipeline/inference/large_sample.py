"""The parts of a large picture, noisy and denoised, that what is told about it is measured on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.depth import to_float
from pipeline.data.image_types import Pixels
from pipeline.inference.offset import offset_of, planes
from pipeline.inference.residual import MIDDLE, residual_of

if TYPE_CHECKING:
    from models import LevelCurve

FloatImage = NDArray[np.float32]


class Sample:
    """Stripes of rows for the offset, and the middle for the residual: the same as of the whole picture."""

    def __init__(self, height: int, width: int) -> None:
        """Prepare for a picture of ``height`` x ``width``."""
        from models import sampled_rows

        self._stripes = sampled_rows(height, width)
        top, left = (max(size - MIDDLE, 0) // 2 for size in (height, width))
        self._middle, self._columns = (top, min(top + MIDDLE, height)), slice(left, left + MIDDLE)
        self._noisy: list[FloatImage] = []
        self._denoised: list[FloatImage] = []
        self._middle_noisy: list[FloatImage] = []
        self._middle_denoised: list[FloatImage] = []

    def take(self, row: int, noisy: Pixels, denoised: FloatImage) -> None:
        """Keep what is wanted of rows (n, W, C) that start at ``row``; they come in order, without gaps."""
        for stripe in self._stripes:
            if cut := _common(stripe, row, len(denoised)):
                self._noisy.append(to_float(noisy[cut, :, : denoised.shape[2]]))
                self._denoised.append(denoised[cut].copy())
        if cut := _common(self._middle, row, len(denoised)):
            self._middle_noisy.append(to_float(noisy[cut, self._columns, : denoised.shape[2]]))
            self._middle_denoised.append(denoised[cut, self._columns].copy())

    def curve(self) -> LevelCurve | None:
        """Return what mends the offset, or None."""
        from models import fit_offset

        return fit_offset(*(planes(np.concatenate(parts)) for parts in (self._noisy, self._denoised)))

    def offset(self, curve: LevelCurve | None) -> dict[str, Any] | None:
        """Return the offset as it is told; ``curve`` is what was done about it."""
        noisy, denoised = (np.concatenate(parts) for parts in (self._noisy, self._denoised))
        return offset_of(noisy, denoised, corrected=curve is not None)

    def residual(self, curve: LevelCurve | None) -> dict[str, Any] | None:
        """Return what was taken off."""
        noisy, denoised = (np.concatenate(parts) for parts in (self._middle_noisy, self._middle_denoised))
        return residual_of(noisy, mended_by(curve, denoised))


def mended_by(curve: LevelCurve | None, denoised: FloatImage) -> FloatImage:
    """Return rows (n, W, C) with their offset mended."""
    if curve is None:
        return denoised
    result: FloatImage = curve.applied(planes(denoised)).numpy().transpose(1, 2, 0)
    return result


def _common(rows: tuple[int, int], first: int, count: int) -> slice | None:
    """The part of ``count`` rows from ``first`` on that lies in ``rows``, or None."""
    start, stop = max(rows[0] - first, 0), min(rows[1] - first, count)
    return slice(start, stop) if start < stop else None
