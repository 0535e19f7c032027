"""Bilinear demosaicing of a packed Bayer raw, as in Brooks et al. (2019)."""

import torch
from torch import Tensor

from raw.cfa import CFAPattern, plane_sites


def demosaic(packed: Tensor, pattern: CFAPattern = "RGGB") -> Tensor:
    """Fill in the two missing colours of every pixel by bilinear interpolation.

    Red and blue are means of the two or four nearest samples. Green is kept at green sites and is elsewhere
    the mean of its four neighbours. At the border the nearest sample of the same plane is repeated.

    Args:
        packed: (..., 4, H/2, W/2) float, planes R Gr Gb B.
        pattern: the CFA pattern at pixel (0, 0).

    Returns:
        (..., 3, H, W), the range of the input; nothing is clipped.

    Raises:
        ValueError: ``packed`` does not have four planes.
    """
    if packed.ndim < 3 or packed.shape[-3] != 4:
        raise ValueError(f"packed raw must have shape (..., 4, H/2, W/2), got {tuple(packed.shape)}")
    red, green_r, green_b, blue = packed.unbind(dim=-3)
    red_site, green_r_site, green_b_site, blue_site = plane_sites(pattern)
    *batch, _, height, width = packed.shape
    out = packed.new_empty((*batch, 3, 2 * height, 2 * width))
    _interpolate(red, red_site, out[..., 0, :, :])
    _interpolate(blue, blue_site, out[..., 2, :, :])

    green = out[..., 1, :, :]
    _at(green, green_r_site).copy_(green_r)
    _at(green, green_b_site).copy_(green_b)
    # Gr shares red's rows and blue's columns, Gb the reverse.
    at_red = _midway(green_r, -1, green_r_site[1]) + _midway(green_b, -2, green_b_site[0])
    at_blue = _midway(green_b, -1, green_b_site[1]) + _midway(green_r, -2, green_r_site[0])
    _at(green, red_site).copy_(at_red / 2)
    _at(green, blue_site).copy_(at_blue / 2)
    return out


def _at(image: Tensor, site: tuple[int, int]) -> Tensor:
    """View of the pixels of ``image`` (..., H, W) at one site of every 2x2 cell."""
    return image[..., site[0] :: 2, site[1] :: 2]


def _midway(plane: Tensor, dim: int, offset: int) -> Tensor:
    """Means of neighbours along ``dim``: values at the phase that ``plane``, of ``offset``, lacks."""
    size = plane.shape[dim]
    if offset == 0:
        neighbour = torch.cat((plane.narrow(dim, 1, size - 1), plane.narrow(dim, size - 1, 1)), dim=dim)
    else:
        neighbour = torch.cat((plane.narrow(dim, 0, 1), plane.narrow(dim, 0, size - 1)), dim=dim)
    return (plane + neighbour) / 2


def _interpolate(plane: Tensor, site: tuple[int, int], out: Tensor) -> None:
    """Interpolate ``plane`` (..., H/2, W/2), sampled at ``site``, into ``out`` (..., H, W)."""
    row, column = site
    below = _midway(plane, -2, row)
    _at(out, (row, column)).copy_(plane)
    _at(out, (1 - row, column)).copy_(below)
    _at(out, (row, 1 - column)).copy_(_midway(plane, -1, column))
    _at(out, (1 - row, 1 - column)).copy_(_midway(below, -1, column))
