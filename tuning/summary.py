"""What a search found: all trials with their scores, the best as a configuration for `train`, and a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.config import dump
from pipeline.console import strict
from pipeline.training.history import read_history
from pipeline.training.rundir import write_json
from tuning.objective import rungs, trial_config
from tuning.space import overrides, own_point, plain_numbers, trial_key

if TYPE_CHECKING:
    from tuning.plan import Plan
    from tuning.score import Score

_BEST_KEYS = ("key", "overrides", "score", "state")
_SPELLINGS = {True: "true", False: "false"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One trial and how far it got."""

    key: str
    number: int
    overrides: dict[str, Any]
    state: Literal["finished", "stopped", "failed"]
    """`stopped` trials fell behind at a rung; their scores are those of a shorter training."""

    score: float | None
    """At the last rung it reached."""

    rung: int
    step: int
    seconds: float
    """Of training, without judging and without waiting for a process."""

    preset: bool
    """Whether it is the base configuration itself."""

    error: str | None
    history: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The result of a search; the JSON of `unveil tune --json`."""

    out: str
    best: Trial | None
    score_name: str
    score_mode: str
    score_definition: str
    rungs: int
    trials: list[Trial]
    failed: int
    best_config: str | None
    mlflow_run_id: str
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return the object that scripts read, without the trials' histories."""
        value = asdict(self)
        for trial in value["trials"]:
            del trial["history"]
        value["best"] = {name: value["best"][name] for name in _BEST_KEYS} if self.best else None
        return value


def summarize(out: Path, plan: Plan, score: Score, failed: dict[str, str], *, run_id: str) -> Summary:
    """Read the trials' folders; the best is the best of those that were trained longest and did not fail.

    That is to the end, unless the trial that the others were stopped for failed afterwards.
    """
    from tuning.runs import TRIAL_FILE

    config = plan.base()
    own, count = trial_key(overrides(config, own_point(config))), rungs(config)
    trials = []
    for path in sorted((out / "trials").glob(f"*/{TRIAL_FILE}")):
        known, rows, key = json.loads(path.read_text("utf-8")), read_history(path.parent), path.parent.name
        last: dict[str, Any] = rows[-1] if rows else {"rung": 0, "score": None, "step": 0, "seconds": 0.0}
        finished = last["rung"] >= count
        trials.append(
            Trial(
                key=key,
                number=known["number"],
                overrides=known["overrides"],
                state="finished" if finished else "failed" if key in failed else "stopped",
                score=last["score"],
                rung=last["rung"],
                step=last["step"],
                seconds=round(last["seconds"], 3),
                preset=key == own,
                error=None if finished else failed.get(key),
                history=rows,
            )
        )
    trials.sort(key=lambda trial: trial.number)
    best = next((trial for trial in ranked(trials, score.mode) if trial.state != "failed" and trial.rung), None)
    return Summary(
        out=str(out),
        best=best,
        score_name=score.name,
        score_mode=score.mode,
        score_definition=score.definition,
        rungs=count,
        trials=trials,
        failed=sum(trial.state == "failed" for trial in trials),
        best_config=str(out / "best.toml") if best else None,
        mlflow_run_id=run_id,
        seconds=0.0,
    )


def ranked(trials: Sequence[Trial], mode: str) -> list[Trial]:
    """Return the trials, best first: by how far they got, then by score."""
    sign = -1 if mode == "max" else 1
    return sorted(trials, key=lambda trial: (-trial.rung, sign * (trial.score or 0.0)))


def write_summary(out: Path, plan: Plan, score: Score, summary: Summary) -> list[Path]:
    """Write `tune.json`, and `best.toml` and `scores.png` if a trial finished; return what was written."""
    write_json(out / "tune.json", strict(asdict(summary)))
    written = [out / "tune.json"]
    if summary.best is not None:
        tree = dump(trial_config(plan.base(), summary.best.overrides))
        # Where the images were is no part of what was found; `--data` says where they are.
        del tree["data"]["path"]
        head = (
            f"# Best of {len(summary.trials)} trials: {score.name} {summary.best.score:.6g}.\n"
            f"# {score.name}: {score.definition}.\n\n"
        )
        (out / "best.toml").write_text(head + to_toml(tree), "utf-8")
        _plot(out / "scores.png", score, summary)
        written += [out / "best.toml", out / "scores.png"]
    return written


def to_toml(tree: dict[str, Any], prefix: str = "") -> str:
    """Write a nested dict of strings, numbers, booleans and lists as TOML, which has no None: left out."""
    lines = [f"{key} = {_value(value)}" for key, value in tree.items() if not isinstance(value, dict | None)]
    tables = [(f"{prefix}{key}", value) for key, value in tree.items() if isinstance(value, dict)]
    text = "".join(f"{line}\n" for line in lines)
    for name, table in tables:
        text += f"\n[{name}]\n" + to_toml(table, f"{name}.")
    return text


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, bool):
        return _SPELLINGS[value]
    # TOML's basic strings are JSON's, but for escaped surrogates, which ensure_ascii would make.
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _plot(path: Path, score: Score, summary: Summary) -> None:
    """Draw the score against each searched number: trials at the end filled, stopped ones hollow."""
    from matplotlib.figure import Figure

    shown = [trial for trial in summary.trials if trial.score is not None]
    names = list(plain_numbers(shown[0].overrides))
    figure = Figure(figsize=(3.6 * len(names), 3.4), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for name, panel in zip(names, panels, strict=True):
        for trial in shown:
            end, best = trial.state == "finished", summary.best is not None and trial.key == summary.best.key
            panel.plot(
                plain_numbers(trial.overrides)[name],
                trial.score,
                marker="*" if best else "s" if trial.preset else "o",
                markersize=13 if best else 7,
                color="tab:red" if best else "tab:blue",
                fillstyle="full" if end else "none",
                linestyle="none",
            )
        panel.set_xlabel(name)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"{score.name} ({'larger' if score.mode == 'max' else 'smaller'} is better)")
    figure.suptitle("star: best; square: the base configuration; hollow: stopped early", fontsize=9)
    figure.savefig(path, dpi=110)
