"""Noisy and clean pairs on disk, made from clean pictures; each depends on the seed and its name only."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import pipeline
from pipeline.data.folders import SourceFile, file_hash, scan
from pipeline.data.images import Image, Pixels, from_float, read_image, to_float, write_bytes, write_image
from pipeline.data.paths import confined, shown
from pipeline.errors import UserError

if TYPE_CHECKING:
    from noise import NoiseRecipe

MANIFEST_NAME = "manifest.json"
_RECIPES = ("gaussian", "camera")
_PARTS = ("noisy", "clean")


def make_recipe(name: str, level: str | None) -> NoiseRecipe:
    """Build a recipe from its name and a level, ``x`` or ``lowest,highest``; None takes the default.

    Raises:
        UserError: unknown name, or a level that is no number or out of range.
    """
    from noise import CameraNoise, Gaussian

    if name not in _RECIPES:
        raise UserError(f"--recipe: expected one of {', '.join(_RECIPES)}, found {name!r}")
    if level is None:
        return Gaussian() if name == "gaussian" else CameraNoise()
    try:
        low, *rest = (float(part) for part in level.split(","))
        (high,) = rest or (low,)
        return Gaussian(sigma=(low, high)) if name == "gaussian" else CameraNoise(shot=(low, high))
    except ValueError as error:
        raise UserError(f"--level: expected a number or lowest,highest; found {level!r} ({error})") from error


def find_clean(source: Path, out: Path, limit: int | None, *, overwrite: bool = False) -> list[SourceFile]:
    """List the clean pictures, after checking that ``out`` is a place to write pairs to.

    Raises:
        UserError: nothing to read, ``out`` holds pairs already, or the source lies in ``out``.
    """
    if limit is not None and limit < 1:
        raise UserError(f"--limit: expected at least 1, found {limit}")
    if source.exists() and source.resolve().is_relative_to(out.resolve()):
        raise UserError(f"{shown(out)}: expected a folder apart from the source, found one that holds it")
    if out.exists() and not out.is_dir():
        raise UserError(f"{shown(out)}: expected a folder, found a file")
    for part in _PARTS:
        if not overwrite and (out / part).is_dir() and any((out / part).iterdir()):
            raise UserError(f"{shown(out / part)}: expected a new or an empty folder, found files; use --overwrite")
    return scan([source], exclude=[out])[:limit]


def synthesise(
    files: Sequence[SourceFile],
    out: Path,
    recipe: NoiseRecipe,
    seed: int,
    *,
    on_progress: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Write ``out/noisy`` and ``out/clean`` with equal names, and ``out/manifest.json``.

    Every byte is a function of (seed, relative path, content of the file, recipe): neither the order nor the
    other files matter. Depth follows the source (8 or 16 bits); alpha is dropped; grey becomes RGB for camera
    noise. With camera noise the clean picture is the developed noise-free raw, not the source.

    Returns:
        out, manifest, ok, failed, failures (path and error of each), and files (as in the manifest).
    """
    from noise.recipe import recipe_to_dict

    rows, failures = [], []
    for source, name in zip(files, _names(files), strict=True):
        try:
            rows.append(_make_pair(source, name, out, recipe, seed))
        except (UserError, ValueError, MemoryError) as error:
            line = " ".join(str(error).split())
            line = line if isinstance(error, UserError) else f"{shown(source.path)}: {line}"
            failures.append({"source": source.relative.as_posix(), "error": line})
        if on_progress is not None:
            on_progress()
    manifest = {
        "format": 1,
        "seed": seed,
        "recipe": recipe_to_dict(recipe),
        "versions": {
            "unveil": pipeline.__version__,
            **{package: importlib.metadata.version(package) for package in ("torch", "numpy")},
        },
        "files": rows,
        "failures": failures,
    }
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(out / MANIFEST_NAME, (json.dumps(manifest, indent=1) + "\n").encode())
    return {
        "out": str(out),
        "manifest": str(out / MANIFEST_NAME),
        "ok": len(rows),
        "failed": len(failures),
        "failures": failures,
        "files": rows,
    }


def pair_seed(seed: int, relative: Path) -> int:
    """Return the seed of one picture's noise, in [0, 2**63)."""
    name = os.fsencode(relative.as_posix())
    return int.from_bytes(hashlib.sha256(b"%d\0" % seed + name).digest()[:8], "big") >> 1


def _make_pair(source: SourceFile, name: Path, out: Path, recipe: NoiseRecipe, seed: int) -> dict[str, Any]:
    import torch

    from noise import corrupt

    pixels = read_image(source.path).pixels
    image = to_float(_colours(pixels, recipe.kind))
    generator = torch.Generator().manual_seed(pair_seed(seed, source.relative))
    result = corrupt(torch.from_numpy(image.transpose(2, 0, 1).copy()), recipe, generator)
    dtype = np.uint8 if pixels.dtype == np.uint8 else np.uint16
    row: dict[str, Any] = {"name": name.as_posix(), "source": source.relative.as_posix()}
    row["source_sha256"] = file_hash(source.path)
    for part, tensor in (("noisy", result.noisy), ("clean", result.clean)):
        path = confined(out / part, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, Image(pixels=from_float(tensor.numpy().transpose(1, 2, 0), dtype)))
        row[f"{part}_sha256"] = file_hash(path)
    row["parameters"] = result.parameters
    return row


def _colours(pixels: Pixels, kind: str) -> Pixels:
    colours = pixels[..., :-1] if pixels.shape[2] in (2, 4) else pixels
    return np.repeat(colours, 3, axis=2) if kind == "camera" and colours.shape[2] == 1 else colours


def _names(files: Sequence[SourceFile]) -> list[Path]:
    short = [source.relative.with_suffix(".png") for source in files]
    keys = [name.as_posix().casefold() for name in short]
    # a.png and a.jpg keep their whole names, so that none is lost.
    return [
        name if keys.count(key) == 1 else source.relative.with_name(source.relative.name + ".png")
        for source, name, key in zip(files, short, keys, strict=True)
    ]
