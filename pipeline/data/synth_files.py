"""Noisy and clean pairs on disk, made from clean pictures or from renderings, with a manifest and a picture."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import pipeline
from pipeline.data.folders import SourceFile, scan
from pipeline.data.images import write_bytes
from pipeline.data.paths import shown
from pipeline.data.renders import find_renderings
from pipeline.data.synth_pairs import FORMATS, PARTS, PairMaker, PairTask, remove_pair
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.data.synth_pool import Crashed
    from pipeline.data.synth_recipes import AnyRecipe

MANIFEST_NAME = "manifest.json"
SHEET_NAME = "contact_sheet.png"
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")

Row = dict[str, Any]


def find_clean(source: Path, out: Path, limit: int | None, *, overwrite: bool = False) -> list[SourceFile]:
    """List the clean pictures, after checking that ``out`` is a place to write pairs to.

    Raises:
        UserError: nothing to read, ``out`` holds pairs already, or the source lies in ``out``.
    """
    check_out(source, out, limit, overwrite=overwrite)
    return scan([source], exclude=[out])[:limit]


def find_rendered(
    source: Path,
    out: Path,
    limit: int | None,
    *,
    samples: tuple[float, float] | None = None,
    overwrite: bool = False,
) -> list[PairTask]:
    """List the renderings (`pipeline.data.renders.find_renderings`) likewise.

    Raises:
        UserError: as for `find_clean`.
    """
    check_out(source, out, limit, overwrite=overwrite)
    found = find_renderings(source, out, samples)[:limit]
    names = _names([SourceFile(one.noisy, one.relative) for one in found], ".png")
    return [
        PairTask(source=one.noisy, relative=one.relative, name=name, reference=one.reference)
        for one, name in zip(found, names, strict=True)
    ]


def check_out(source: Path, out: Path, limit: int | None, *, overwrite: bool) -> None:
    """Check that ``out`` is a place to write pairs of ``source`` to.

    Raises:
        UserError: it is a file, holds pairs already, or holds the source.
    """
    if limit is not None and limit < 1:
        raise UserError(f"--limit: expected at least 1, found {limit}")
    if source.exists() and source.resolve().is_relative_to(out.resolve()):
        raise UserError(f"{shown(out)}: expected a folder apart from the source, found one that holds it")
    if out.exists() and not out.is_dir():
        raise UserError(f"{shown(out)}: expected a folder, found a file")
    for part in PARTS:
        if not overwrite and (out / part).is_dir() and any((out / part).iterdir()):
            raise UserError(f"{shown(out / part)}: expected a new or an empty folder, found files; use --overwrite")


def synthesise(
    files: Sequence[SourceFile | PairTask],
    out: Path,
    recipe: AnyRecipe,
    seed: int,
    *,
    workers: int = 1,
    format: str = "png",
    on_progress: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Write ``out/noisy`` and ``out/clean`` with equal names, ``out/manifest.json`` and ``out/contact_sheet.png``.

    Every byte of a pair is a function of (seed, relative path, content of the file, recipe): neither the order nor
    the other files nor ``workers`` matter. Depth follows the source (8 or 16 bits); alpha is dropped; grey becomes
    RGB for noise that is made in a camera, and there the clean picture is the developed noise-free raw, not the source.
    Interrupted, it leaves the pairs that are whole, a manifest of them, and nothing else.

    Args:
        files: clean pictures, or the tasks of `find_rendered`.
        out: folder to write to; created.
        recipe: which noise.
        seed: of the whole set.
        workers: processes; 1 works in this one.
        format: ``dng`` writes raw files instead of pictures, for camera and eld noise.
        on_progress: called after each file.

    Returns:
        out, manifest, contact_sheet, ok, failed, failures (path and error of each), psnr_rgb_u8 (mean of the noisy
        pictures against the clean), and files (as in the manifest).

    Raises:
        UserError: the format is unknown or does not go with the recipe, or ``workers`` is below 1.
        RunError: the disk is full, or no process can be started.
    """
    if format not in FORMATS:
        raise UserError(f"--format: expected one of {', '.join(FORMATS)}, found {format!r}")
    if format == "dng" and recipe.kind not in ("camera", "eld"):
        raise UserError(
            f"--format dng: expected --recipe camera, isp or eld, whose noise has a raw, found {recipe.kind}"
        )
    if workers < 1:
        raise UserError(f"--workers: expected at least 1, found {workers}")
    tasks = _tasks(files, format)
    results: dict[int, Row] = {}

    def done(index: int, row: Row | Crashed) -> None:
        if not isinstance(row, dict):
            remove_pair(out, tasks[index].name)
            source = tasks[index].relative.as_posix()
            row = {"source": source, "error": f"{shown(tasks[index].source)}: the process that made it {row.reason}"}
        results[index] = row
        if on_progress is not None:
            on_progress()

    maker = PairMaker(out=out, recipe=recipe, seed=seed, format=format)

    def finish() -> dict[str, Any]:
        _clean_up(out, [task for index, task in enumerate(tasks) if index not in results])
        rows = [results[index] for index in sorted(results)]
        return _write_manifest(out, recipe, seed, rows, unfinished=len(tasks) - len(rows))

    try:
        _run(maker, tasks, workers, done)
    except BaseException:
        # An interrupt, or a full disk, on which a manifest may not fit either.
        with contextlib.suppress(OSError):
            finish()
        raise
    summary = finish()
    if summary["files"]:
        from pipeline.evaluation.contact_sheet import pair_sheet

        write_bytes(out / SHEET_NAME, pair_sheet(out, summary["files"]))
        summary["contact_sheet"] = str(out / SHEET_NAME)
    return summary


