"""Demosaicing of a packed Bayer raw: bilinear, or gradient-corrected (Malvar, He and Cutler, ICASSP 2004).

Both are linear, so both are one convolution over the 2x2 cells: from the four planes of a cell and its eight
neighbours to three colours at four sites. A method is a stencil over the pixels around a site.
"""

import functools
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn import functional

from raw.arrays import accepts_numpy
from raw.cfa import CFAPattern, plane_sites
from raw.mosaic import CHANNEL_OF_PLANE, merge_sites

Method = Literal["bilinear", "malvar"]
Stencil = tuple[tuple[float, ...], ...]

_RED, _GREEN, _BLUE = range(3)
_PLANE_R, _PLANE_GR, _PLANE_GB, _PLANE_B = range(4)

# Weights of the samples of the wanted colour around a pixel that may or may not be one of them.
_BILINEAR_GREEN: Final[Stencil] = ((0, 1 / 4, 0), (1 / 4, 1, 1 / 4), (0, 1 / 4, 0))
_BILINEAR_OTHER: Final[Stencil] = ((1 / 4, 1 / 2, 1 / 4), (1 / 2, 1, 1 / 2), (1 / 4, 1 / 2, 1 / 4))

# Figure 2 of Malvar et al., times 16: the bilinear mean of the missing colour, corrected by the Laplacian of the
# colour that the pixel has. The gains of that correction (1/2, 5/8, 3/4) minimise the mean squared error.
_KEPT: Final[Stencil] = ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 0, 16, 0, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0))
_GREEN_AT_OTHER: Final[Stencil] = (
    (0, 0, -2, 0, 0),
    (0, 0, 4, 0, 0),
    (-2, 4, 8, 4, -2),
    (0, 0, 4, 0, 0),
    (0, 0, -2, 0, 0),
)
_FROM_THE_SIDES: Final[Stencil] = (
    (0, 0, 1, 0, 0),
    (0, -2, 0, -2, 0),
    (-2, 8, 10, 8, -2),
    (0, -2, 0, -2, 0),
    (0, 0, 1, 0, 0),
)
_FROM_ABOVE_AND_BELOW: Final[Stencil] = tuple(zip(*_FROM_THE_SIDES, strict=True))
_FROM_THE_CORNERS: Final[Stencil] = (
    (0, 0, -3, 0, 0),
    (0, 4, 0, 4, 0),
    (-3, 0, 12, 0, -3),
    (0, 4, 0, 4, 0),
    (0, 0, -3, 0, 0),
)
# Rows: sites R Gr Gb B; columns: red, green, blue there. Gr has its reds at the sides, Gb above and below.
_MALVAR: Final = (
    (_KEPT, _GREEN_AT_OTHER, _FROM_THE_CORNERS),
    (_FROM_THE_SIDES, _KEPT, _FROM_ABOVE_AND_BELOW),
    (_FROM_ABOVE_AND_BELOW, _KEPT, _FROM_THE_SIDES),
    (_FROM_THE_CORNERS, _GREEN_AT_OTHER, _KEPT),
)


@accepts_numpy
def demosaic(packed: Tensor, pattern: CFAPattern = "RGGB", method: Method = "bilinear") -> Tensor:
    """Fill in the two missing colours of every pixel.

    Bilinear: red and blue are means of the two or four nearest samples; green is kept at green sites and is
    elsewhere the mean of its four neighbours. Malvar corrects these means by the gradient of the colour that
    the pixel has: sharper, with some overshoot. At the border the nearest sample of the same plane is repeated.

    Args:
        packed: (..., 4, H/2, W/2) float, planes R Gr Gb B.
        pattern: the CFA pattern at pixel (0, 0).
        method: ``bilinear`` or ``malvar``.

    Returns:
        (..., 3, H, W); nothing is clipped: bilinear keeps the range of the input, Malvar may leave it.

    Raises:
        ValueError: ``packed`` does not have four planes.
    """
    return merge_sites(demosaic_sites(packed, pattern, method), pattern)


def demosaic_sites(packed: Tensor, pattern: CFAPattern, method: Method = "bilinear") -> Tensor:
    """Demosaic, with the result in quarter-size planes: (..., 3, 4, H/2, W/2), the sites in the order R Gr Gb B.

    Raises:
        ValueError: ``packed`` does not have four planes.
    """
    if packed.ndim < 3 or packed.shape[-3] != 4:
        raise ValueError(f"packed raw must have shape (..., 4, H/2, W/2), got {tuple(packed.shape)}")
    *batch, planes, height, width = packed.shape
    padded = functional.pad(packed.reshape(-1, planes, height, width), (1, 1, 1, 1), mode="replicate")
    kernel = _cell_kernel(pattern, method, packed.dtype, packed.device)
    return functional.conv2d(padded, kernel).view(*batch, 3, planes, height, width)


@functools.cache
def _cell_kernel(pattern: CFAPattern, method: Method, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(12, 4, 3, 3): from the planes of 3x3 cells to the colours at the sites of the middle one."""
    sites = plane_sites(pattern)
    kernel = torch.zeros(3, len(sites), len(sites), 3, 3, dtype=torch.float64)
    for target, (top, left) in enumerate(sites):
        for channel in (_RED, _GREEN, _BLUE):
            stencil, any_colour = _stencil(target, channel, method)
            reach = len(stencil) // 2
            for row, weights in enumerate(stencil, start=top - reach):
                for column, weight in enumerate(weights, start=left - reach):
                    source = sites.index((row % 2, column % 2))
                    if any_colour or CHANNEL_OF_PLANE[source] == channel:
                        kernel[channel, target, source, 1 + row // 2, 1 + column // 2] += weight
    return kernel.flatten(0, 1).to(dtype=dtype, device=device)


def _stencil(plane: int, channel: int, method: Method) -> tuple[Stencil, bool]:
    """Weights around a site of ``plane``, and whether they hold for samples of any colour."""
    if method == "malvar":
        return tuple(tuple(weight / 16 for weight in row) for row in _MALVAR[plane][channel]), True
    return _BILINEAR_GREEN if channel == _GREEN else _BILINEAR_OTHER, False
