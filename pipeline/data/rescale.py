"""Crops of clean pictures that are shrunk, which takes off grain and JPEG blocks, and enlarged again, which softens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class Rescale:
    """What happens to a crop before its noise."""

    shrink: float = 1.0
    """Factor by which it is shrunk, from a square that much larger."""

    enlarge: tuple[float, float] = (1.0, 1.0)
    """(lowest, highest) factor by which it is enlarged again; drawn evenly by factors."""

    share: float = 1.0
    """Share of crops that this happens to; the others are taken as they are."""

    def draw(self, crop: int, random: np.random.Generator) -> tuple[int, int]:
        """Return the side of the square to cut, and the side to shrink it to before it becomes ``crop`` pixels."""
        if self.share < 1 and random.random() >= self.share:
            return crop, crop
        low, high = self.enlarge
        factor = float(np.exp(random.uniform(np.log(low), np.log(high)))) if high > 1 else 1.0
        shrunk = max(1, round(crop / factor))
        return round(shrunk * self.shrink), shrunk

    def largest_square(self, crop: int) -> int:
        """Side of the largest square that a crop is made of."""
        rescaled = round(round(crop / self.enlarge[0]) * self.shrink)
        return max(rescaled, crop) if self.share < 1 else rescaled


def resized(square: np.ndarray, side: int) -> np.ndarray:
    """Resize (H, H, C) in [0, 1] to ``side`` pixels a side."""
    import torch

    from raw.resize import resize

    if square.shape[0] == side:
        return square
    planes = torch.from_numpy(np.ascontiguousarray(square.transpose(2, 0, 1)))
    return resize(planes, side, side).numpy().transpose(1, 2, 0)
