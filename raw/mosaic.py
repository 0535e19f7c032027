"""Sampling of an RGB image by a Bayer pattern, and the packed form of a mosaic with its inverse.

Work on a mosaic is done on its four *sites*: the pixels at one place of every 2x2 cell, as quarter-size planes
in the order R, Gr, Gb, B. They are contiguous, and one step serves all four CFA patterns.
"""

import torch
from torch import Tensor

from raw.arrays import accepts_numpy
from raw.cfa import CFAPattern, plane_sites

CHANNEL_OF_PLANE = (0, 1, 1, 2)
_IN_READING_ORDER: CFAPattern = "RGGB"


@accepts_numpy
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
    _require_rgb(image)
    planes = zip(CHANNEL_OF_PLANE, plane_sites(pattern), strict=True)
    return torch.stack([image[..., channel, i::2, j::2] for channel, (i, j) in planes], dim=-3)


@accepts_numpy
def pack(mosaic_image: Tensor, pattern: CFAPattern) -> Tensor:
    """Split a mosaic (..., H, W), H and W even, into packed raw (..., 4, H/2, W/2), planes R Gr Gb B.

    Raises:
        ValueError: H or W is odd.
    """
    _require_even(mosaic_image)
    return torch.stack([mosaic_image[..., i::2, j::2] for i, j in plane_sites(pattern)], dim=-3)


@accepts_numpy
def unpack(packed: Tensor, pattern: CFAPattern) -> Tensor:
    """Inverse of ``pack``: packed raw (..., 4, H/2, W/2) to the mosaic (..., H, W)."""
    *batch, _, height, width = packed.shape
    out = packed.new_empty((*batch, 2 * height, 2 * width))
    for plane, (i, j) in enumerate(plane_sites(pattern)):
        out[..., i::2, j::2] = packed[..., plane, :, :]
    return out


def split_sites(image: Tensor, pattern: CFAPattern) -> Tensor:
    """Split an RGB image into the pixels of each plane's site, all three channels of each.

    Args:
        image: (..., 3, H, W), any dtype and range; H and W even.
        pattern: the CFA pattern at pixel (0, 0).

    Returns:
        (..., 4, 3, H/2, W/2), sites in the order R Gr Gb B, contiguous.

    Raises:
        ValueError: not three channels, or H or W is odd.
    """
    _require_rgb(image)
    *batch, channels, height, width = image.shape
    cells = image.reshape(-1, channels, height // 2, 2, width // 2, 2).permute(0, 3, 5, 1, 2, 4)
    if pattern != _IN_READING_ORDER:
        cells = torch.stack([cells[:, i, j] for i, j in plane_sites(pattern)], dim=1)
    return cells.reshape(*batch, 4, channels, height // 2, width // 2)


def merge_sites(sites: Tensor, pattern: CFAPattern) -> Tensor:
    """Interleave (..., 4, H/2, W/2), sites in the order R Gr Gb B, into images (..., H, W)."""
    if pattern != _IN_READING_ORDER:
        return unpack(sites, pattern)
    *batch, _, height, width = sites.shape
    cells = sites.reshape(-1, 2, 2, height, width).permute(0, 3, 1, 4, 2)
    return cells.reshape(*batch, 2 * height, 2 * width)


def _require_rgb(image: Tensor) -> None:
    if image.ndim < 3 or image.shape[-3] != 3:
        raise ValueError(f"an sRGB image must have shape (..., 3, H, W), got {tuple(image.shape)}")
    _require_even(image)


def _require_even(image: Tensor) -> None:
    height, width = image.shape[-2:]
    if height % 2 or width % 2:
        raise ValueError(f"a mosaic needs an even height and width, got {height}x{width}")
