"""The metrics one by one: name, definition in words, and how it is computed from two prepared images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.lpips import LEAST, lpips_alex
from pipeline.evaluation.ssim import GAUSS_SIZE, UNIFORM_SIZE
from pipeline.evaluation.views import Views

_JOINTLY = "over all pixels and all colour channels jointly"
_GAUSS = (
    "Structural similarity (Wang et al. 2004): 11x11 Gaussian window of sigma 1.5, "
    "valid region only, K1 0.01, K2 0.03, L 255"
)
_LUMA = (
    "luma Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255 of the 8-bit images (MATLAB's rgb2ycbcr), not rounded; "
    "grey counts as three equal channels"
)
_MATLAB = (
    "What MATLAB's ssim returns for an array of height, width and channels: it takes the channels for a third "
    "dimension of space. 11x11x11 Gaussian window of sigma 1.5, nearest values repeated beyond the edges, K1 0.01, "
    "K2 0.03, then the mean. On photos larger than a mean over the channels"
)
_LPIPS = (
    "Learned perceptual distance (Zhang et al. 2018) v0.1 with AlexNet, of the 8-bit images scaled to [-1, 1], all "
    "pixels; grey counts as three equal channels"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A number for an image beside its clean partner, with everything a reader needs to know of it."""

    name: str
    """Key in every result; tells the definition."""

    unit: Literal["dB", ""]
    """What follows the number."""

    higher_is_better: bool
    """False for a distance."""

    short: str
    """Head of a column for people."""

    definition: str
    """One to three sentences, exact."""

    least: int
    """Smallest side in pixels that it works on."""

    of: Callable[[Views], float]
    """Computes it from two images that are prepared once for all metrics."""

    def run(self, image: NDArray[Any], clean: NDArray[Any]) -> float:
        """Return the metric of one image.

        Args:
            image: (H, W, 1 or 3) uint8, uint16, or float in [0, 1]; floats beyond are clipped.
            clean: same shape.

        Raises:
            ValueError: the shapes differ, or the image is too small.
            UserError: it is an LPIPS, and its weights are not there.
        """
        return self.of_views(Views(image, clean))

    def of_views(self, views: Views) -> float:
        """Return the metric of images that are prepared already; errors as for `run`."""
        if min(views.height, views.width) < self.least:
            raise ValueError(
                f"{self.name} needs at least {self.least}x{self.least} pixels, got {views.width}x{views.height}"
            )
        return self.of(views)


