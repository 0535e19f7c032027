"""What `unveil denoise --fit` shows while it trains, and what it says in the end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.console import console, print_json, progress
from pipeline.data.paths import shown

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from pipeline.data.folders import SourceFile
    from pipeline.inference.files import FileResult
    from pipeline.inference.fit import FitOptions, FitSummary
    from pipeline.inference.fit_image import FitProgress
    from pipeline.inference.outputs import OutputOptions

STOPPED = 130
"""Exit code after Ctrl-C, as shells have it."""

_LINE_SECONDS = 15.0
"""Seconds between two lines where there is no terminal to draw a bar on."""


def run_fit(
    files: list[SourceFile],
    out: Path,
    options: FitOptions,
    written: OutputOptions,
    *,
    json_output: bool,
) -> int:
    """Fit every photo, tell about it, and return the exit code."""
    from pipeline.inference.fit import fit_files

    with progress() as bar:
        show = _Show(bar, len(files))
        summary = fit_files(files, out, options, written, on_progress=show.file_done, listen=show.step_done)
    if json_output:
        print_json(summary.to_dict())
    else:
        for line in [*_why(summary), *summary.files.told(shown(out))]:
            console.print(line, markup=False, soft_wrap=True)
    if summary.stopped is not None:
        kept = "its best picture so far is saved" if summary.saved else "nothing of it is saved yet"
        console.print(f"stopped at {shown(Path(summary.stopped))}: {kept}", markup=False, soft_wrap=True)
        return STOPPED
    failed = summary.files.count("failed")
    return 0 if not failed else 1 if failed == len(summary.files.files) else 3


def _why(summary: FitSummary) -> list[str]:
    return [f"{shown(Path(source).name)}: {line}" for source, line in summary.told.items()]


class _Show:
    """Draws the fit of a photo as a bar on a terminal, and as a line now and then elsewhere."""

    def __init__(self, bar: Progress, count: int) -> None:
        self._bar = bar
        self._count = count
        self._number = 0
        self._task: TaskID | None = None
        self._printed = time.monotonic()

    def step_done(self, source: Path, now: FitProgress) -> None:
        of = f"{self._number + 1}/{self._count} " if self._count > 1 else ""
        error = f"held-out error {now.held_out_255:.2f}/255 (best {now.best_255:.2f})"
        name = f"{of}{shown(source.name)}"
        if self._task is None:
            self._task = self._bar.add_task(name, total=100)
        self._bar.update(self._task, completed=int(100 * now.fraction), description=f"fit {name}  {error}")
        if not self._bar.console.is_terminal and time.monotonic() - self._printed > _LINE_SECONDS:
            self._printed = time.monotonic()
            left = now.seconds / max(now.fraction, 1e-3) * (1 - now.fraction)
            line = f"fit {name}  step {now.step}, {now.fraction:.0%}  {error}  about {left:.0f} s left"
            console.print(line, markup=False, soft_wrap=True)

    def file_done(self, result: FileResult) -> None:
        if result.status == "failed":
            console.print(f"failed: {result.error}", markup=False, style="red", soft_wrap=True)
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        self._number += 1
