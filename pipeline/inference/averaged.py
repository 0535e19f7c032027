"""The best that a blind network can do with one photograph: its outputs at several strides, averaged and recharged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

FloatImage = NDArray[np.float32]

STRIDES = (1, 2, 3, 4, 5)
"""Strides whose errors differ: the mean is better than each (docs/results/self-supervised.md)."""

TONE = 0.25
"""How much noise darkens, as `models.Distillation` has it."""

_MEASURABLE = 32


def average_strides(
    noisy: FloatImage,
    denoise_at: Callable[[int], FloatImage],
    *,
    strides: Sequence[int] = STRIDES,
    margin: float | None = None,
) -> FloatImage:
    """Denoise a photograph at several strides of pixel-shuffle downsampling, and make one picture of these.

    Args:
        noisy: (H, W, C) float32 in [0, 1], C 1 or 3.
        denoise_at: returns the photograph denoised at a stride.
        strides: one or more.
        margin: of `noise.recharge.recharge`; None for its own, 0 for the mean alone.

    Returns:
        (H, W, C) float32, not clipped.
    """
    from noise.recharge import MARGIN, recharge

    outputs = [_channels_first(denoise_at(stride)) for stride in sorted(set(strides))]
    mean = sum(outputs[1:], outputs[0]) / len(outputs)
    if margin != 0:
        mean = recharge(_channels_first(noisy), [mean, outputs[0]], margin=MARGIN if margin is None else margin)
    result: FloatImage = mean.numpy().transpose(1, 2, 0)
    return result


def brightened(noisy: FloatImage, denoised: FloatImage, tone: float = TONE) -> FloatImage:
    """Give a denoised photograph (H, W, C) back what its noise darkened (`noise.measured.without_darkening`)."""
    from noise.measured import measure_noise, without_darkening

    if min(noisy.shape[:2]) < _MEASURABLE or not tone:
        return denoised
    after = _channels_first(denoised).clamp(0, 1)
    noise = measure_noise(_channels_first(noisy), after)
    result: FloatImage = without_darkening(after, noise, tone).numpy().transpose(1, 2, 0)
    return result


def _channels_first(image: FloatImage) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
