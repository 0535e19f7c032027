"""Resizing of display images, as viewers and websites do it."""

import torch
from torch import Tensor

from raw.arrays import accepts_numpy


@accepts_numpy
def resize(image: Tensor, height: int, width: int) -> Tensor:
    """Resample to another size: cubic interpolation, widened when shrinking so that nothing aliases.

    Args:
        image: (..., C, H, W) float in [0, 1].
        height: new height, >= 1.
        width: new width, >= 1.

    Returns:
        (..., C, height, width) in [0, 1]: the cubic overshoots at edges, and the overshoot is clipped.

    Raises:
        ValueError: the new size is empty.
    """
    if height < 1 or width < 1:
        raise ValueError(f"an image cannot be resized to {height}x{width}")
    flat = image.reshape(-1, *image.shape[-3:])
    size = (height, width)
    resized = torch.nn.functional.interpolate(flat, size=size, mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp_(0.0, 1.0).view(*image.shape[:-2], height, width)
