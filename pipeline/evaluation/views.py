"""Two images brought to the forms that metrics are computed on, each form once however many metrics ask for it."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.images import from_float, to_float
from pipeline.evaluation.ssim import gauss11, matlab_volume, uniform7

Array = NDArray[np.float64]
Both = tuple[Array, Array]

_LUMA = np.array([65.481, 128.553, 24.966]) / 255
"""ITU-R BT.601 studio swing, as MATLAB's rgb2ycbcr has it, for values of 0 to 255."""


class Views:
    """An image and its clean partner, (H, W, C) float64 on the scale 0 to 255 in every form.

    Args:
        image: (H, W, C) uint8, uint16, or float in [0, 1]; floats beyond are clipped.
        clean: same shape; may be of another type.

    Raises:
        ValueError: the shapes differ.
    """

    def __init__(self, image: NDArray[Any], clean: NDArray[Any]) -> None:
        if image.shape != clean.shape or image.ndim != 3:
            raise ValueError(f"expected two (H, W, C) images of one shape, got {image.shape} and {clean.shape}")
        self._images = (image, clean)
        self.height, self.width = image.shape[:2]

    @cached_property
    def rounded(self) -> Both:
        """Rounded to the nearest 8-bit value."""
        return _rounded(self._images[0]), _rounded(self._images[1])

    @cached_property
    def unrounded(self) -> Both:
        """Clipped only."""
        return _unrounded(self._images[0]), _unrounded(self._images[1])

    @cached_property
    def truncated(self) -> Both:
        """Cut down to the 8-bit value below."""
        return np.floor(self.unrounded[0]), np.floor(self.unrounded[1])

    @cached_property
    def luma(self) -> Both:
        """Y of the rounded images, (H, W, 1), from 16 to 235, not rounded."""
        return _luma(self.rounded[0]), _luma(self.rounded[1])

    @cached_property
    def gauss11_rgb(self) -> Array:
        """Map of the structural similarity of the rounded images."""
        return gauss11(*self.rounded)

    @cached_property
    def gauss11_y(self) -> Array:
        """Map of the structural similarity of their luma."""
        return gauss11(*self.luma)

    def ssim_unrounded(self) -> float:
        """Return the mean similarity of the images as they are, under the Gaussian window."""
        return float(np.mean(gauss11(*self.unrounded)))

    def ssim_sample(self) -> float:
        """Return the mean similarity of the rounded images under the Gaussian window, with sample covariance."""
        return float(np.mean(gauss11(*self.rounded, sample_covariance=True)))

    def ssim_uniform7(self) -> float:
        """Return the mean similarity of the rounded images under the uniform window."""
        return float(np.mean(uniform7(*self.rounded)))

    def ssim_volume(self, first: Array, second: Array) -> float:
        """Return the mean similarity of two forms as MATLAB computes it."""
        return float(np.mean(matlab_volume(first, second)))


def _rounded(image: NDArray[Any]) -> Array:
    eight = image if image.dtype == np.uint8 else from_float(to_float(image), np.uint8)
    return eight.astype(np.float64)


def _unrounded(image: NDArray[Any]) -> Array:
    if image.dtype == np.uint8:
        return image.astype(np.float64)
    if image.dtype == np.uint16:
        # Exactly: 255 / 65535 = 1 / 257.
        return image.astype(np.float64) / 257
    return np.clip(image.astype(np.float64), 0.0, 1.0) * 255


def _luma(image: Array) -> Array:
    channels = image.shape[2]
    if channels not in (1, 3):
        raise ValueError(f"luma needs one or three channels, got {channels}")
    luma: Array = 16 + (image if channels == 3 else np.repeat(image, 3, axis=2)) @ _LUMA
    return luma[..., None]
