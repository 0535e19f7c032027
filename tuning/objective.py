"""One trial: the configuration with some keys overridden, trained and judged on the way.

A trial is a pure function of its configuration and the data, and its folder holds all it has done: after a
death the same trial reports the rungs it had reached, at once, and trains on from the last of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import apply_overrides, check, dump
from tuning.costs import Costs
from tuning.space import overrides, trial_key

if TYPE_CHECKING:
    from pipeline.data.source import SourceSpec
    from pipeline.schema import TrainConfig
    from pipeline.training.step import TrainState
    from tuning.judge import Judge
    from tuning.score import Score

REDUCTION = 3
_MAX_RUNGS = REDUCTION**2

KEEP = 4
"""One of so many trials goes on from a rung. More do, since they are promoted as results come in: with 3, which the
rungs would suggest, 16 trials save less than the factor of 3 that they do with 4 (docs/results/tune.md)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What all trials of a search share; sent to them by value."""

    config: dict[str, Any]
    """The base configuration, resolved."""

    out: str
    """Folder of the search, absolute; each trial has one below it."""

    training: SourceSpec
    """Images that are trained on."""

    held_out: SourceSpec
    """Images that are judged on."""

    scores: list[Score]
    """What is measured; the first decides."""

    early: bool = True
    """Whether trials are judged before their end too, for who stops or samples by it; else they only say how far they
    are."""


def rungs(config: TrainConfig) -> int:
    """Return the parts of a trial, after each of which it can go on: a power of ASHA's reduction factor."""
    count = _MAX_RUNGS
    while count > config.training.steps:
        count //= REDUCTION
    return count


def stage(rung: int, count: int) -> int:
    """Return a rung on the scale that ASHA counts by, on which each milestone is `KEEP` times the one before."""
    passed = sum(stone <= rung for stone in milestones(count))
    return int(KEEP ** max(0, passed - 1))


def milestones(count: int, *, early: bool = True) -> list[int]:
    """Return the rungs at which trials are judged: those where ASHA asks; at all of them it would cost three times."""
    return [REDUCTION**power for power in range(count) if REDUCTION**power <= count] if early else [count]


def trial_config(config: TrainConfig, changed: Mapping[str, Any]) -> TrainConfig:
    """Return `config` with `{dotted.key: value}` put in, checked like any other.

    Raises:
        UserError: a key or value that the configuration does not allow.
    """
    written = [f"{key}={json.dumps(value)}" for key, value in changed.items()]
    return check(apply_overrides(dump(config), written, None))


def trial_folder(out: Path, key: str) -> Path:
    """Return where a trial keeps its log and its checkpoint."""
    return out / "trials" / key


def run_trial(point: dict[str, Any], job: Job) -> None:
    """Train and report; runs in a process of Ray Tune's, which may stop it after any report.

    Raises:
        RunError: gradients or the score are not finite, or no image can be decoded.
    """
    from ray import tune

    from pipeline.cluster import check_packages
    from pipeline.training.history import read_history

    costs = Costs()
    check_packages()
    base = check(job.config)
    changed = overrides(base, point)
    config = trial_config(base, changed)
    folder = trial_folder(Path(job.out), trial_key(changed))
    folder.mkdir(parents=True, exist_ok=True)
    last = 0
    for row in read_history(folder):
        tune.report({**reported(row), "stage": stage(row["rung"], rungs(base))})
        last = row["rung"]
    # A trial that has been to the end needs no torch, which is most of what starting a process costs.
    if last < rungs(base):
        _train(config, job, folder, last, rungs(base), costs)


def _train(config: TrainConfig, job: Job, folder: Path, last: int, count: int, costs: Costs) -> None:
    """Train from the checkpoint in `folder` on, and log, checkpoint and report every rung above `last`."""
    from ray import tune

    from pipeline.training.checkpoint import list_checkpoints, save_checkpoint
    from pipeline.training.history import append_row
    from tuning.judge import Judge
    from tuning.team import team_of

    judge = Judge(job.scores, config, job.held_out)
    with team_of(config, job.training) as team:
        team.begin(config, next(reversed(list_checkpoints(folder / "checkpoints")), None))
        costs.lap("start")
        for rung in range(_rung(team.state, config, count) + 1, count + 1):
            loss = team.train_to(rung / count)
            costs.lap("steps")
            reached = _rung(team.state, config, count)
            row = None
            if any(last < stone <= reached for stone in milestones(count, early=job.early)):
                row = judged_row(judge, team.state, reached, loss, last=reached >= count)
                # The row first: a death between the two repeats the rung, and readers take a step once.
                append_row(folder, row)
                last = reached
                costs.lap("judging")
            save_checkpoint(folder / "checkpoints", team.state, keep=1)
            if row is None and not job.early:
                tune.report(reported(_passed(team.state, reached, loss)))
            costs.lap("saving")
            if row is not None:
                append_row(folder, costs.row(reached))
                tune.report({**reported(row), "stage": stage(reached, count)})
                costs = Costs()
            if last >= count:
                return


def judged_row(judge: Judge, state: TrainState, rung: int, loss: float, *, last: bool) -> dict[str, Any]:
    """Judge the average of the weights, on all the data at the last rung; return the row of the log that says so."""
    start = time.monotonic()
    judged = judge(state.average, last=last)
    return {
        "step": state.step,
        "rung": rung,
        "score": judged.scores[judge.scores[0].name],
        "scores": judged.scores,
        "parts": judged.parts,
        **({} if judged.effect is None else {"effect": judged.effect}),
        "loss": loss,
        "seconds": state.seconds,
        "judging": round(time.monotonic() - start, 3),
        "time": time.time(),
    }


def _passed(state: TrainState, rung: int, loss: float) -> dict[str, Any]:
    """Return what is reported of a rung at which nothing is judged, and does not stand in the log."""
    known = {"step": state.step, "rung": rung, "loss": loss, "seconds": state.seconds, "time": time.time()}
    return {**known, "score": None}


def progress_of(state: TrainState, config: TrainConfig) -> float:
    """Return the fraction of the trial that is over, by steps or by the clock; judging does not count."""
    from pipeline.training.schedule import run_progress

    return run_progress(state.step, state.seconds, steps=config.training.steps, minutes=config.training.minutes)


def _rung(state: TrainState, config: TrainConfig, count: int) -> int:
    return min(count, int(progress_of(state, config) * count + 1e-9))


def reported(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the log as Ray takes it."""
    # "time" would be taken for one of Ray's own fields.
    return {"logged_at" if key == "time" else key: value for key, value in row.items()}
