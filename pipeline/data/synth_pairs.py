"""One pair of pictures: read its source, make its noise, write both files, and say what was done."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.data.failures import failure_line
from pipeline.data.folders import file_hash
from pipeline.data.images import Image, Pixels, from_float, read_image, to_float, without_alpha, write_image
from pipeline.data.paths import confined
from pipeline.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from noise import NoiseRecipe
    from noise.raw_pair import RawPair
    from noise.tone_mapping import ToneMapping
    from pipeline.data.synth_recipes import AnyRecipe

PARTS = ("noisy", "clean")
NEEDS_RGB = ("camera", "eld")
FORMATS = ("png", "dng")

_Made = tuple[Pixels, Pixels, dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class PairTask:
    """Where a pair comes from, and what it is called."""

    source: Path
    """The clean picture, or the noisy rendering."""

    relative: Path
    """Its path in the manifest, from which its noise is seeded."""

    name: Path
    """Of both files, below ``noisy`` and ``clean``."""

    reference: Path | None = None
    """The clean partner of a rendering."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairMaker:
    """Makes pairs, each a function of the seed, its relative path, its source and the recipe; nothing else."""

    out: Path
    """Folder of ``noisy`` and ``clean``."""

    recipe: AnyRecipe
    """Which noise."""

    seed: int
    """Of the whole set."""

    format: str = "png"
    """``dng`` writes the raws behind the pictures."""

    def __call__(self, task: PairTask) -> dict[str, Any]:
        """Write one pair.

        Returns:
            Its row of the manifest; or, if it failed, ``source`` and ``error`` alone, and neither file is left.

        Raises:
            RunError: the disk is full or read-only, so that no other pair could be written either.
        """
        try:
            return self._make(task)
        except (UserError, ValueError, MemoryError, OSError) as error:
            remove_pair(self.out, task.name)
            return {"source": task.relative.as_posix(), "error": failure_line(error, task.source, self.out)}

    def _make(self, task: PairTask) -> dict[str, Any]:
        row: dict[str, Any] = {
            "name": task.name.as_posix(),
            "source": task.relative.as_posix(),
            "source_sha256": file_hash(task.source),
        }
        from noise.tone_mapping import ToneMapping

        if isinstance(self.recipe, ToneMapping):
            noisy, clean, parameters = self._tone_map(task, row, self.recipe)
        else:
            noisy, clean, parameters = self._corrupt(task, row, self.recipe)
        return {**row, "psnr_rgb_u8": _psnr(noisy, clean), "parameters": parameters}

    def _corrupt(self, task: PairTask, row: dict[str, Any], recipe: NoiseRecipe) -> _Made:
        pixels = read_image(task.source).pixels
        noisy, clean, parameters = make_noisy(pixels, recipe, pair_seed(self.seed, task.relative))
        if self.format == "dng":
            from noise.raw_pair import raw_pair

            self._write_raws(row, task.name, raw_pair(noise_input(pixels, recipe), parameters))
        else:
            self._write(row, task.name, noisy, clean)
        return noisy, clean, parameters

    def _tone_map(self, task: PairTask, row: dict[str, Any], mapping: ToneMapping) -> _Made:
        from pipeline.data.renders import read_rendering, samples_of

        if task.reference is None:
            raise ValueError("expected a rendering with a reference, found a picture alone")
        noisy, clean, done = read_rendering(task.source, task.reference, mapping)
        parameters = {"kind": mapping.kind, "samples": samples_of(task.source), **done}
        row["reference_sha256"] = file_hash(task.reference)
        self._write(row, task.name, noisy, clean)
        return noisy, clean, parameters

    def _write(self, row: dict[str, Any], name: Path, noisy: Pixels, clean: Pixels) -> None:
        for part, pixels in zip(PARTS, (noisy, clean), strict=True):
            path = _prepared(self.out / part, name)
            write_image(path, Image(pixels=pixels))
            row[f"{part}_sha256"] = file_hash(path)

    def _write_raws(self, row: dict[str, Any], name: Path, pair: RawPair) -> None:
        from pipeline.data.synth_dng import write_raw

        for part, packed, noise in (("noisy", pair.noisy, pair.level), ("clean", pair.clean, None)):
            path = _prepared(self.out / part, name)
            write_raw(path, packed, pair, noise)
            row[f"{part}_sha256"] = file_hash(path)


def make_noisy(pixels: Pixels, recipe: NoiseRecipe, seed: int) -> _Made:
    """Put noise on one picture.

    Args:
        pixels: (H, W, C) uint8, uint16, or float in [0, 1]; alpha is dropped, and grey becomes RGB for noise that is
            made in a camera.
        recipe: which noise.
        seed: of this picture, as of `pair_seed`.

    Returns:
        Noisy and clean, uint8 for uint8 and uint16 for everything else, and the drawn parameters.

    Raises:
        ValueError: the picture does not suit the recipe.
    """
    import torch

    from noise import corrupt

    made = corrupt(noise_input(pixels, recipe), recipe, torch.Generator().manual_seed(seed))
    dtype = np.uint8 if pixels.dtype == np.uint8 else np.uint16
    noisy, clean = (from_float(part.numpy().transpose(1, 2, 0), dtype) for part in (made.noisy, made.clean))
    return noisy, clean, made.parameters


def noise_input(pixels: Pixels, recipe: AnyRecipe) -> Tensor:
    """Return a picture as `noise.corrupt` takes it, (C, H, W)."""
    import torch

    colours = _colours(pixels, rgb=first_kind(recipe) in NEEDS_RGB)
    # Bytes stay bytes: to undo a camera's tone curve is a table for them.
    values = colours if colours.dtype == np.uint8 else to_float(colours)
    return torch.from_numpy(values.transpose(2, 0, 1).copy())


def pair_seed(seed: int, relative: Path) -> int:
    """Return the seed of one picture's noise, in [0, 2**63)."""
    name = os.fsencode(relative.as_posix())
    return int.from_bytes(hashlib.sha256(b"%d\0" % seed + name).digest()[:8], "big") >> 1


def first_kind(recipe: AnyRecipe) -> str:
    """Return the kind of the recipe that the picture is put into."""
    return recipe.steps[0].kind if recipe.kind == "sequence" else recipe.kind


def _colours(pixels: Pixels, *, rgb: bool) -> Pixels:
    """Drop alpha; with ``rgb`` repeat grey three times."""
    colours = without_alpha(pixels)
    return np.repeat(colours, 3, axis=2) if rgb and colours.shape[2] == 1 else colours


def remove_pair(out: Path, name: Path) -> None:
    """Remove both files of a pair, if they are there."""
    for part in PARTS:
        (out / part / name).unlink(missing_ok=True)


def _prepared(folder: Path, name: Path) -> Path:
    path = confined(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _psnr(noisy: Pixels, clean: Pixels) -> float | None:
    from pipeline.evaluation.metrics import psnr_rgb_u8

    value = psnr_rgb_u8(noisy, clean)
    return round(value, 4) if math.isfinite(value) else None
