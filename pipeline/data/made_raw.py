"""Training samples of raw made from clean pictures: each is photographed by a camera of its own, with that one's noise.

The setting of Brooks et al. (CVPR 2019): a picture is taken back to the light that a camera would have recorded, in the
geometry RGGB, and shot and read noise are put on it there. Beside the noisy planes stand those without noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.held_out import Area
from pipeline.data.raw_source import level_on_curve, on_curve
from pipeline.data.source import BatchSource

if TYPE_CHECKING:
    from noise.camera_noise import CameraNoise
    from noise.shot_read import NoiseLevel
    from pipeline.schema import TrainConfig

Floats = NDArray[np.float32]

_DRAWS = 1000
"""Levels drawn of a recipe to tell their range."""


def picture_side(cells: int, scale: float | None) -> int:
    """Pixels a side of a picture that are needed for so many cells a side of its raw.

    Args:
        cells: 2x2 pixels of the mosaic.
        scale: of `noise.camera_noise.CameraNoise.resize`; None for 1.
    """
    return math.ceil(2 * cells * (scale or 1.0))


class MadeRawSource(BatchSource):
    """`BatchSource` of pictures that become raw: a crop is counted in cells, samples have the planes R, Gr, Gb, B.

    Values are black 0 and white 1, cut off at white as a converter does but not at black, and on the curve of
    `RawData`.
    """

    def batch(self, index: int, positions: Sequence[int]) -> dict[str, np.ndarray]:
        """Make samples as `BatchSource.batch` does, with their ``levels`` (B, 2) float32: shot and read on the curve.

        The same stand under ``noise`` where the network has a level map.
        """
        from models import fold

        made = [self._made(index, position) for position in positions]
        levels = np.array([level_on_curve(level, self._raw.curve) for _, _, level in made], dtype=np.float32)
        batch: dict[str, np.ndarray] = {
            "noisy": np.stack([noisy for noisy, _, _ in made]),
            "clean": np.stack([clean for _, clean, _ in made]),
            "seeds": np.array([fold(self.spec.seed, index, position) for position in positions], dtype=np.int64),
            "levels": levels,
        }
        return batch | ({"noise": levels} if self._raw.level_map else {})

    def _made(self, index: int, position: int) -> tuple[Floats, Floats, NoiseLevel]:
        """Noisy and clean planes (4, crop, crop) on the curve, and the level that is told of them."""
        import torch

        from noise.camera_noise import raws_of
        from noise.finish import camera_of, photograph
        from noise.shot_read import NoiseLevel

        random = np.random.default_rng([self.spec.seed, index, position])
        recipe: Any = self.spec.recipe
        drawn = recipe.draw(torch.Generator().manual_seed(int(random.integers(2**63 - 1))))
        picture = torch.from_numpy(self._picture(random, picture_side(self.spec.crop, drawn["scale"])))
        crop = slice(self.spec.crop)
        light = photograph(picture, camera_of(drawn, picture.device), drawn["scale"])[:, crop, crop]
        noisy, clean = raws_of(light, drawn)
        off = np.exp(self._raw.level_error * random.standard_normal(2))
        told = NoiseLevel(shot=drawn["shot"] * float(off[0]), read=drawn["read"] * float(off[1]))
        curve = self._raw.curve
        return on_curve(noisy.clamp_max(1.0).numpy(), told, curve), on_curve(clean.numpy(), told, curve), told

    def _picture(self, random: np.random.Generator, side: int) -> np.ndarray:
        """Cut (3, side, side) out of a picture, as stored, turned and mirrored."""
        path, top, left = self._place(random, side)
        crop = np.rot90(self._square(Area(path, top, left, side, side)), k=int(random.integers(4)))
        if random.integers(2):
            crop = crop[:, ::-1]
        return np.ascontiguousarray(crop.transpose(2, 0, 1), dtype=np.float32)

    @property
    def _shown_channels(self) -> int:
        return 3  # of the picture; the network has the four planes

    def _decoded(self, path: str) -> np.ndarray:
        from pathlib import Path

        from pipeline.data.images import ImageError, read_image

        pixels = read_image(Path(path), max_pixels=self.spec.max_pixels).pixels
        needed = picture_side(self.spec.crop, largest_scale(self.spec.recipe))
        if min(pixels.shape[:2]) < needed:
            raise ImageError(f"{path}: is smaller than the {needed} pixels that a crop needs: {pixels.shape[:2]}")
        return pixels


def largest_scale(recipe: Any) -> float | None:
    """Return the largest scale that a camera recipe draws, None where it leaves the size."""
    return None if recipe.resize is None else float(recipe.resize[1])


def made_facts(config: TrainConfig) -> dict[str, Any]:
    """What the card says of raw that was made: no camera, the range of the noise, and the network's curve."""
    import torch

    recipe: CameraNoise | Any = config.noise
    generator = torch.Generator().manual_seed(0)
    levels = [recipe.levels.draw(generator) for _ in range(_DRAWS)]
    return {
        "curve": config.data.raw_curve,
        "cameras": [],
        "shot": [min(one.shot for one in levels), max(one.shot for one in levels)],
        "read": [min(one.read for one in levels), max(one.read for one in levels)],
    }
