"""Noise measured on a photograph and its denoised version, and as much more of it as training wants.

What a self-supervised network takes off its own photographs is the best sample of their noise that there is. This
keeps three facts of it, each measured where the picture is flat, so that leaked structure stays out:

1. the standard deviation of every channel as a function of the level, sigma(x);
2. the autocorrelation in space and between the channels, as the kernel K that gives it to white noise w;
3. from both, new noise: y = x + sigma(x) * (K conv w).

Noise that passed a concave tone curve darkens a picture: E[f(u + n)] < f(u). With a display curve u^(1/g) the mean of
the picture is lower by (g - 1) / 2 * sigma^2 / x, to second order. ``tone`` below is that factor.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float32]

LEVELS: Final = 16
"""Levels at which sigma is kept: the centres of as many equal steps from 0 to 1."""

SMALLEST: Final = 32
"""Side of a picture below which there is too little to measure."""

RADIUS: Final = 7
"""Largest lag of the autocorrelation, in pixels."""

_FLAT: Final = 0.5
"""Share of the pixels, those of least gradient, that count as flat."""

_SLOW: Final = 6.0
"""Standard deviation in pixels of the blur that is taken off the residual: slower parts are errors of the denoiser."""

_PRIOR: Final = 50.0
"""Weight, in pixels, of the mean over all levels: decides where a level hardly occurs."""

_DARK: Final = 0.04
"""Smallest level in the tone term, which would be infinite at black."""

_SIDE: Final = 1536
"""Larger photographs are measured in their middle."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredNoise:
    """The noise of one photograph."""

    sigma: Array
    """(C, LEVELS) standard deviation at the levels (i + 0.5) / LEVELS, in units of the image (white is 1)."""

    kernel: Array
    """(C, C, 2 * RADIUS + 1, 2 * RADIUS + 1): white noise of C channels convolved with it has unit variance in every
    channel and the measured correlations."""


def measure_noise(noisy: Tensor, denoised: Tensor) -> MeasuredNoise:
    """Measure the noise that a denoiser took off.

    Args:
        noisy: (C, H, W) float in [0, 1].
        denoised: the same picture without its noise, (C, H, W) float.

    Raises:
        ValueError: shapes that differ, or fewer than 32x32 pixels.
    """
    if noisy.shape != denoised.shape or noisy.ndim != 3 or min(noisy.shape[-2:]) < SMALLEST:
        raise ValueError(
            f"noisy and denoised must be (C, H, W) of one shape, {SMALLEST}x{SMALLEST} or more, got "
            f"{tuple(noisy.shape)} and {tuple(denoised.shape)}"
        )
    noisy, denoised = (_middle(image.float().cpu()) for image in (noisy, denoised))
    flat = flat_areas(denoised)
    residual = noisy - denoised
    residual = residual - gaussian_blur(residual, _SLOW)
    sigma = mean_by_level(residual.square(), denoised, flat).clamp_min(1e-12).sqrt()
    unit = residual / sigma_at(denoised, sigma) * flat
    kernel = _kernel(_autocovariance(unit, flat))
    return MeasuredNoise(sigma=sigma.numpy(), kernel=kernel.numpy())


def add_measured(
    clean: Tensor, noise: MeasuredNoise, generator: torch.Generator, *, scale: float = 1.0, tone: float = 0.0
) -> Tensor:
    """Put new noise of a measured kind on a picture.

    Args:
        clean: (C, H, W) float in [0, 1].
        noise: what to make.
        generator: source of every random number.
        scale: factor on the standard deviation.
        tone: factor of the darkening ``tone * sigma^2 / x``; 0 for none.

    Returns:
        (C, H, W) float32, neither clipped nor rounded.
    """
    channels, height, width = clean.shape
    kernel = torch.from_numpy(noise.kernel)
    if kernel.shape[0] != channels:
        raise ValueError(f"the noise was measured in {kernel.shape[0]} channels, the image has {channels}")
    white = torch.randn(1, channels, height + 2 * RADIUS, width + 2 * RADIUS, generator=generator)
    sigma = scale * sigma_at(clean, torch.from_numpy(noise.sigma))
    noisy = clean + sigma * F.conv2d(white, kernel)[0]
    return noisy - tone * sigma.square() / clean.clamp_min(_DARK) if tone else noisy


def without_darkening(denoised: Tensor, noise: MeasuredNoise, tone: float) -> Tensor:
    """Give a denoised picture (C, H, W) back what its noise darkened: ``x + tone * sigma(x)^2 / x``."""
    sigma = sigma_at(denoised, torch.from_numpy(noise.sigma))
    return denoised + tone * sigma.square() / denoised.clamp_min(_DARK)


def sigma_at(image: Tensor, sigma: Tensor) -> Tensor:
    """Standard deviation at every pixel, linear between the levels of ``sigma`` (C, LEVELS); (C, H, W)."""
    place = (image.clamp(0, 1) * LEVELS - 0.5).clamp(0, LEVELS - 1)
    below = place.long().clamp_max(LEVELS - 2)
    part = place - below
    lower = torch.gather(sigma, 1, below.flatten(1)).view_as(image)
    upper = torch.gather(sigma, 1, (below + 1).flatten(1)).view_as(image)
    return torch.lerp(lower, upper, part)


