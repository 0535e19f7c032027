"""Training batches as pure functions of (seed, batch index): no Ray, no MLflow, no state that matters.

A sample depends on nothing but the seed, the global index of its batch and its position in it, so neither the
number of synthesizers or workers, nor the order of calls, nor a death and a repeat can change what is trained on.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.data.held_out import MEASURE_BATCH, Area
from pipeline.data.rescale import Rescale, resized
from pipeline.errors import RunError, UserError

if TYPE_CHECKING:
    from models import Distillation
    from noise import NoiseRecipe
    from pipeline.data.raw_source import Mosaic, RawData

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

    rescale: Rescale = field(default_factory=Rescale)
    """How crops are shrunk and enlarged before their noise."""

    cache_bytes: int
    """Bound on the decoded images kept in memory."""

    max_pixels: int
    """Images with more pixels are refused."""

    held_out: tuple[Area, ...] = ()
    """Areas that no sample may touch."""

    measured: tuple[Area, ...] = ()
    """Squares of ``crop`` pixels that make up the batch `MEASURE_BATCH`, never turned nor flipped."""

    distillation: Distillation | None = None
    """Where the files are the outputs of a teacher (`pipeline.data.target_source`); None for all others."""

    defer_noise: bool = False
    """Whether batches carry the seeds of the noise of ``recipe`` in its place, for the trainer to make it."""

    raw: RawData | None = None
    """Where mosaics are trained on, in cells for pixels: those of raw files, or with ``recipe`` those that are made of
    the pictures; None for pictures."""


@dataclass
class BatchSource:
    """Makes batches from files. Decoded images are cached; the cache changes speed only."""

    spec: SourceSpec
    quarantined: dict[str, str] = field(default_factory=dict)
    """Files that could not be decoded, with the reason; another file is drawn in their place."""

    decoding: Callable[[str], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    """Entered with the path of a file while it is decoded: what is left open when the process dies was fatal."""

    _cache: OrderedDict[str, np.ndarray | Mosaic] = field(default_factory=OrderedDict)
    _cached_bytes: int = 0

    def batch(self, index: int, positions: Sequence[int]) -> dict[str, np.ndarray]:
        """Make the samples at `positions` of global batch `index`.

        Returns:
            `noisy` (B, C, crop, crop) float32 in [0, 1]; `seeds` (B,) int64, one per sample, from which masks are
            drawn; and, when there is a noise recipe, `clean` of the same shape as `noisy`. With `spec.defer_noise`
            `clean` is the image before the camera, and `noise_seeds` (B,) int64 stand for `noisy`. `MEASURE_BATCH`
            has the squares `spec.measured` as `noisy`, and `images` (B,) int64, which tells those of different files
            apart; positions beyond them are left out.

        Raises:
            RunError: no file could be decoded.
        """
        from models import fold

        if index == MEASURE_BATCH:
            return self._measure_batch(positions)
        seeds = np.array([fold(self.spec.seed, index, position) for position in positions], dtype=np.int64)
        if self.spec.defer_noise:
            cut = [self._cut(index, position) for position in positions]
            clean, noise = np.stack([image for image, _ in cut]), np.array([seed for _, seed in cut], np.int64)
            return {"clean": clean, "noise_seeds": noise, "seeds": seeds}
        samples = [self._sample(index, position) for position in positions]
        batch = {"noisy": np.stack([noisy for noisy, _ in samples]), "seeds": seeds}
        if samples[0][1] is not None:
            batch["clean"] = np.stack([clean for _, clean in samples if clean is not None])
        return batch

    def _measure_batch(self, positions: Sequence[int]) -> dict[str, np.ndarray]:
        from models import fold

        squares = self._measured()
        chosen = [(position, squares[position]) for position in positions if position < len(squares)]
        if not chosen:
            raise RunError("trust.held_out: none of the images to measure on could be decoded")
        files = sorted({area.file for area in self.spec.measured})
        noisy = []
        for position, square in chosen:
            random = np.random.default_rng([self.spec.seed, MEASURE_BATCH, position])
            noisy.append(self._corrupted(*self._finish(self._square(square), random))[0])
        return {
            "noisy": np.stack(noisy),
            "seeds": np.array([fold(self.spec.seed, MEASURE_BATCH, position) for position, _ in chosen], np.int64),
            "images": np.array([files.index(square.file) for _, square in chosen], np.int64),
        }

    def _sample(self, index: int, position: int) -> tuple[np.ndarray, np.ndarray | None]:
        return self._corrupted(*self._cut(index, position))

    def _cut(self, index: int, position: int) -> tuple[np.ndarray, int]:
        """Cut one sample, turned and mirrored: (C, H, W), and the seed of its noise."""
        random = np.random.default_rng([self.spec.seed, index, position])
        crop = self._crop(random)
        crop = np.rot90(crop, k=int(random.integers(4)))
        if random.integers(2):
            crop = crop[:, ::-1]
        return self._finish(crop, random)

    def _finish(self, crop: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, int]:
        """Turn (H, W, C) into (C, H, W), and draw the seed of its noise."""
        image = np.ascontiguousarray(crop.transpose(2, 0, 1), dtype=np.float32)
        return image, int(random.integers(2**63 - 1))

    def _corrupted(self, image: np.ndarray, noise_seed: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Put noise on the image if there is a recipe: noisy, and clean or None."""
        if self.spec.recipe is None:
            return image, None
        import torch

        from noise import corrupt

        pair = corrupt(torch.from_numpy(image), self.spec.recipe, torch.Generator().manual_seed(noise_seed))
        return pair.noisy.numpy(), pair.clean.numpy()

    def _crop(self, random: np.random.Generator) -> np.ndarray:
        side, shrunk = self.spec.rescale.draw(self.spec.crop, random)
        path, top, left = self._place(random, side)
        square = self._square(Area(path, top, left, side, side))
        return resized(resized(square, shrunk), self.spec.crop)

    def _place(self, random: np.random.Generator, side: int) -> tuple[str, int, int]:
        """Draw a file, and the top and left of a square in it that may be trained on."""
        from pipeline.data.images import ImageError

        for _ in range(4 * len(self.spec.files) + 4):
            path = self.spec.files[int(random.integers(len(self.spec.files)))]
            if path in self.quarantined:
                continue
            try:
                pixels = self._pixels(path)
            except ImageError as error:
                self.quarantined[path] = str(error)
                continue
            held_out = [area for area in self.spec.held_out if area.file == path]
            while True:
                top = int(random.integers(pixels.shape[0] - side + 1))
                left = int(random.integers(pixels.shape[1] - side + 1))
                if not any(area.touches(top, left, side) for area in held_out):
                    break
            return path, top, left
        first = next(iter(self.quarantined.values()), "")
        raise RunError(f"data.path: none of its {len(self.spec.files)} images could be decoded; first: {first}")

    def _measured(self) -> list[Area]:
        """Return the squares to measure whose files can be decoded."""
        from pipeline.data.images import ImageError

        for path in sorted({area.file for area in self.spec.measured}.difference(self.quarantined)):
            try:
                self._pixels(path)
            except ImageError as error:
                self.quarantined[path] = str(error)
        return [area for area in self.spec.measured if area.file not in self.quarantined]

    def _square(self, area: Area) -> np.ndarray:
        from pipeline.data.images import to_float

        pixels = self._pixels(area.file)
        assert isinstance(pixels, np.ndarray)
        part = pixels[area.top : area.top + area.height, area.left : area.left + area.width]
        return with_channels(to_float(part), self._shown_channels)

    @property
    def _shown_channels(self) -> int:
        return self.spec.channels

    @property
    def _raw(self) -> RawData:
        assert self.spec.raw is not None  # of the sources that train on mosaics
        return self.spec.raw

    def _pixels(self, path: str) -> np.ndarray | Mosaic:
        if path in self._cache:
            self._cache.move_to_end(path)
            return self._cache[path]
        with self.decoding(path):
            pixels = self._decoded(path)
        self._cache[path] = pixels
        self._cached_bytes += pixels.nbytes
        while self._cached_bytes > self.spec.cache_bytes and len(self._cache) > 1:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= dropped.nbytes
        return pixels

    def _decoded(self, path: str) -> np.ndarray | Mosaic:
        from pipeline.data.images import ImageError, read_image

        pixels = read_image(Path(path), max_pixels=self.spec.max_pixels).pixels
        needed = self.spec.rescale.largest_square(self.spec.crop)
        if min(pixels.shape[:2]) < needed:
            raise ImageError(f"{path}: is smaller than the {needed} pixels that a crop needs: {pixels.shape[:2]}")
        return pixels


def batch_source(spec: SourceSpec) -> BatchSource:
    """Return what makes the batches of pictures, of a teacher's outputs, of raw files, or of raw made from pictures."""
    if spec.distillation is not None:
        from pipeline.data.target_source import TargetSource

        return TargetSource(spec)
    if spec.raw is None:
        return BatchSource(spec)
    if spec.recipe is not None:
        from pipeline.data.made_raw import MadeRawSource

        return MadeRawSource(spec)
    from pipeline.data.raw_source import RawBatchSource

    return RawBatchSource(spec)


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
