"""What a network trained on display pictures is shown of floats that know no white: a reversible curve.

Networks here see sRGB-encoded values in [0, 1]. An EXR file holds linear light without a limit, and a float TIFF may
hold anything. Both are brought to a display picture by steps that can be taken back:

1. the exposure, a power of two, so that scaling is exact and the frames of a shot mostly share it;
2. for linear light the sRGB curve (IEC 61966-2-1), continued beyond white and mirrored below black;
3. beyond white a logarithm that joins with the same slope: y -> 1 + k log(1 + (y - 1) / k).

Values from black to white are what a developed photograph would hold, to the bit where nothing had to be done.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.data.light import decode_light, encode_light

FloatImage = NDArray[np.float32]

KEY: Final = 0.18
"""Brightness that the log-average of linear light is brought near to (Reinhard et al., SIGGRAPH 2002)."""

SHOULDER: Final = 0.25
"""The k of the logarithm beyond white; docs/files.md has what others gave."""

_LARGEST = float(np.finfo(np.float32).max)
_STRIP = 256
_SAMPLES = 1 << 20
_WHITE_SHARE = 99.0
_HIGHLIGHTS = 4.0
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


@dataclass(frozen=True, kw_only=True, slots=True)
class DisplayView:
    """The curve of one picture, and back."""

    exposure: float = 1.0
    """Factor on the stored values; a power of two."""

    linear: bool = False
    """Whether the stored values are linear light, and not display values."""

    shoulder: float = SHOULDER
    """As `SHOULDER`; infinity for none."""

    def show(self, stored: NDArray[np.floating[Any]]) -> FloatImage:
        """Map finite stored values of any shape to display values, most of them in [0, 1]."""
        return _by_strips(self._show, stored)

    def _show(self, stored: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        values = np.asarray(stored, dtype=np.float64) * self.exposure
        sizes = np.abs(encode_light(values) if self.linear else values)
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
        values = np.copysign(decode_light(sizes) if self.linear else sizes, display) / self.exposure
        kept: NDArray[np.float64] = np.clip(values, -_LARGEST, _LARGEST)
        return kept


def view_of_light(colours: FloatImage) -> DisplayView:
    """Choose the exposure of linear light (H, W, C), finite: the log-average of what is lit comes near 0.18."""
    some = _some(colours)
    luminance = some @ _LUMINANCE if some.shape[1] == 3 else some.mean(axis=1)
    lit = luminance[luminance > 0]
    return DisplayView(exposure=_power(KEY / math.exp(np.log(lit).mean())) if lit.size else 1.0, linear=True)


def view_of_display(colours: FloatImage) -> DisplayView:
    """Choose the view of float display values (H, W, C), finite.

    Values beyond white are highlights, unless more than one in a hundred is beyond four times white: then the unit
    is another one (counts of a camera), and is scaled until so many are within white.
    """
    bright = float(np.percentile(np.abs(_some(colours)), _WHITE_SHARE))
    return DisplayView(exposure=_power(1 / bright, math.floor) if bright > _HIGHLIGHTS else 1.0)


def _by_strips(curve: Callable[[FloatImage], NDArray[np.float64]], image: NDArray[np.floating[Any]]) -> FloatImage:
    """Apply a curve without a copy of the whole picture in doubles."""
    result = np.empty(image.shape, dtype=np.float32)
    for top in range(0, image.shape[0], _STRIP):
        result[top : top + _STRIP] = curve(image[top : top + _STRIP])
    return result


def _some(colours: FloatImage) -> NDArray[np.float64]:
    """About a million pixels, evenly spread: (N, C)."""
    step = math.isqrt(max(colours.shape[0] * colours.shape[1] // _SAMPLES, 1))
    return np.asarray(colours[::step, ::step].reshape(-1, colours.shape[2]), dtype=np.float64)


def _power(factor: float, rounding: Any = round) -> float:
    return float(2.0 ** min(max(rounding(math.log2(factor)), -126), 126))
