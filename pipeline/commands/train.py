"""`unveil train`: a folder of images in, a trained, tracked and registered denoiser out."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.options import Config, Data, Json, Overrides, Preset
from pipeline.console import console, print_json

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from pipeline.schema import TrainConfig
    from pipeline.training.launch import TrainResult

_LINE_SECONDS = 15.0
"""Seconds between two lines where there is no terminal to draw a bar on."""


def train(
    out: Annotated[Path, typer.Option("--out", help="Run folder: config, weights, checkpoints, log, pictures.")],
    overrides: Overrides = None,
    preset: Preset = None,
    config: Config = None,
    data: Data = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out from its latest checkpoint.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Train a denoiser, track it in MLflow and register it."""
    resolved = _resolve(out, overrides or [], preset, config, data, resume=resume)
    result = run_with_progress(resolved, out, resume=resume)
    if json_output:
        from pipeline.training.launch import as_json

        print_json(as_json(result))
        return
    console.print(f"weights     {result.weights}", soft_wrap=True, markup=False)
    console.print(
        f"registered  models:/{result.registered_model}@{result.alias} (version {result.version})",
        markup=False,
    )


def _resolve(
    out: Path,
    overrides: list[str],
    preset: str | None,
    config: Path | None,
    data: str | None,
    *,
    resume: bool,
) -> TrainConfig:
    from pipeline.config import check, dump, load_config

    if resume and preset is None and config is None:
        # What the folder says, unless the call says more.
        from pipeline.config import apply_overrides
        from pipeline.training.rundir import read_config

        return check(apply_overrides(dump(read_config(out)), overrides, data))
    return load_config(preset=preset, file=config, overrides=overrides, data=data)


def run_with_progress(config: TrainConfig, out: Path, *, resume: bool = False) -> TrainResult:
    """Train with a bar on stderr: step, loss, speed, what is left."""
    from pipeline.console import progress
    from pipeline.training.launch import train as launch

    # What Ray has to say about dying workers would otherwise stand before the JSON object.
    with contextlib.redirect_stdout(sys.stderr), progress() as bar:
        return launch(config, out, resume=resume, listen=_Show(config, bar))


class _Show:
    """Draws rows of the log as a bar on a terminal, and as a line now and then elsewhere."""

    def __init__(self, config: TrainConfig, bar: Progress) -> None:
        self._config = config.training
        self._bar = bar
        self._task: TaskID | None = None
        self._printed = 0.0

    def __call__(self, what: str, value: dict[str, Any]) -> None:
        if what == "say":
            self._bar.console.print(value["text"], soft_wrap=True, markup=False)
            return
        step, loss = value["step"], value["loss"]
        speed = f"loss {loss:.4f}  {value['images_per_second']:.0f} img/s  waiting {value['wait_share']:.0%}"
        total = self._total(value)
        if self._task is None:
            self._task = self._bar.add_task("training", total=total)
        self._bar.update(self._task, completed=step, total=total, description=f"training  {speed}")
        if not self._bar.console.is_terminal and time.monotonic() - self._printed > _LINE_SECONDS:
            self._printed = time.monotonic()
            left = value["seconds"] / max(step, 1) * (total - step)
            self._bar.console.print(f"step {step}/{total}  {speed}  about {left:.0f} s left", markup=False)

    def _total(self, row: dict[str, Any]) -> int:
        """Steps this run will take: those asked for, or as many as the minutes allow at the speed so far."""
        if not self._config.minutes:
            return self._config.steps
        by_clock = round(row["step"] * 60 * self._config.minutes / max(row["seconds"], 1e-9))
        return int(max(row["step"], min(self._config.steps, by_clock)))
