"""The best that a blind network can do with one photograph.

Its outputs at several strides are averaged, and what they lost is taken from the photograph in two ways: recharged
where its energy exceeds the noise's (`noise.recharge`), and filtered frequency by frequency (`noise.wiener`), for which
the mean and the recharged mean, in equal parts, are the pilot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import Distillation
from noise.measured import SMALLEST, MeasuredNoise, measure_noise, without_darkening
from noise.recharge import MARGIN, recharge
from noise.wiener import STRENGTH, wiener

FloatImage = NDArray[np.float32]

STRIDES = (1, 2, 3, 4, 5)
"""Strides whose errors differ: the mean is better than each (docs/results/self-supervised.md)."""

TONE = Distillation().tone
"""How much noise darkens a picture."""


def average_strides(
    noisy: FloatImage,
    denoise_at: Callable[[int], FloatImage],
    *,
    strides: Sequence[int] = STRIDES,
    margin: float = MARGIN,
    strength: float = STRENGTH,
) -> FloatImage:
    """Denoise a photograph at several strides of pixel-shuffle downsampling, and make one picture of these.

    Args:
        noisy: (H, W, C) float32 in [0, 1], C 1 or 3.
        denoise_at: returns the photograph denoised at a stride.
        strides: one or more.
        margin: of `noise.recharge.recharge`; 0 for none.
        strength: of `noise.wiener.wiener`; 0 for none. A picture below 32x32 is not filtered.

    Returns:
        (H, W, C) float32, not clipped.
    """
    finest, *coarser = sorted(set(strides))
    detailed = _channels_first(denoise_at(finest))
    total = detailed.clone()
    for stride in coarser:
        total += _channels_first(denoise_at(stride))
    photo = _channels_first(noisy)
    mean = result = total / (1 + len(coarser))
    if margin:
        result = recharge(photo, [mean, detailed], margin=margin)
    if strength and _measurable(noisy):
        # The mean alone has lost detail, the recharged mean has noise left: each is half of a better pilot.
        noise = measure_noise(photo, mean.clamp(0, 1))
        result = wiener(photo, (mean + result) / 2, noise, strength=strength)
    return _channels_last(result)


def brightened(
    noisy: FloatImage, denoised: FloatImage, *, tone: float = TONE, noise: MeasuredNoise | None = None
) -> FloatImage:
    """Give a denoised photograph what its noise darkened (`noise.measured.without_darkening`).

    Args:
        noisy: (H, W, C) float32 in [0, 1].
        denoised: of the same shape.
        tone: factor of the darkening; 0 for none.
        noise: as `noise_of` has measured it; None to measure it here. A picture below 32x32 stays as it is.

    Returns:
        (H, W, C) float32, not clipped.
    """
    if not tone or (noise is None and not _measurable(noisy)):
        return denoised
    after = _channels_first(denoised).clamp(0, 1)
    return _channels_last(without_darkening(after, noise or noise_of(noisy, denoised), tone))


def noise_of(noisy: FloatImage, denoised: FloatImage) -> MeasuredNoise:
    """Measure what a denoiser took off (`noise.measured.measure_noise`); both (H, W, C) float32, 32x32 or more."""
    return measure_noise(_channels_first(noisy), _channels_first(denoised).clamp(0, 1))


def _measurable(image: FloatImage) -> bool:
    return bool(min(image.shape[:2]) >= SMALLEST)


def _channels_first(image: FloatImage) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _channels_last(image: Tensor) -> FloatImage:
    result: FloatImage = image.numpy().transpose(1, 2, 0)
    return result