def _psnr(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    error = float(np.mean((first - second) ** 2))
    return math.inf if error == 0 else 20 * math.log10(255 / math.sqrt(error))


def _inner(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Leave out a border of one pixel."""
    return image[1:-1, 1:-1]


def _metric(
    name: str,
    short: str,
    definition: str,
    of: Callable[[Views], float],
    least: int = 1,
    *,
    unit: Literal["dB", ""] = "",
) -> Metric:
    better = not name.startswith("lpips")
    return Metric(
        name=name,
        unit=unit,
        higher_is_better=better,
        short=short,
        definition=f"{definition} {'Higher' if better else 'Lower'} is better.",
        least=least,
        of=of,
    )


def _decibel(name: str, short: str, definition: str, of: Callable[[Views], float], least: int = 1) -> Metric:
    return _metric(name, short, definition, of, least, unit="dB")


TABLE = (
    _decibel(
        "psnr_rgb_u8",
        "PSNR",
        f"20 log10(255 / RMSE) in dB after both images are clipped and rounded to 8 bits, {_JOINTLY}, no border "
        "left out. +1 dB is 11 % less error.",
        lambda views: _psnr(*views.rounded),
    ),
    _decibel(
        "psnr_rgb_u8_border1",
        "PSNR (border 1)",
        f"20 log10(255 / RMSE) in dB after both images are clipped and rounded to 8 bits, {_JOINTLY}, a border of "
        "one pixel left out.",
        lambda views: _psnr(*map(_inner, views.rounded)),
        3,
    ),
    _decibel(
        "psnr_rgb_float",
        "PSNR (float)",
        f"20 log10(1 / RMSE) in dB of images clipped to [0, 1] and not rounded, {_JOINTLY}.",
        lambda views: _psnr(*views.unrounded),
    ),
    _decibel(
        "psnr_rgb_trunc8",
        "PSNR (truncated)",
        f"20 log10(255 / RMSE) in dB after both images are clipped and cut down to 8 bits, not rounded, {_JOINTLY}. "
        "The cut makes a picture half a grey level darker on average.",
        lambda views: _psnr(*views.truncated),
    ),
    _decibel(
        "psnr_y",
        "PSNR Y",
        f"20 log10(255 / RMSE) in dB of {_LUMA}.",
        lambda views: _psnr(*views.luma),
    ),
    _decibel(
        "psnr_y_border1",
        "PSNR Y (border 1)",
        f"20 log10(255 / RMSE) in dB of {_LUMA}; a border of one pixel left out.",
        lambda views: _psnr(*map(_inner, views.luma)),
        3,
    ),
    _metric(
        "ssim_gauss11_rgb",
        "SSIM",
        f"{_GAUSS}, of the 8-bit images, per channel, then the mean. 1 means equal.",
        lambda views: float(np.mean(views.gauss11_rgb)),
        GAUSS_SIZE,
    ),
    _metric(
        "ssim_gauss11_rgb_border1",
        "SSIM (border 1)",
        f"{_GAUSS}, of the 8-bit images without a border of one pixel, per channel, then the mean.",
        lambda views: float(np.mean(_inner(views.gauss11_rgb))),
        GAUSS_SIZE + 2,
    ),
    _metric(
        "ssim_gauss11_rgb_float",
        "SSIM (float)",
        f"{_GAUSS}, of images clipped to [0, 1] and not rounded, per channel, then the mean.",
        lambda views: views.ssim_unrounded(),
        GAUSS_SIZE,
    ),
    _metric(
        "ssim_gauss11_sample_rgb",
        "SSIM (sample covariance)",
        f"{_GAUSS}, of the 8-bit images, variances and covariance times 121/120 (scikit-image with Gaussian weights "
        "and its default covariance), per channel, then the mean.",
        lambda views: views.ssim_sample(),
        GAUSS_SIZE,
    ),
    _metric(
        "ssim_gauss11_y",
        "SSIM Y",
        f"{_GAUSS}, of {_LUMA}.",
        lambda views: float(np.mean(views.gauss11_y)),
        GAUSS_SIZE,
    ),
    _metric(
        "ssim_gauss11_y_border1",
        "SSIM Y (border 1)",
        f"{_GAUSS}, of {_LUMA}; a border of one pixel left out.",
        lambda views: float(np.mean(_inner(views.gauss11_y))),
        GAUSS_SIZE + 2,
    ),
    _metric(
        "ssim_uniform7_rgb",
        "SSIM (7x7)",
        "Structural similarity as scikit-image computes it by default: 7x7 uniform window, variances and covariance "
        "times 49/48, valid region only, K1 0.01, K2 0.03, L 255, of the 8-bit images, per channel, then the mean.",
        lambda views: views.ssim_uniform7(),
        UNIFORM_SIZE,
    ),
    _metric(
        "ssim_matlab_volume",
        "SSIM (MATLAB)",
        f"{_MATLAB}. Of the 8-bit images. Grey is an ordinary image to it.",
        lambda views: views.ssim_volume(*views.rounded),
    ),
    _metric(
        "ssim_matlab_volume_float",
        "SSIM (MATLAB, float)",
        f"{_MATLAB}. Of images clipped to [0, 1] and not rounded. Grey is an ordinary image to it.",
        lambda views: views.ssim_volume(*views.unrounded),
    ),
    _metric(
        "lpips_alex",
        "LPIPS",
        f"{_LPIPS}. 0 means equal to it.",
        lambda views: lpips_alex(*views.rounded),
        LEAST,
    ),
    _metric(
        "lpips_alex_bgr",
        "LPIPS (BGR)",
        f"{_LPIPS}. The channels are given in the order blue, green, red, which the network was not made for: only to "
        "compare with numbers that were published so.",
        lambda views: lpips_alex(*views.rounded, bgr=True),
        LEAST,
    ),
)
"""All metrics, PSNR first, then SSIM and LPIPS."""
