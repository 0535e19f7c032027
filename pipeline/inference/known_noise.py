"""What a blind prediction missed, put back by what is known of the noise.

A network that predicts every pixel without its own value loses all detail that its neighbours do not tell, which in a
photo with little noise is far more than the noise. But its error and the noise of the hidden pixel are independent, so
the residual r = noisy - blind has Var r = Var(error) + Var(noise), and the second is known: what is beyond it is
detail. Of two independent estimates the best linear combination is (Wiener 1949; the posterior mean of Laine et al.,
NeurIPS 2019, with the prior's variance taken from the residuals around a pixel instead of from the network)

    x = blind + g r,    g = Var(error) / (Var(error) + Var(noise)) = max(1 - t Var(noise) / mean(r**2), 0)

with the mean over a square, half of it over the value's own plane and half over all: detail is in all colours, but not
in the same strength. Where the prediction is as good as it can be, g is 0; where it fails, the measurement is kept.
t = 1.15 instead of 1, as a mean of so few squares is often above its expectation, and would let noise through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch.nn.functional as F
from torch import Tensor

WINDOW: Final = 5
"""Side of the square in pixels: smaller is noisier, larger takes texture for flat beside an edge."""

MARGIN: Final = 1.15
"""What a mean square of the residual must exceed that of the noise by: t above."""

LEVEL_WINDOW: Final = 33
"""Side of the square over which levels are kept; what it lets through of the noise is 1/33 of its deviation."""

_LEAST_VARIANCE: Final = 1e-12
"""Far below a step of 16 bits."""


def combine(noisy: Tensor, blind: Tensor, noise: Tensor) -> Tensor:
    """Combine a measurement with its blind prediction.

    Args:
        noisy: (B, C, H, W) float32.
        blind: (B, C, H, W) float32, predicted without each pixel's own value.
        noise: (B, 2) float32, shot and read variance of each image, in units of the image.

    Returns:
        (B, C, H, W) float32, between the two at every value.
    """
    shot, read = noise.to(blind)[:, :, None, None, None].unbind(1)
    variance = (shot * blind).clamp_min(0.0) + read.clamp_min(_LEAST_VARIANCE)
    residual = noisy - blind
    excess = F.avg_pool2d(residual.square() / variance, WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False)
    excess = (excess + excess.mean(1, keepdim=True)) / 2
    return blind + (1 - MARGIN / excess.clamp_min(MARGIN)) * residual


def keep_levels(noisy: Tensor, denoised: Tensor) -> Tensor:
    """Give a denoised image the local means of the noisy one, plane by plane.

    Noise has no mean, so local means are those of the scene, while a network that learnt medians darkens fine
    bright detail, and each colour by another amount.

    Args:
        noisy: (B, C, H, W) float32, linear.
        denoised: (B, C, H, W) float32, linear.

    Returns:
        (B, C, H, W) float32.
    """
    half = LEVEL_WINDOW // 2
    means = noisy - denoised
    for size, padding in (((LEVEL_WINDOW, 1), (half, 0)), ((1, LEVEL_WINDOW), (0, half))):
        means = F.avg_pool2d(means, size, stride=1, padding=padding, count_include_pad=False)
    return denoised + means


def combined(blind: Callable[[Tensor, Tensor], Tensor], levels: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a denoiser of crops whose predictions are combined with the crops.

    Args:
        blind: takes crops (B, C, H, W) and (B,) int64, which of the crops each is; returns them predicted.
        levels: (N, 2) float32, shot and read variance of all crops.
    """

    def denoise(crops: Tensor, which: Tensor) -> Tensor:
        return combine(crops, blind(crops, which), levels[which.to(levels.device)])

    return denoise
