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

_DEFAULT_PRESET = "photos"

_LINE_SECONDS = 15.0
"""Seconds between two lines where there is no terminal to draw a bar on."""


def train(
    out: Annotated[Path, typer.Option("--out", help="Run folder: config, weights, checkpoints, log, pictures.")],
    overrides: Overrides = None,
    preset: Preset = None,
    config: Config = None,
    data: Data = None,
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="REF",
            help="Start from a finished network: default, a run or weights folder, models:/name@alias. Without a "
            "preset it is adapted to the photos of --data in minutes, or kept as it is if that does not help.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out from its latest checkpoint.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Train a denoiser, track it in MLflow and register it."""
    resolved = _resolve(out, overrides or [], preset, config, data, init=init, resume=resume)
    result = run_with_progress(resolved, out, resume=resume)
    if json_output:
        from pipeline.training.launch import as_json

        print_json(as_json(result))
        return
    console.print(f"weights     {result.weights}", soft_wrap=True, markup=False)
    if result.kept is not None:
        console.print(f"kept        {result.kept} ({result.kept_why})", soft_wrap=True, markup=False)
    if result.gate is not None:
        from pipeline.training.rundir import gate_text

        console.print(f"gate        {gate_text(result.gate)}", soft_wrap=True, markup=False)
    console.print(
        f"registered  models:/{result.registered_model}/{result.version}"
        + (f", which models:/{result.registered_model}@{result.alias} points at now" if result.alias else ""),
        markup=False,
    )


def _resolve(
    out: Path,
    overrides: list[str],
    preset: str | None,
    config: Path | None,
    data: str | None,
    *,
    init: str | None,
    resume: bool,
) -> TrainConfig:
    from pipeline.config import check, dump, load_config

    if init is not None:
        from pipeline.errors import UserError
        from pipeline.training.init import initialised

        if resume:
            raise UserError("--init: expected a new run, found --resume; the run in --out knows what it started from")
        return initialised(init, preset=preset, file=config, overrides=overrides, data=data)
    if resume and preset is None and config is None:
        # What the folder says, unless the call says more.
        from pipeline.config import apply_overrides
        from pipeline.training.rundir import read_config

        return check(apply_overrides(dump(read_config(out)), overrides, data))
    if preset is None and config is None:
        preset = _DEFAULT_PRESET
    return load_config(preset=preset, file=config, overrides=overrides, data=data)


def run_with_progress(config: TrainConfig, out: Path, *, resume: bool = False) -> TrainResult:
    """Train with a bar on stderr: step, loss, speed, what is left."""
    from pipeline.console import progress
    from pipeline.training.launch import train as launch

    # What Ray has to say about dying workers would otherwise stand before the JSON object.
    with contextlib.redirect_stdout(sys.stderr), progress() as bar:
        return launch(config, out, resume=resume, listen=_Show(config, bar))


class _Show:
    """Draws rows of the log as a bar on a terminal, one for each stage, and as a line now and then elsewhere."""

    def __init__(self, config: TrainConfig, bar: Progress) -> None:
        self._config = config
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}
        self._printed = 0.0

    def __call__(self, what: str, value: dict[str, Any]) -> None:
        if what == "say":
            self._bar.console.print(value["text"], soft_wrap=True, markup=False)
        elif what == "progress":
            self._draw(value["task"], value["done"], value["total"], "", value["seconds_left"])
        else:
            step, total = value["step"], self._total(value)
            speed = f"loss {value['loss']:.4f}  {value['images_per_second']:.0f} img/s"
            left = value["seconds"] / max(step, 1) * (total - step)
            stage = value["stage"] or "training"
            self._draw(stage, step, total, f"  {speed}  {_where_time_goes(value)}", left)

    def _draw(self, name: str, done: int, total: int, more: str, seconds_left: float) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name, total=total)
        self._bar.update(self._tasks[name], completed=done, total=total, description=f"{name}{more}")
        if not self._bar.console.is_terminal and time.monotonic() - self._printed > _LINE_SECONDS:
            self._printed = time.monotonic()
            line = f"{name}  {done}/{total}{more}  about {seconds_left:.0f} s left"
            self._bar.console.print(line, markup=False, soft_wrap=True)

    def _total(self, row: dict[str, Any]) -> int:
        """Steps this stage will take: those asked for, or as many as the minutes allow at the speed so far."""
        student = self._config.student
        length = student if student is not None and row["stage"] == "student" else self._config.training
        if not length.minutes:
            return length.steps
        by_clock = round(row["step"] * 60 * length.minutes / max(row["seconds"], 1e-9))
        return int(max(row["step"], min(length.steps, by_clock)))


def _where_time_goes(row: dict[str, Any]) -> str:
    """Return the parts of a step: waiting for the batch, computing, exchanging gradients; batches that lie ready."""
    text = f"waiting {row['wait_share']:.0%}  step {1000 * row['step_seconds']:.0f} ms"
    if row["all_reduce_seconds"]:
        text += f", of it {1000 * row['all_reduce_seconds']:.0f} exchanging"
    if row["synthesis_seconds_per_batch"]:
        text += f"  queue {row['queue_ready']:.0f}"
    return text