def flat_areas(image: Tensor) -> Tensor:
    """Return (H, W) float: 1 where a picture (C, H, W) varies least, 0 elsewhere."""
    smooth = gaussian_blur(image.mean(0, keepdim=True), 1.0)[0]
    energy = torch.zeros_like(smooth)
    energy[:-1] += (smooth[1:] - smooth[:-1]).square()
    energy[:, :-1] += (smooth[:, 1:] - smooth[:, :-1]).square()
    energy = gaussian_blur(energy[None], 3.0)[0]
    # Every seventh pixel: torch sorts no more than 2^24 of them, and a quantile needs few.
    return (energy <= torch.quantile(energy.flatten()[::7], _FLAT)).float()


def gaussian_blur(image: Tensor, deviation: float) -> Tensor:
    """Blur (C, H, W) with a Gaussian of ``deviation`` pixels, mirrored at the border."""
    channels = image.shape[0]
    reach = min(int(3 * deviation), min(image.shape[-2:]) - 1)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation).square())
    taps = (taps / taps.sum()).expand(channels, 1, -1)
    padded = F.pad(image[None], (reach,) * 4, mode="reflect")
    rows = F.conv2d(padded, taps[:, :, None], groups=channels)
    return F.conv2d(rows, taps[..., None], groups=channels)[0]


def _middle(image: Tensor) -> Tensor:
    top, left = (max(size - _SIDE, 0) // 2 for size in image.shape[-2:])
    return image[:, top : top + _SIDE, left : left + _SIDE]


def mean_by_level(values: Tensor, image: Tensor, flat: Tensor) -> Tensor:
    """Mean of values over the flat pixels of each level of an image, its neighbours' and a little of all.

    Args:
        values: (C, H, W).
        image: (C, H, W) float in [0, 1], whose levels they belong to.
        flat: (H, W) of `flat_areas`.

    Returns:
        (C, LEVELS) float32.
    """
    level = level_of(image).flatten(1)
    weight, total = torch.zeros(len(values), LEVELS), torch.zeros(len(values), LEVELS)
    weight.scatter_add_(1, level, flat.flatten().expand_as(level).contiguous())
    total.scatter_add_(1, level, (values * flat).flatten(1))
    overall = total.sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(1.0)
    index = torch.arange(LEVELS, dtype=torch.float32)
    near = torch.exp(-0.5 * (index[:, None] - index).square())
    return (total @ near + _PRIOR * overall) / (weight @ near + _PRIOR)


def level_of(image: Tensor) -> Tensor:
    """Which of the LEVELS each pixel of an image in [0, 1] is at; int64 of the same shape."""
    return (image.clamp(0, 0.9999) * LEVELS).long()


def _autocovariance(unit: Tensor, flat: Tensor) -> Tensor:
    """(C, C, 2R+1, 2R+1): mean of unit_a(p) * unit_b(p + d) over pairs of flat pixels, at every lag d."""
    channels, height, width = unit.shape
    side = 2 * RADIUS + 1
    found = torch.zeros(channels, channels, side, side)
    for down in range(RADIUS + 1):
        for right in range(-RADIUS, RADIUS + 1):
            first = (slice(0, height - down), slice(max(0, -right), width - max(0, right)))
            second = (slice(down, height), slice(max(0, right), width - max(0, -right)))
            pairs = (flat[first] * flat[second]).sum().clamp_min(1.0)
            mean = unit[(slice(None), *first)].flatten(1) @ unit[(slice(None), *second)].flatten(1).T / pairs
            found[:, :, RADIUS + down, RADIUS + right] = mean
            found[:, :, RADIUS - down, RADIUS - right] = mean.T
    return found


def _kernel(covariance: Tensor) -> Tensor:
    """The symmetric square root, frequency by frequency, of the power spectrum that belongs to an autocovariance."""
    side = 2 * RADIUS + 1
    # The root of a Hann window: it falls to zero at the largest lag, where a cut would ring in the spectrum.
    window = torch.hann_window(side + 2, periodic=False)[1:-1].sqrt()
    size = 4 * (RADIUS + 1)
    padded = F.pad(covariance * window[:, None] * window, (0, size - side, 0, size - side))
    spectrum = torch.fft.fft2(torch.roll(padded, (-RADIUS, -RADIUS), (-2, -1))).permute(2, 3, 0, 1)
    power, axes = torch.linalg.eigh((spectrum + spectrum.mH) / 2)
    root = (axes * power.clamp_min(0).sqrt()[..., None, :]) @ axes.mH
    kernel = torch.fft.ifft2(root.permute(2, 3, 0, 1)).real
    kernel = torch.roll(kernel, (RADIUS, RADIUS), (-2, -1))[:, :, :side, :side]
    return (kernel / kernel.square().sum((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-12)).contiguous()
