"""Monte-Carlo renderings on disk: a noisy picture of few samples per pixel, and its reference of many."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipeline.data.exr import read_exr
from pipeline.data.images import Pixels, from_float, read_image, without_alpha
from pipeline.data.paths import shown
from pipeline.errors import UserError

if TYPE_CHECKING:
    from noise.tone_mapping import ToneMapping

_NOISY = re.compile(r"noisy|spp\d")
_REFERENCE = re.compile(r"reference")
_SAMPLES = re.compile(r"(\d+)spp|spp(\d+)")
_SUFFIXES = (".exr", ".png")


class Rendering(NamedTuple):
    """One noisy rendering and its reference."""

    noisy: Path
    """The rendering of few samples."""

    reference: Path
    """The rendering of many samples, of the same folder and format."""

    relative: Path
    """Path of ``noisy`` below the folder that was searched."""

    samples: int | None
    """Samples per pixel, from the name."""


def find_renderings(
    source: Path, out: Path | None = None, samples: tuple[float, float] | None = None
) -> list[Rendering]:
    """List the renderings below a folder that have a reference beside them.

    ``noisy*.exr`` belongs to ``reference*.exr``, and ``spp*.png`` (or ``noisy*.png``) to ``reference*.png``;
    other files, such as albedo and normals, are left alone.

    Args:
        source: the folder.
        out: a folder to leave out.
        samples: (lowest, highest) samples per pixel; None takes all.

    Raises:
        UserError: no folder, two references for one rendering, or nothing found.
    """
    if not source.is_dir():
        found_there = "a file" if source.exists() else "nothing there"
        raise UserError(f"{shown(source)}: expected a folder of renderings, found {found_there}")
    found = [rendering for folder in _folders(source, out) for rendering in _of_folder(folder, source)]
    if samples is not None:
        low, high = samples
        found = [one for one in found if one.samples is not None and low <= one.samples <= high]
    if not found:
        wanted = "" if samples is None else f" of {samples[0]:g} to {samples[1]:g} samples per pixel"
        raise UserError(
            f"{shown(source)}: expected renderings{wanted} (noisy_*.exr beside reference_*.exr, or spp*.png beside "
            "reference.png), found none"
        )
    return sorted(found, key=lambda one: one.relative.as_posix())


def samples_of(path: Path) -> int | None:
    """Return the samples per pixel that the name of a rendering tells (``noisy_0016spp``, ``spp16``), or None."""
    match = _SAMPLES.search(path.stem.lower())
    return int(match[1] or match[2]) if match else None


def read_rendering(noisy: Path, reference: Path, mapping: ToneMapping) -> tuple[Pixels, Pixels, dict[str, Any]]:
    """Read a pair as display images, with one exposure, which is the reference's.

    Returns:
        The noisy and the clean image: (H, W, 3) uint8 from EXR; from PNG, which is taken to be tone-mapped already,
        as stored without alpha. And what was done: ``exposure`` (None for PNG), and ``non_finite``, the number of
        pixels with NaN or infinity that were replaced in each.

    Raises:
        UserError: a file cannot be read, or the sizes differ.
    """
    if noisy.suffix.lower() == ".png":
        pictures = [without_alpha(read_image(path).pixels) for path in (noisy, reference)]
        _same_size(noisy, pictures[0].shape, pictures[1].shape)
        return pictures[0], pictures[1], {"exposure": None, "non_finite": {"noisy": 0, "clean": 0}}
    import torch

    from noise.tone_mapping import exposure_of, finite_radiance, tone_map

    arrays = [read_exr(path) for path in (noisy, reference)]
    _same_size(noisy, arrays[0].shape, arrays[1].shape)
    repaired = [finite_radiance(torch.from_numpy(array.transpose(2, 0, 1).copy())) for array in arrays]
    exposure = exposure_of(repaired[1][0], mapping.key)
    images = [
        from_float(tone_map(radiance, mapping, exposure).numpy().transpose(1, 2, 0), np.uint8)
        for radiance, _ in repaired
    ]
    done = {"exposure": exposure, "non_finite": {"noisy": repaired[0][1], "clean": repaired[1][1]}}
    return images[0], images[1], done


def _folders(source: Path, out: Path | None) -> Iterator[Path]:
    for parent, folders, _ in os.walk(source, followlinks=False):
        here = Path(parent)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if out is not None:
            folders[:] = [name for name in folders if (here / name).resolve() != out.resolve()]
        yield here


def _of_folder(folder: Path, source: Path) -> Iterator[Rendering]:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink())
    for suffix in _SUFFIXES:
        same = [path for path in files if path.suffix.lower() == suffix]
        noisy = [path for path in same if _NOISY.match(path.stem.lower())]
        references = [path for path in same if _REFERENCE.match(path.stem.lower())]
        if noisy and len(references) > 1:
            names = ", ".join(shown(path.name) for path in references)
            raise UserError(f"{shown(folder)}: expected one reference, found {names}")
        for path in noisy if references else []:
            yield Rendering(path, references[0], path.relative_to(source), samples_of(path))


def _same_size(path: Path, noisy: tuple[int, ...], reference: tuple[int, ...]) -> None:
    if noisy != reference:
        raise UserError(f"{shown(path)}: expected the size of its reference {reference[:2]}, found {noisy[:2]}")
