"""Colour correction matrices, white-balance gains and their inverse (Brooks et al., 2019, section 3.1)."""

from typing import Final

import torch
from torch import Tensor

from raw.arrays import accepts_numpy

HIGHLIGHT_INFLECTION: Final = 0.9
"""Above this mean of the camera channels, inverse gains fade out so that saturated stays saturated."""


@accepts_numpy
def apply_ccm(image: Tensor, ccm: Tensor) -> Tensor:
    """Multiply every pixel's colour by a matrix: ``out = ccm @ rgb``.

    Args:
        image: (..., 3, H, W), linear.
        ccm: (3, 3), or (..., 3, 3) with the leading shape of ``image``.

    Returns:
        (..., 3, H, W), linear, not clipped.
    """
    return (ccm @ image.flatten(-2)).view(image.shape)


@accepts_numpy
def safe_invert_gains(colour: Tensor, gray: Tensor, gain: Tensor) -> Tensor:
    """Undo a gain without turning white highlights grey.

    With ``m = (max(gray - 0.9, 0) / 0.1)^2`` the colour is multiplied by ``max(m + (1 - m) g, g)``. In dark
    and mid tones that is g; at gray = 1 it is 1.

    Args:
        colour: camera colours, any one channel at each place, linear.
        gray: mean of the three camera channels at the same places; the shape of ``colour``, or broadcast to it.
        gain: g, the reciprocal of the gain to undo; > 0, broadcast to ``colour``.

    Returns:
        The shape of ``colour``, linear, not clipped.
    """
    highlight = (gray - HIGHLIGHT_INFLECTION).clamp_(min=0.0).div_(1.0 - HIGHLIGHT_INFLECTION).square_()
    # m + (1 - m) g = g + m (1 - g), which is below g just where g is above 1.
    return torch.addcmul(gain, highlight, (1.0 - gain).clamp(min=0.0)) * colour


def saturated(matrix: Tensor, saturation: float) -> Tensor:
    """Follow a colour matrix (..., 3, 3) by one that draws colours to the mean of their channels, or from it.

    Greys stay: the rows of both sum to 1.

    Args:
        matrix: onto linear RGB.
        saturation: 1 leaves ``matrix`` as it is, 0 gives three equal channels.
    """
    if saturation == 1.0:
        return matrix
    third = (1.0 - saturation) / 3.0
    return (saturation * torch.eye(3, dtype=matrix.dtype, device=matrix.device) + third) @ matrix
