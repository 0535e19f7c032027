"""What a network trained on display pictures is shown of floats that know no white: a reversible curve.

Networks here see sRGB-encoded values in [0, 1]. An EXR file holds linear light without a limit, and a float TIFF may
hold anything. Both are brought to a display picture by steps that can be taken back:

1. the exposure, a power of two, so that scaling is exact and the frames of a shot mostly share it;
2. for linear light a display curve, which the caller has;
3. beyond white a logarithm that joins with the same slope: y -> 1 + k log(1 + (y - 1) / k).

Values from black to white are what a developed photograph would hold, to the bit where nothing had to be done.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]

SHOULDER: Final = 0.25
"""The k of the logarithm beyond white; docs/files.md has what others gave."""

_LARGEST = float(np.finfo(np.float32).max)
_STRIP = 256
_SAMPLES = 1 << 20
_WHITE_SHARE = 99.0
_HIGHLIGHTS = 4.0


class Curve(NamedTuple):
    """A curve for values of any sign, applied to (H, W, C), and its inverse."""

    there: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    back: Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class DisplayView:
    """The curve of one picture, and back."""

    exposure: float = 1.0
    """Factor on the stored values; a power of two."""

    curve: Curve | None = None
    """From the stored values to display values, where they are something else, such as linear light."""

    shoulder: float = SHOULDER
    """As `SHOULDER`; infinity for none."""

    def fits(self, stored: NDArray[np.floating[Any]]) -> bool:
        """Say whether all of ``stored`` is shown as it is."""
        return self.curve is None and self.exposure == 1 and bool(stored.min() >= 0 and stored.max() <= 1)

    def show(self, stored: NDArray[np.floating[Any]]) -> FloatImage:
        """Map finite stored values of any shape to display values, most of them in [0, 1]."""
        return _by_strips(self._show, stored)

    def _show(self, stored: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        values = np.asarray(stored, dtype=np.float64) * self.exposure
        sizes = np.abs(self.curve.there(values) if self.curve else values)
        if math.isfinite(self.shoulder):
            beyond = self.shoulder * np.log1p(np.maximum(sizes - 1, 0) / self.shoulder)
            sizes = np.where(sizes > 1, 1 + beyond, sizes)
        seen: NDArray[np.float64] = np.copysign(sizes, stored)
        return seen

    def take_back(self, display: NDArray[np.floating[Any]], brightest: float) -> FloatImage:
        """Map display values to stored ones.

        Args:
            display: any shape.
            brightest: largest display value that was shown. A denoiser averages, so that nothing lies beyond it; the
                slope of the curve would make a large error of a small one there.
        """
        return _by_strips(partial(self._take_back, max(brightest, 1.0)), display)

    def _take_back(self, brightest: float, display: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        sizes = np.minimum(np.abs(np.asarray(display, dtype=np.float64)), brightest)
        if math.isfinite(self.shoulder):
            beyond = 1 + self.shoulder * np.expm1(np.maximum(sizes - 1, 0) / self.shoulder)
            sizes = np.where(sizes > 1, beyond, sizes)
        values = np.copysign(self.curve.back(sizes) if self.curve else sizes, display) / self.exposure
        kept: NDArray[np.float64] = np.clip(values, -_LARGEST, _LARGEST)
        return kept


def view_of_display(colours: FloatImage) -> DisplayView:
    """Choose the view of float display values (H, W, C), finite.

    Values beyond white are highlights, unless more than one in a hundred is beyond four times white: then the unit
    is another one (counts of a camera), and is scaled until so many are within white.
    """
    bright = float(np.percentile(np.abs(pixels_among(colours)), _WHITE_SHARE))
    return DisplayView(exposure=power_of_two(1 / bright, math.floor) if bright > _HIGHLIGHTS else 1.0)


def _by_strips(curve: Callable[[FloatImage], NDArray[np.float64]], image: NDArray[np.floating[Any]]) -> FloatImage:
    """Apply a curve without a copy of the whole picture in doubles."""
    result = np.empty(image.shape, dtype=np.float32)
    for top in range(0, image.shape[0], _STRIP):
        result[top : top + _STRIP] = curve(image[top : top + _STRIP])
    return result


def pixels_among(colours: FloatImage) -> NDArray[np.float64]:
    """Return about a million pixels, evenly spread: (N, C)."""
    step = math.isqrt(max(colours.shape[0] * colours.shape[1] // _SAMPLES, 1))
    return np.asarray(colours[::step, ::step].reshape(-1, colours.shape[2]), dtype=np.float64)


def power_of_two(factor: float, rounding: Callable[[float], int] = round) -> float:
    """Return the power of two that is nearest to ``factor``, or the one that ``rounding`` takes."""
    return float(2.0 ** min(max(rounding(math.log2(factor)), -126), 126))
