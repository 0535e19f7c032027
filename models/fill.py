"""What a hidden pixel shows the network: a constant, or the mean of its visible neighbours.

The asymmetric mask scheme (arXiv 2407.06514, section 3) hides pixels by multiplying with the mask, which is
fill "zero". Fill "mean" is our departure: the network then starts from a sensible estimate and learns in a
fraction of the steps. Neither lets a hidden pixel see its own value (J-invariance, Batson & Royer 2019).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Fill = Literal["zero", "mean"]

# 9x9 is here so that, at usual ratios, no pixel ever needs the mean of the whole image, which would differ
# between a tile and the image it is cut from.
_NEIGHBOURHOODS = (3, 5, 9)


def fill_hidden(image: Tensor, mask: Tensor, fill: Fill) -> Tensor:
    """Copy of ``image`` with its hidden pixels filled.

    Args:
        image: (B, C, H, W) float, any range.
        mask: (B, 1, H, W) bool, True = hidden.
        fill: "zero", or "mean": the mean of the visible pixels in 3x3; where there is none in 5x5, then 9x9,
            then of the whole image (0 if all of it is hidden); per channel.

    Returns:
        (B, C, H, W) of the dtype of ``image``; visible pixels are unchanged, bit for bit.

    Raises:
        ValueError: unknown ``fill``.
    """
    if fill == "zero":
        return image.masked_fill(mask, 0.0)
    if fill != "mean":
        raise ValueError(f"fill must be 'zero' or 'mean', got {fill!r}")
    visible = (~mask).to(image.dtype)
    shown = image.masked_fill(mask, 0.0)
    everywhere = visible.sum((2, 3), keepdim=True).clamp_min(1.0)
    estimate = (shown.sum((2, 3), keepdim=True) / everywhere).expand_as(image)
    for size in reversed(_NEIGHBOURHOODS):
        count = _box_sum(visible, size)
        estimate = torch.where(count > 0, _box_sum(shown, size) / count.clamp_min(1.0), estimate)
    return torch.where(mask, estimate, image)


def _box_sum(image: Tensor, size: int) -> Tensor:
    """Sum over a centred size x size box, zero outside the image; separable to keep 9x9 cheap."""
    pad = size // 2
    rows = F.avg_pool2d(image, (size, 1), 1, (pad, 0), divisor_override=1)
    return F.avg_pool2d(rows, (1, size), 1, (0, pad), divisor_override=1)
