"""What `unveil denoise --fit` shows while it trains, and what it says in the end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.console import console, print_json, progress, tell_lines
from pipeline.data.paths import shown

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from pipeline.data.folders import SourceFile
    from pipeline.inference.fit import FitOptions, FitSummary
    from pipeline.inference.fit_image import FitProgress
    from pipeline.inference.outputs import OutputOptions
    from pipeline.inference.results import FileResult

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
        tell_lines(summary.files.failures())
        print_json(summary.to_dict())
    else:
        tell_lines([*_why(summary), *summary.files.told(shown(out))])
    if summary.stopped is not None:
        best = f"its best picture so far is {shown(summary.saved)}" if summary.saved else "nothing of it is saved yet"
        console.print(f"stopped at {shown(Path(summary.stopped))}: {best}", markup=False, soft_wrap=True)
    return summary.files.exit_code()


def run_dry_fit(
    files: list[SourceFile], out: Path, options: FitOptions, written: OutputOptions, *, json_output: bool
) -> int:
    """Tell what a run would do, write nothing, and return the exit code."""
    import torch

    from pipeline.commands.denoise_plan import run_dry
    from pipeline.inference.dry_run import plan_files
    from pipeline.inference.fit import fitted_with
    from pipeline.inference.fit_settings import time_of
    from pipeline.inference.manifest import Known
    from pipeline.inference.outputs import plan_outputs

    def seconds_of(pixels: int) -> float:
        return 60 * time_of(pixels, options.minutes, torch.get_num_threads())

    outputs = plan_outputs(files, out, written)
    # Steps take what they take.
    known = seconds_of if options.steps is None else None
    would_be = plan_files(files, outputs, written, Known(out, fitted_with(options, written)), known)
    return run_dry(would_be, out, json_output=json_output)


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

    def file_done(self, _: FileResult) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        self._number += 1
