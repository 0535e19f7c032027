"""Colour correction matrices, white-balance gains and their inverse (Brooks et al., 2019, section 3.1)."""

from typing import Final

import torch
from torch import Tensor

HIGHLIGHT_INFLECTION: Final = 0.9
"""Above this mean of the camera channels, inverse gains fade out so that saturated stays saturated."""


def apply_ccm(image: Tensor, ccm: Tensor) -> Tensor:
    """Multiply every pixel's colour by a matrix: ``out = ccm @ rgb``.

    Args:
        image: (..., 3, H, W), linear.
        ccm: (3, 3), or (..., 3, 3) with the leading shape of ``image``.

    Returns:
        (..., 3, H, W), linear, not clipped.
    """
    return (ccm @ image.flatten(-2)).view(image.shape)


def apply_gains(packed: Tensor, red_gain: Tensor, blue_gain: Tensor) -> Tensor:
    """White-balance a packed raw: R times ``red_gain``, B times ``blue_gain``, greens kept.

    Args:
        packed: (..., 4, H/2, W/2), linear, planes R Gr Gb B.
        red_gain: scalar, or the leading shape of ``packed``.
        blue_gain: as ``red_gain``.

    Returns:
        The same shape, linear, not clipped.
    """
    green = torch.ones_like(red_gain)
    gains = torch.stack((red_gain, green, green, blue_gain), dim=-1)
    return packed * gains[..., None, None]


def safe_invert_gains(image: Tensor, rgb_gain: Tensor, red_gain: Tensor, blue_gain: Tensor) -> Tensor:
    """Undo brightening and white balance without turning white highlights grey.

    With ``g = (1/red, 1, 1/blue) / rgb_gain`` and ``m = (max(gray - 0.9, 0) / 0.1)^2``, where gray is the
    mean of the channels, each channel is multiplied by ``max(m + (1 - m) g, g)``. In dark and mid tones
    that is g; at gray = 1 it is 1.

    Args:
        image: (..., 3, H, W), camera colours, linear.
        rgb_gain: scalar, or the leading shape of ``image``.
        red_gain: as ``rgb_gain``.
        blue_gain: as ``rgb_gain``.

    Returns:
        The same shape, linear, not clipped.
    """
    gains = torch.stack((1.0 / red_gain, torch.ones_like(red_gain), 1.0 / blue_gain), dim=-1) / rgb_gain[..., None]
    gains = gains[..., None, None]
    gray = image.mean(dim=-3, keepdim=True)
    highlight = ((gray - HIGHLIGHT_INFLECTION).clamp(min=0.0) / (1.0 - HIGHLIGHT_INFLECTION)) ** 2
    return image * torch.maximum(highlight + (1.0 - highlight) * gains, gains)
