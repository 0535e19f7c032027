"""Tone curve and gamma, each beside its inverse (Brooks et al., CVPR 2019, arXiv 1811.11127, section 3.1).

All functions work element by element on float tensors of any shape and return the same shape and dtype.
"""

import functools
from typing import Final

import torch
from torch import Tensor

from raw.arrays import accepts_numpy

GAMMA: Final = 2.2
SMALLEST: Final = 1e-8
"""Inputs of a power are raised to this, as the slope of x^(1/2.2) is infinite at 0."""

SRGB_KNEE: Final = 0.0031308
SRGB_SLOPE: Final = 12.92
SRGB_OFFSET: Final = 0.055
SRGB_POWER: Final = 2.4


@accepts_numpy
def smoothstep(image: Tensor) -> Tensor:
    """Global tone curve ``y = 3 x^2 - 2 x^3``; ``image`` is clipped to [0, 1]."""
    x = image.clamp(0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


@accepts_numpy
def inverse_smoothstep(image: Tensor) -> Tensor:
    """Inverse tone curve ``y = 1/2 - sin(asin(1 - 2x) / 3)``; ``image`` is clipped to [0, 1].

    Cancellation limits float32 to an absolute error of 2e-5 below 1e-5, far under one 8-bit step.
    """
    return 0.5 - torch.sin(torch.asin(1.0 - 2.0 * image.clamp(0.0, 1.0)) / 3.0)


@accepts_numpy
def gamma_compression(image: Tensor) -> Tensor:
    """Linear to display, ``max(x, 1e-8)^(1/2.2)``: a pure power, not the sRGB curve; not clipped above."""
    # exp(log x / 2.2) is several times as fast as torch's power, and as exact: 4e-7 relative.
    return image.clamp(min=SMALLEST).log_().mul_(1.0 / GAMMA).exp_()


@accepts_numpy
def gamma_expansion(image: Tensor) -> Tensor:
    """Display to linear, ``max(x, 1e-8)^2.2``; not clipped above."""
    return image.clamp(min=SMALLEST) ** GAMMA


@accepts_numpy
def srgb_compression(image: Tensor) -> Tensor:
    """Linear to display by the sRGB curve (IEC 61966-2-1), for values >= 0; not clipped above."""
    power = image.clamp(min=SRGB_KNEE).log_().mul_(1.0 / SRGB_POWER).exp_().mul_(1.0 + SRGB_OFFSET).sub_(SRGB_OFFSET)
    return torch.where(image <= SRGB_KNEE, image * SRGB_SLOPE, power)


@accepts_numpy
def srgb_expansion(image: Tensor) -> Tensor:
    """Display to linear, the inverse of ``srgb_compression``, for values >= 0; not clipped above."""
    power = ((image.clamp(min=0.0) + SRGB_OFFSET) / (1.0 + SRGB_OFFSET)) ** SRGB_POWER
    return torch.where(image <= SRGB_KNEE * SRGB_SLOPE, image / SRGB_SLOPE, power)


@accepts_numpy
def linearize(image: Tensor) -> Tensor:
    """Undo the tone curve, then the gamma: sRGB to linear [0, 1], the first two steps of ``unprocess``.

    Args:
        image: any shape; float in [0, 1] (clipped), or uint8, whose 256 values are looked up in a table: the
            same float32 numbers as for ``image / 255``, an order of magnitude sooner.

    Returns:
        The same shape, linear, black 0, white 1; float32 for uint8.
    """
    if image.dtype == torch.uint8:
        return _byte_table(image.device).index_select(0, image.flatten().int()).view(image.shape)
    return gamma_expansion(inverse_smoothstep(image))


@functools.cache
def _byte_table(device: torch.device) -> Tensor:
    """(256,) linear values of the 8-bit levels."""
    levels = torch.arange(256, dtype=torch.float32, device=device) / 255.0
    return gamma_expansion(inverse_smoothstep(levels))
