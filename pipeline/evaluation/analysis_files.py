"""An analysis on disk: analysis.json, which holds everything, and the figures drawn from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.data.images import write_bytes
from pipeline.data.paths import shown
from pipeline.errors import UserError
from pipeline.evaluation.analysis_figures import FIGURES

NAME = "analysis.json"


def check_out(out: Path, clean: Path, *, overwrite: bool) -> None:
    """Check that ``out`` is a place to write an analysis of pictures in ``clean`` to.

    Raises:
        UserError: it is a file, holds an analysis already, or lies among the pictures, where the next analysis would
            take its figures for some.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{shown(out)}: expected a folder, found a file")
    if out.resolve().is_relative_to(clean.resolve()):
        raise UserError(f"{shown(out)}: expected a folder apart from the clean pictures, found one among them")
    there = [name for name in (NAME, *FIGURES) if (out / name).exists()]
    if there and not overwrite:
        raise UserError(f"{shown(out / there[0])}: expected no analysis in --out, found one; use --overwrite")


def write_analysis(result: dict[str, Any], out: Path) -> list[Path]:
    """Write ``analysis.json`` and the figures that there is something to draw for; return their paths.

    Figures of an analysis that was there before and that this one does not have are removed.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / NAME
    write_bytes(path, (json.dumps(result, indent=1, allow_nan=False) + "\n").encode())
    written = [path]
    for name, draw in FIGURES.items():
        data = draw(result)
        if data is None:
            (out / name).unlink(missing_ok=True)
            continue
        write_bytes(out / name, data)
        written.append(out / name)
    return written
