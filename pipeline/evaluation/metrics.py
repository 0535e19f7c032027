"""Image metrics whose definition is part of the name: two numbers compare only if their names are equal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.images import from_float, to_float

SSIM_SIZE = 11
_SSIM_SIGMA = 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

DEFINITIONS: dict[str, str] = {
    "psnr_rgb_u8": (
        "20 log10(255 / RMSE) in dB after both images are clipped and rounded to 8 bits, over all pixels and "
        "all colour channels jointly, no border left out. Higher is better; +1 dB is 11 % less error."
    ),
    "ssim_gauss11_rgb": (
        "Structural similarity (Wang et al. 2004) of the 8-bit images: 11x11 Gaussian window of sigma 1.5, "
        "valid region only, K1 0.01, K2 0.03, L 255, per channel, then the mean. 1 means equal."
    ),
}
"""What each metric is, in words for a reader of a report."""


def psnr_rgb_u8(image: NDArray[Any], clean: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio in dB on rounded 8-bit values, all channels jointly.

    Args:
        image: (H, W, C) uint8, uint16, or float in [0, 1] (clipped and rounded to the nearest 8-bit value).
        clean: same shape.

    Returns:
        20 log10(255 / RMSE); infinity for equal images.

    Raises:
        ValueError: the shapes differ.
    """
    first, second = _pair(image, clean)
    error = float(np.mean((first - second) ** 2))
    return math.inf if error == 0 else 20 * math.log10(255 / math.sqrt(error))


def ssim_gauss11_rgb(image: NDArray[Any], clean: NDArray[Any]) -> float:
    """Structural similarity, Wang et al. 2004, equations 12 and 13, on rounded 8-bit values.

    11x11 Gaussian window with sigma 1.5, valid region, K1 = 0.01, K2 = 0.03, L = 255; per channel, then the
    mean of the channels. (MATLAB's ``ssim`` of an RGB array is another, larger number.)

    Args:
        image: (H, W, C), H and W at least 11; dtypes as for `psnr_rgb_u8`.
        clean: same shape.

    Raises:
        ValueError: the shapes differ, or an image is smaller than the window.
    """
    first, second = _pair(image, clean)
    if min(first.shape[:2]) < SSIM_SIZE:
        raise ValueError(f"SSIM needs at least 11x11 pixels, got {first.shape[1]}x{first.shape[0]}")
    mean1, mean2 = _blur(first), _blur(second)
    variance1 = _blur(first * first) - mean1 * mean1
    variance2 = _blur(second * second) - mean2 * mean2
    covariance = _blur(first * second) - mean1 * mean2
    above = (2 * mean1 * mean2 + _C1) * (2 * covariance + _C2)
    below = (mean1 * mean1 + mean2 * mean2 + _C1) * (variance1 + variance2 + _C2)
    return float(np.mean(above / below))


def measure(image: NDArray[Any], clean: NDArray[Any]) -> dict[str, float]:
    """Return every metric of ``DEFINITIONS`` by name."""
    return {
        "psnr_rgb_u8": psnr_rgb_u8(image, clean),
        "ssim_gauss11_rgb": ssim_gauss11_rgb(image, clean),
    }


def _pair(image: NDArray[Any], clean: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if image.shape != clean.shape or image.ndim != 3:
        raise ValueError(f"expected two (H, W, C) images of one shape, got {image.shape} and {clean.shape}")
    return _rounded(image), _rounded(clean)


def _rounded(image: NDArray[Any]) -> NDArray[np.float64]:
    eight = image if image.dtype == np.uint8 else from_float(to_float(image), np.uint8)
    return eight.astype(np.float64)


def _blur(image: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.ndimage import correlate1d

    half = SSIM_SIZE // 2
    taps = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * _SSIM_SIGMA**2))
    taps /= taps.sum()
    blurred = correlate1d(correlate1d(image, taps, axis=0), taps, axis=1)
    valid: NDArray[np.float64] = blurred[half:-half, half:-half]
    return valid
