"""What a hidden pixel shows the network: a constant, or an estimate from visible neighbours.

The asymmetric mask scheme (arXiv 2407.06514, section 3) hides pixels by multiplying with the mask, which is
fill "zero". The others are our departure: the network then starts from a sensible estimate and learns in a
fraction of the steps. None lets a hidden pixel see its own value (J-invariance, Batson & Royer 2019).

All but the last resort of "mean" have a finite reach and no grid, so that a tile is filled like the whole image.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Fill = Literal["zero", "mean", "smooth"]

FILLS = get_args(Fill)

# 9x9 is here so that, at usual ratios, no pixel ever needs the mean of the whole image, which would differ
# between a tile and the image it is cut from.
_NEIGHBOURHOODS = (3, 5, 9)

# Two boxes of 3x3, one after the other, are weights 3, 2, 1 along each axis: near to the Gaussian of deviation 1,
# which predicts pixels best (docs/asymmetric-masks.md), and cheaper than the three boxes of "mean".
_NEAR = 3
# Boxes over that, for holes: the first always takes part, but counts only where the near weights see little.
_FAR, _FAR_WEIGHT = 9, 1e-3
_LAST = 33
_NOTHING_VISIBLE = 0.5


def fill_reach(fill: Fill, hole: tuple[int, int]) -> int:
    """How far a visible pixel can be and still change what a hidden one shows, of masks with such holes."""
    if fill == "zero":
        return 0
    if fill == "mean":
        return _NEIGHBOURHOODS[-1] // 2
    near = 2 * (_NEAR // 2)
    return near + (_FAR // 2 if max(hole) < _FAR else _LAST // 2)


def fill_hidden(image: Tensor, mask: Tensor, fill: Fill) -> Tensor:
    """Copy of ``image`` with its hidden pixels filled.

    Args:
        image: (B, C, H, W) float, any range.
        mask: (B, 1, H, W) bool, True = hidden.
        fill: "zero"; "mean": the mean of the visible pixels in 3x3; where there is none in 5x5, then 9x9,
            then of the whole image (0 if all of it is hidden); or "smooth": the mean of the visible pixels with
            weights that fall with distance (normalised convolution, Knutsson & Westin 1993), 0.5 where none is
            within 18 pixels. Per channel.

    Returns:
        (B, C, H, W) of the dtype of ``image``; visible pixels are unchanged, bit for bit.

    Raises:
        ValueError: unknown ``fill``.
    """
    if fill == "zero":
        return image.masked_fill(mask, 0.0)
    if fill == "mean":
        return torch.where(mask, _nearest_mean(image, mask), image)
    if fill == "smooth":
        return torch.where(mask, _weighted_mean(image, mask), image)
    raise ValueError(f"fill must be one of {FILLS}, got {fill!r}")


def _nearest_mean(image: Tensor, mask: Tensor) -> Tensor:
    shown = _with_counts(image, mask)
    missing = mask
    estimate = torch.zeros_like(shown[:, :-1])
    for size in _NEIGHBOURHOODS:
        sums = _box_sum(shown, size)
        count = sums[:, -1:]
        estimate = torch.where(missing, sums[:, :-1] / count.clamp_min(1.0), estimate)
        missing = missing & (count == 0)
        # Mostly 3x3 or 5x5 is enough. Elsewhere than on a CPU asking would take longer than the rest.
        if image.device.type == "cpu" and not bool(missing.any()):
            return estimate.to(image.dtype)
    everywhere = shown.sum((2, 3), keepdim=True)
    mean = everywhere[:, :-1] / everywhere[:, -1:].clamp_min(1.0)
    return torch.where(missing, mean, estimate).to(image.dtype)


def _weighted_mean(image: Tensor, mask: Tensor) -> Tensor:
    shown = _with_counts(image, mask)
    near = _box_sum(_box_sum(shown, _NEAR), _NEAR)
    sums = near + _FAR_WEIGHT / _FAR**2 * _box_sum(near, _FAR)
    if bool((mask & (sums[:, -1:] == 0)).any()):
        sums = torch.where(sums[:, -1:] > 0, sums, _box_sum(near, _LAST))
    weights = sums[:, -1:]
    estimate = torch.where(weights > 0, sums[:, :-1] / weights.clamp_min(_FAR_WEIGHT / _FAR**2), _NOTHING_VISIBLE)
    return estimate.to(image.dtype)


def _with_counts(image: Tensor, mask: Tensor) -> Tensor:
    """What is visible, and as one more channel where: what that adds up to is the number of pixels in a sum."""
    shown = torch.cat([image.masked_fill(mask, 0.0), (~mask).to(image.dtype)], dim=1)
    return shown.to(torch.promote_types(image.dtype, torch.float32))


def _box_sum(image: Tensor, size: int) -> Tensor:
    """Sum over a centred size x size box, zero outside the image; separable to keep 9x9 cheap."""
    return _line_sum(_line_sum(image, size, 2), size, 3)


def _pooled_line_sum(image: Tensor, size: int, axis: int) -> Tensor:
    pad = size // 2
    box, pads = ((size, 1), (pad, 0)) if axis == 2 else ((1, size), (0, pad))
    return F.avg_pool2d(image, box, 1, pads, divisor_override=1)


def _line_sum(image: Tensor, size: int, axis: int) -> Tensor:
    pad = size // 2
    if image.device.type != "cpu":
        return _pooled_line_sum(image, size, axis)
    # The same sums in the same order, bit for bit, in a sixth of the time: that kernel does one pixel after the other.
    padded = F.pad(image, (0, 0, pad, pad) if axis == 2 else (pad, pad))
    length = image.shape[axis]
    total = padded.narrow(axis, 0, length) + padded.narrow(axis, 1, length)
    for first in range(2, size):
        total += padded.narrow(axis, first, length)
    return total
