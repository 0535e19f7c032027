"""`unveil tune`: a search over the mask ratios, ending in a configuration ready for `unveil train`."""

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
    from rich.progress import Progress

    from tuning.plan import Plan
    from tuning.summary import Summary

_LINE_SECONDS = 15.0
"""Seconds between two lines where there is no terminal to draw a bar on."""

_SAMPLES = 12


def tune(
    out: Annotated[Path, typer.Option("--out", help="Folder of the search: trials, tune.json, best.toml, scores.png.")],
    overrides: Overrides = None,
    preset: Preset = None,
    config: Config = None,
    data: Data = None,
    samples: Annotated[
        int | None,
        typer.Option("--samples", min=1, help=f"Number of trials; {_SAMPLES} unless given.", show_default=False),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", help="Judge trials on these noisy and clean pictures.", show_default=False),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the sampling.", show_default=False)] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the search in --out; more --samples extend it.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Search the mask ratios with Ray Tune; the best trial becomes a preset."""
    plan = _resolve(out, overrides or [], preset, config, data, samples, pairs, seed, resume=resume)
    from pipeline.console import progress
    from tuning.search import search

    # What Ray has to say about dying trials would otherwise stand before the JSON object.
    with contextlib.redirect_stdout(sys.stderr), progress() as bar:
        summary = search(plan, out, resume=resume, listen=_Show(plan, bar))
    _tell(summary)
    if json_output:
        print_json(summary.as_json())


def _resolve(
    out: Path,
    overrides: list[str],
    preset: str | None,
    config: Path | None,
    data: str | None,
    samples: int | None,
    pairs: Path | None,
    seed: int | None,
    *,
    resume: bool,
) -> Plan:
    """Put the call together; what a continued search is not told is what its folder says."""
    from pipeline.config import apply_overrides, check, dump, load_config
    from tuning.plan import Plan, read_plan

    before = read_plan(out) if resume else None
    if before is not None and preset is None and config is None:
        resolved = check(apply_overrides(before.config, overrides, data))
    else:
        resolved = load_config(preset=preset, file=config, overrides=overrides, data=data)
    absolute = str(pairs.expanduser().resolve()) if pairs is not None else None
    return Plan(
        config=dump(resolved),
        samples=samples or (before.samples if before else _SAMPLES),
        seed=seed if seed is not None else (before.seed if before else 0),
        pairs=absolute or (before.pairs if before else None),
    )


class _Show:
    """Draws the search as a bar on a terminal, and as a line now and then elsewhere."""

    def __init__(self, plan: Plan, bar: Progress) -> None:
        from tuning.objective import rungs

        self._samples = plan.samples
        self._rungs = rungs(plan.base())
        self._bar = bar
        self._task = bar.add_task("trials", total=plan.samples)
        self._start = self._printed = time.monotonic()
        self._running: dict[str, int] = {}
        self._ended: set[str] = set()

    def __call__(self, what: str, value: dict[str, Any]) -> None:
        if what == "say":
            self._print(value["text"])
            return
        key, event = value["key"], value["event"]
        if event == "started" and not self._running and not self._ended:
            self._start = time.monotonic()
        if event in ("started", "reported"):
            self._running[key] = value.get("rung", 0)
        else:
            self._running.pop(key, None)
            self._ended.add(key)
        if event == "failed":
            self._print(f"trial {key} failed: {value['reason']}")
        self._draw(value)

    def _draw(self, value: dict[str, Any]) -> None:
        done = len(self._ended) + sum(self._running.values()) / self._rungs
        text = f"{len(self._running)} running"
        if value["event"] == "reported":
            text += f", {value['key']} at {value['rung']}/{self._rungs}: {value['score']:.5g}"
        self._bar.update(self._task, completed=done, description=f"trials  {text}")
        now = time.monotonic()
        if not self._bar.console.is_terminal and now - self._printed > _LINE_SECONDS:
            self._printed = now
            # Trials that are stopped early make it less.
            left = f", at most {(now - self._start) / done * (self._samples - done):.0f} s left" if done else ""
            self._print(f"trials {len(self._ended)}/{self._samples}, {text}{left}")

    def _print(self, text: str) -> None:
        self._bar.console.print(text, soft_wrap=True, markup=False)


def _tell(summary: Summary) -> None:
    from rich.table import Table

    from tuning.summary import ranked

    table = Table(title=f"{len(summary.trials)} trials, {summary.failed} failed, {summary.seconds:.0f} s")
    table.add_column("trial")
    table.add_column("overrides", no_wrap=True)
    table.add_column(summary.score_name, justify="right")
    table.add_column("step", justify="right")
    table.add_column("state")
    for trial in ranked(summary.trials, summary.score_mode):
        # Keys of inference follow those of the method.
        shown = {key: value for key, value in trial.overrides.items() if not key.startswith("inference.")}
        changed = "\n".join(f"{key.rpartition('.')[2]}={value}" for key, value in shown.items())
        score = "-" if trial.score is None else f"{trial.score:.5g}"
        state = trial.state + (" (as given)" if trial.preset else "")
        best = summary.best is not None and trial.key == summary.best.key
        table.add_row(trial.key, changed, score, str(trial.step), state, style="bold" if best else None)
    console.print(table)
    definition = f"{summary.score_name}: {summary.score_definition}"
    console.print(definition, style="dim", soft_wrap=True, markup=False)
    if summary.best is not None and summary.best.state != "finished":
        early = "no trial reached the end: the best one's rival failed after stopping it; --resume tries again"
        console.print(early, style="yellow", soft_wrap=True)
    console.print(f"best  {summary.best_config}", soft_wrap=True, markup=False)
    following = f"next  unveil train --config {summary.best_config} --data ... --out ..."
    console.print(following, soft_wrap=True, markup=False)
