"""Structural similarity (Wang et al. 2004) with the windows, covariances and borders that papers report."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

GAUSS_SIZE = 11
"""Side of the Gaussian window of the paper, and of MATLAB's for its default radius of 1.5."""

UNIFORM_SIZE = 7
"""Side of scikit-image's default window."""

_SIGMA = 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

Plane = NDArray[np.float64]
Blur = Callable[[Plane], Plane]


def gauss11(first: Plane, second: Plane, *, sample_covariance: bool = False) -> Plane:
    """Return the map of equation 13 under an 11x11 Gaussian window with sigma 1.5, where it lies in the image.

    Args:
        first: (H, W, C) in [0, 255], H and W at least 11.
        second: same shape.
        sample_covariance: multiply variances and covariance by 121/120, as scikit-image does unless told not to.

    Returns:
        (H - 10, W - 10, C).
    """
    pixels = GAUSS_SIZE**2
    return _by_channel(first, second, _gauss_valid, pixels / (pixels - 1) if sample_covariance else 1.0)


def uniform7(first: Plane, second: Plane) -> Plane:
    """Return the map under a 7x7 uniform window with sample covariance, where it lies in the image.

    Args:
        first: (H, W, C) in [0, 255], H and W at least 7.
        second: same shape.

    Returns:
        (H - 6, W - 6, C).
    """
    pixels = UNIFORM_SIZE**2
    return _by_channel(first, second, _uniform_valid, pixels / (pixels - 1))


def matlab_volume(first: Plane, second: Plane) -> Plane:
    """Return the map of MATLAB's ``ssim`` for an array of this shape, whose third dimension it takes for space.

    An 11x11x11 Gaussian window with sigma 1.5 over rows, columns and channels; beyond the image, and beyond the first
    and the last channel, the nearest values are repeated. One channel is an ordinary image to MATLAB and here: along
    an axis of length one the window does nothing.

    Args:
        first: (H, W, C) in [0, 255].
        second: same shape.

    Returns:
        (H, W, C).
    """
    from scipy.ndimage import correlate1d

    taps = _gauss_taps()
    # A filter along so short an axis is a small matrix, which is faster than lines of three values.
    mixing: Plane = correlate1d(np.eye(first.shape[2]), taps, axis=0, mode="nearest")

    def blur(volume: Plane) -> Plane:
        plane = correlate1d(correlate1d(volume, taps, axis=0, mode="nearest"), taps, axis=1, mode="nearest")
        mixed: Plane = plane @ mixing.T
        return mixed

    return _similarity(first, second, blur, 1.0)


def _by_channel(first: Plane, second: Plane, blur: Blur, factor: float) -> Plane:
    # One channel after the other: a third of the memory for the moments of a large photograph.
    maps = [_similarity(first[..., channel], second[..., channel], blur, factor) for channel in range(first.shape[2])]
    return np.stack(maps, axis=-1)


def _similarity(first: Plane, second: Plane, blur: Blur, factor: float) -> Plane:
    """Equation 13 with moments under ``blur``; ``factor`` scales the variances and the covariance."""
    mean1, mean2 = blur(first), blur(second)
    variances = factor * (blur(first * first) - mean1 * mean1 + blur(second * second) - mean2 * mean2)
    covariance = factor * (blur(first * second) - mean1 * mean2)
    above = (2 * mean1 * mean2 + _C1) * (2 * covariance + _C2)
    below = (mean1 * mean1 + mean2 * mean2 + _C1) * (variances + _C2)
    return above / below


def _gauss_taps() -> Plane:
    half = GAUSS_SIZE // 2
    taps = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * _SIGMA**2))
    normalised: Plane = taps / taps.sum()
    return normalised


def _gauss_valid(plane: Plane) -> Plane:
    from scipy.ndimage import correlate1d

    taps, half = _gauss_taps(), GAUSS_SIZE // 2
    rows = correlate1d(plane, taps, axis=0)[half:-half]
    valid: Plane = correlate1d(rows, taps, axis=1)[:, half:-half]
    return valid


def _uniform_valid(plane: Plane) -> Plane:
    from scipy.ndimage import uniform_filter

    half = UNIFORM_SIZE // 2
    valid: Plane = uniform_filter(plane, UNIFORM_SIZE)[half:-half, half:-half]
    return valid
