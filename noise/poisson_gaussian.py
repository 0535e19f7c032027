"""Photons counted one by one: true Poisson shot noise plus Gaussian read noise (Foi et al., TIP 2008).

``y = K P(x / K) + N(0, read)`` with the gain ``K = shot``, so one photoelectron is worth K and x is the mean of
x / K of them. Mean and variance are those of the heteroscedastic Gaussian, ``x`` and ``shot * x + read``. What differs
is the shape: the skewness is ``K^2 x / (K x + read)^1.5`` (``1 / sqrt(photons)`` without read noise) and, where read
noise is below one electron, the values sit on a lattice. Above about 20 photons the Gaussian is a good stand-in, and
ten times as fast.
"""

import torch
from torch import Tensor

from noise.shot_read import NoiseLevel
from raw.arrays import accepts_numpy


@accepts_numpy
def shot_noise(light: Tensor, shot: float, generator: torch.Generator) -> Tensor:
    """Replace light by what its photons add up to: ``K P(light / K)`` with K = ``shot``.

    Args:
        light: any shape, float, linear, white 1; below 0 there is no light, so nothing is counted.
        shot: value of one photoelectron, in the units of ``light``; 0 returns the light without noise.
        generator: its device is where the numbers are drawn.

    Returns:
        The same shape, >= 0.
    """
    light = light.clamp(min=0.0)
    if shot == 0:
        return light
    photons = torch.poisson(light.to(generator.device).div_(shot), generator=generator)
    return photons.mul_(shot).to(light.device)


@accepts_numpy
def add_poisson_gaussian(raw: Tensor, level: NoiseLevel, generator: torch.Generator) -> Tensor:
    """``y = K P(x / K) + sqrt(read) n`` with K = ``level.shot`` and standard normal n; else as ``NoiseLevel.add``.

    Args:
        raw: any shape, linear raw, black 0, white 1. What lies below black keeps its value and counts no photons.
        level: its shot coefficient is the gain K.
        generator: its device is where the numbers are drawn.

    Returns:
        The same shape, neither clipped nor quantised.
    """
    counted = shot_noise(raw, level.shot, generator).add_(raw.clamp(max=0.0))
    normal = torch.randn(raw.shape, generator=generator, dtype=raw.dtype, device=generator.device)
    return counted.add_(normal.to(raw.device), alpha=level.read**0.5)
