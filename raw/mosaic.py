"""Sampling of an RGB image by a Bayer pattern, and the packed form of a mosaic with its inverse."""

import torch
from torch import Tensor

from raw.cfa import CFAPattern, plane_sites

_CHANNEL_OF_PLANE = (0, 1, 1, 2)


def mosaic(image: Tensor, pattern: CFAPattern = "RGGB") -> Tensor:
    """Keep at every pixel the one colour that the CFA pattern passes.

    Args:
        image: (..., 3, H, W), any dtype and range; H and W even.
        pattern: the CFA pattern at pixel (0, 0).

    Returns:
        Packed raw (..., 4, H/2, W/2), planes R Gr Gb B.

    Raises:
        ValueError: not three channels, or H or W is odd.
    """
    if image.ndim < 3 or image.shape[-3] != 3:
        raise ValueError(f"a mosaic needs an image of shape (..., 3, H, W), got {tuple(image.shape)}")
    _require_even(image)
    planes = zip(_CHANNEL_OF_PLANE, plane_sites(pattern), strict=True)
    return torch.stack([image[..., channel, i::2, j::2] for channel, (i, j) in planes], dim=-3)


def pack(mosaic_image: Tensor, pattern: CFAPattern) -> Tensor:
    """Split a mosaic (..., H, W), H and W even, into packed raw (..., 4, H/2, W/2), planes R Gr Gb B.

    Raises:
        ValueError: H or W is odd.
    """
    _require_even(mosaic_image)
    return torch.stack([mosaic_image[..., i::2, j::2] for i, j in plane_sites(pattern)], dim=-3)


def unpack(packed: Tensor, pattern: CFAPattern) -> Tensor:
    """Inverse of ``pack``: packed raw (..., 4, H/2, W/2) to the mosaic (..., H, W)."""
    *batch, _, height, width = packed.shape
    out = packed.new_empty((*batch, 2 * height, 2 * width))
    for plane, (i, j) in enumerate(plane_sites(pattern)):
        out[..., i::2, j::2] = packed[..., plane, :, :]
    return out


def _require_even(image: Tensor) -> None:
    height, width = image.shape[-2:]
    if height % 2 or width % 2:
        raise ValueError(f"a mosaic needs an even height and width, got {height}x{width}")