def _tasks(files: Sequence[SourceFile | PairTask], format: str) -> list[PairTask]:
    pictures = [file for file in files if isinstance(file, SourceFile)]
    names = dict(zip(pictures, _names(pictures, f".{format}"), strict=True))
    return [
        PairTask(source=file.path, relative=file.relative, name=names[file]) if isinstance(file, SourceFile) else file
        for file in files
    ]


def _run(maker: PairMaker, tasks: Sequence[PairTask], workers: int, done: Callable[[int, Row | Crashed], None]) -> None:
    if min(workers, len(tasks)) > 1:
        from pipeline.data.synth_pool import run_in_processes

        run_in_processes(maker, tasks, workers, done)
        return
    import torch

    threads = torch.get_num_threads()
    # As in a worker process: matrix products may round differently on more threads.
    torch.set_num_threads(1)
    try:
        for index, task in enumerate(tasks):
            done(index, maker(task))
    finally:
        torch.set_num_threads(threads)


def _write_manifest(out: Path, recipe: AnyRecipe, seed: int, rows: Sequence[Row], *, unfinished: int) -> dict[str, Any]:
    from noise.spec_json import spec_to_dict

    good, failures = [row for row in rows if "error" not in row], [row for row in rows if "error" in row]
    levels = [row["psnr_rgb_u8"] for row in good if row["psnr_rgb_u8"] is not None]
    mean = round(float(np.mean(levels)), 4) if levels else None
    manifest = {
        "format": 2,
        "seed": seed,
        "recipe": spec_to_dict(recipe),
        "versions": {
            "unveil": pipeline.__version__,
            **{package: importlib.metadata.version(package) for package in ("torch", "numpy")},
        },
        "psnr_rgb_u8": mean,
        "unfinished": unfinished,
        "files": good,
        "failures": failures,
    }
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(out / MANIFEST_NAME, (json.dumps(manifest, indent=1, allow_nan=False) + "\n").encode())
    return {
        "out": str(out),
        "manifest": str(out / MANIFEST_NAME),
        "contact_sheet": None,
        "ok": len(good),
        "failed": len(failures),
        "failures": failures,
        "psnr_rgb_u8": mean,
        "files": good,
    }


def _clean_up(out: Path, unfinished: Sequence[PairTask]) -> None:
    for task in unfinished:
        remove_pair(out, task.name)
    for part in PARTS:
        for path in (out / part).rglob(".*.tmp"):
            if _TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)


def _names(files: Sequence[SourceFile], suffix: str) -> list[Path]:
    short = [source.relative.with_suffix(suffix) for source in files]
    keys = [name.as_posix().casefold() for name in short]
    # a.png and a.jpg keep their whole names, so that none is lost.
    return [
        name if keys.count(key) == 1 else source.relative.with_name(source.relative.name + suffix)
        for source, name, key in zip(files, short, keys, strict=True)
    ]
