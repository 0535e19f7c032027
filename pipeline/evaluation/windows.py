"""Which window of a picture is shown, by a stated rule, and the measures of detail that such rules use."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

CROP: Final = 192
"""Side of a window, in pixels."""

FloatImage = NDArray[np.float32]


def detail(image: FloatImage) -> float:
    """Return how much a picture varies: mean absolute step between neighbouring pixels, in units of 1/255."""
    grey = image.mean(axis=2)
    steps = [np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1)]
    return float(np.mean(steps)) * 255


def visible(brightness: float) -> bool:
    """Tell whether a mean brightness is neither nearly black nor nearly white."""
    return 0.15 <= brightness <= 0.85


def choose_window(image: FloatImage, measure: NDArray[np.floating[Any]], rule: str) -> tuple[slice, slice]:
    """Choose a CROP x CROP window (or what fits) on a grid of half-overlapping ones."""
    height, width = image.shape[:2]
    windows = [(slice(top, top + CROP), slice(left, left + CROP)) for top in _starts(height) for left in _starts(width)]
    if rule == "flattest":
        return min(windows, key=lambda at: (not visible(float(image[at].mean())), detail(image[at])))
    ordered = sorted(windows, key=lambda window: float(measure[window].mean()))
    return ordered[len(ordered) // 2] if rule == "typical" else ordered[-1]


def _starts(length: int) -> list[int]:
    last = max(length - CROP, 0)
    return [*range(0, last, CROP // 2), last]


def local_detail(image: FloatImage) -> NDArray[np.floating[Any]]:
    """Return (H, W): the sum of the absolute gradients across and down, of the mean of the channels."""
    across, down = np.gradient(image.mean(axis=2))
    return np.asarray(np.abs(across) + np.abs(down))
