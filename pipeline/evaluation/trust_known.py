"""What is known of the noise in noisy crops: which crops are of one image, and the noise of each image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.evaluation.blind import LEAST_ENERGY
from pipeline.evaluation.trust_flat import Array, FlatAreas, find_flat_areas, middle, patches_within

Known = list[tuple[NDArray[np.int64], FlatAreas]]
"""For each image whose noise could be measured: its crops, and its noise."""


def known_noise(noisy: Tensor, images: NDArray[np.int64]) -> Known:
    """Measure the noise of each image of crops (B, C, H, W) float32 in [0, 1]; those where it cannot be are left out.

    Args:
        noisy: the crops.
        images: (B,) which image each is from.
    """
    crops = channels_last(noisy)
    parts = [np.flatnonzero(images == image) for image in np.unique(images)]
    # Without any noise energy (JPEG smooths flat areas to nothing) there is nothing to measure in parts of it.
    found = [(part, areas) for part in parts if (areas := find_flat_areas(crops[part])) is not None]
    return [(part, areas) for part, areas in found if areas.energy > LEAST_ENERGY]


def middles(noisy: Tensor, known: Known, side: int) -> tuple[Tensor, Known]:
    """Return the middles of crops, and what is known of the noise there, as measured in the whole of them.

    Args:
        noisy: (B, C, H, W) float32 in [0, 1].
        known: the noise of each image of these crops.
        side: pixels along a side of what is kept, a multiple of 8; a shorter side of the crops stays whole.

    Returns:
        The same crops, smaller, and the noise of the images that have enough flat patches left.
    """
    height, width = noisy.shape[-2:]
    rows, columns = (middle(length, min(side, length)) for length in (height, width))
    inside = patches_within(height, width, rows, columns)
    found = [(part, areas.of_patches(np.tile(inside, len(part)))) for part, areas in known]
    kept = [(part, areas) for part, areas in found if areas is not None]
    return noisy[..., rows, columns].contiguous(), kept


def channels_last(images: Tensor) -> Array:
    """Return images (B, C, H, W) of a network as the measures take them, (B, H, W, C) on the CPU."""
    return np.ascontiguousarray(images.detach().float().cpu().numpy().transpose(0, 2, 3, 1))
