"""Image metrics whose definition is part of the name: two numbers compare only if their names are equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.evaluation.lpips import lpips_files, lpips_folder
from pipeline.evaluation.metric_table import TABLE
from pipeline.evaluation.metric_table import Metric as Metric
from pipeline.evaluation.views import Views

DEFAULT_METRICS = ("psnr_rgb_u8", "ssim_gauss11_rgb")
"""What is measured unless something else is asked for; the first is the headline."""

METRICS: dict[str, Metric] = {metric.name: metric for metric in TABLE}
"""Name -> metric. Those of LPIPS work if `UNVEIL_LPIPS` names a folder with its weights."""


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
    return METRICS["psnr_rgb_u8"].run(image, clean)


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
    return METRICS["ssim_gauss11_rgb"].run(image, clean)


def measure(image: NDArray[Any], clean: NDArray[Any], names: Sequence[str] = DEFAULT_METRICS) -> dict[str, float]:
    """Return the named metrics of one image, in the given order.

    Args:
        image: (H, W, 1 or 3) uint8, uint16, or float in [0, 1]; floats beyond are clipped.
        clean: same shape.
        names: keys of `METRICS`.

    Raises:
        ValueError: the shapes differ, or the image is too small for one of them.
        UserError: an LPIPS is asked for, and its weights are not there.
    """
    views = Views(image, clean)
    return {name: METRICS[name].of_views(views) for name in names}


def pick_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Check names of metrics that a user gave, and return each once, in the given order.

    Raises:
        UserError: unknown name (lists what exists), or one that needs weights which are not there.
    """
    for name in names:
        if name not in METRICS:
            raise UserError(f"--metrics: expected names of {', '.join(METRICS)}, found {name!r}")
        if name.startswith("lpips"):
            lpips_files(lpips_folder())
    return tuple(dict.fromkeys(names))


def definitions(names: Sequence[str]) -> dict[str, str]:
    """Return the sentences that define the named metrics."""
    return {name: METRICS[name].definition for name in names}


def least_side(names: Sequence[str]) -> int:
    """Return the smallest side in pixels on which all the named metrics work."""
    return max((METRICS[name].least for name in names), default=1)
