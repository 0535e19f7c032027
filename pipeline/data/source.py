"""Training batches as pure functions of (seed, batch index): no Ray, no MLflow, no state that matters.

A sample depends on nothing but the seed, the global index of its batch and its position in it, so neither the
number of synthesizers or workers, nor the order of calls, nor a death and a repeat can change what is trained on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import RunError, UserError

if TYPE_CHECKING:
    from noise import NoiseRecipe

PICTURE_BATCH = 2**40
"""Index of the batch that pictures are made of: far beyond any step, so never trained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceSpec:
    """What a synthesizer needs to know; small, so that it is sent to actors by value."""

    files: tuple[str, ...]
    """Absolute paths of the images, in manifest order."""

    seed: int
    """Seed of crops, flips and noise."""

    crop: int
    """Side of the square crop in pixels."""

    channels: int
    """Channels of a sample: 1 (grey) or 3 (RGB)."""

    recipe: NoiseRecipe | None
    """Noise put on clean images; None when the images are noisy already."""

    cache_bytes: int
    """Bound on the decoded images kept in memory."""

    max_pixels: int
    """Images with more pixels are refused."""


@dataclass
class BatchSource:
    """Makes batches from files. Decoded images are cached; the cache changes speed only."""

    spec: SourceSpec
    quarantined: dict[str, str] = field(default_factory=dict)
    """Files that could not be decoded, with the reason; another file is drawn in their place."""

    _cache: OrderedDict[str, np.ndarray] = field(default_factory=OrderedDict)
    _cached_bytes: int = 0

    def batch(self, index: int, positions: Sequence[int]) -> dict[str, np.ndarray]:
        """Make the samples at `positions` of global batch `index`.

        Returns:
            `noisy` (B, C, crop, crop) float32 in [0, 1]; `seeds` (B,) int64, one per sample, from which masks are
            drawn; and, when there is a noise recipe, `clean` of the same shape as `noisy`.

        Raises:
            RunError: no file could be decoded.
        """
        from models import fold

        samples = [self._sample(index, position) for position in positions]
        batch = {
            "noisy": np.stack([noisy for noisy, _ in samples]),
            "seeds": np.array([fold(self.spec.seed, index, position) for position in positions], dtype=np.int64),
        }
        if self.spec.recipe is not None:
            batch["clean"] = np.stack([clean for _, clean in samples if clean is not None])
        return batch

    def _sample(self, index: int, position: int) -> tuple[np.ndarray, np.ndarray | None]:
        random = np.random.default_rng([self.spec.seed, index, position])
        crop = self._crop(random)
        crop = np.rot90(crop, k=int(random.integers(4)))
        if random.integers(2):
            crop = crop[:, ::-1]
        image = np.ascontiguousarray(crop.transpose(2, 0, 1), dtype=np.float32)
        noise_seed = int(random.integers(2**63 - 1))
        if self.spec.recipe is None:
            return image, None
        import torch

        from noise import corrupt

        pair = corrupt(torch.from_numpy(image), self.spec.recipe, torch.Generator().manual_seed(noise_seed))
        return pair.noisy.numpy(), pair.clean.numpy()

    def _crop(self, random: np.random.Generator) -> np.ndarray:
        from pipeline.data.images import ImageError, to_float

        for _ in range(4 * len(self.spec.files) + 4):
            path = self.spec.files[int(random.integers(len(self.spec.files)))]
            if path in self.quarantined:
                continue
            try:
                pixels = self._pixels(path)
            except ImageError as error:
                self.quarantined[path] = str(error)
                continue
            side = self.spec.crop
            top = int(random.integers(pixels.shape[0] - side + 1))
            left = int(random.integers(pixels.shape[1] - side + 1))
            return with_channels(to_float(pixels[top : top + side, left : left + side]), self.spec.channels)
        raise RunError(f"data.path: none of its {len(self.spec.files)} images could be decoded")

    def _pixels(self, path: str) -> np.ndarray:
        from pipeline.data.images import ImageError, read_image

        if path in self._cache:
            self._cache.move_to_end(path)
            return self._cache[path]
        pixels = read_image(Path(path), max_pixels=self.spec.max_pixels).pixels
        if min(pixels.shape[:2]) < self.spec.crop:
            raise ImageError(f"{path}: is smaller than data.crop ({self.spec.crop}): {pixels.shape[:2]}")
        self._cache[path] = pixels
        self._cached_bytes += pixels.nbytes
        while self._cached_bytes > self.spec.cache_bytes and len(self._cache) > 1:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= dropped.nbytes
        return pixels


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Convert (H, W, 1..4) to (H, W, channels): alpha dropped, grey repeated, RGB averaged to grey."""
    colour = image[..., :3] if image.shape[-1] >= 3 else image[..., :1]
    if colour.shape[-1] == channels:
        return colour
    if colour.shape[-1] == 1:
        return np.repeat(colour, channels, axis=-1)
    if channels == 1:
        return np.asarray(colour.mean(axis=-1, keepdims=True))
    raise UserError(f"network.channels: expected 1 or 3 for image files, found {channels}")


def local_feed(source: BatchSource, positions: Sequence[int], start: int) -> Any:
    """Yield batch `start`, `start + 1`, ... made in this process; the stand-in for `feed.Feed` without Ray."""
    index = start
    while True:
        yield source.batch(index, positions)
        index += 1
