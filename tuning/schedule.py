"""The schedule that a population ends in: its file, its picture, and the weights of the best member."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.console import strict
from pipeline.training.rundir import write_json
from tuning.plots import BEST, DPI, FAINT, OTHER, better, new_figure
from tuning.space import plain_values

if TYPE_CHECKING:
    from tuning.plan import Plan
    from tuning.summary import Summary


def write_schedule(out: Path, plan: Plan, summary: Summary) -> list[Path]:
    """Write what a population found beside its numbers; nothing for a search of another kind."""
    if not summary.population:
        return []
    write_json(out / "schedule.json", strict(summary.population))
    made = [out / "schedule.json", _draw(out / "schedule.png", summary)]
    if summary.best is not None and summary.best.state == "finished":
        _keep_weights(out, plan, summary)
    return made


def _keep_weights(out: Path, plan: Plan, summary: Summary) -> None:
    """Leave the average of the best one's weights as `unveil denoise --model` reads them."""
    from models import save
    from pipeline import __version__
    from pipeline.config import dump
    from pipeline.training.checkpoint import list_checkpoints, load_checkpoint
    from pipeline.training.loop import new_state
    from tuning.objective import trial_config, trial_folder

    best = summary.best
    assert best is not None
    config = trial_config(plan.base(), best.overrides)
    state = new_state(config)
    load_checkpoint(list_checkpoints(trial_folder(out, best.key) / "checkpoints")[-1], state)
    card: dict[str, Any] = {
        "unveil": __version__,
        "config": dump(config),
        "clean_images_read": config.noise is not None,
        "validated": None,
        "training": {"steps": state.step, "seconds": round(state.seconds, 1), "skipped_steps": state.bad_steps},
        "schedule": [] if best.preset else summary.population["schedule"],
    }
    save(out / "winner", state.average, spec=config.network, inference=config.inference, card=strict(card))


def _draw(path: Path, summary: Summary) -> Path:
    """Draw each value over the steps, and the score: a line a member, and the winner's line of ancestry."""
    told = summary.population
    names = list(dict.fromkeys(name for piece in told["schedule"] for name in plain_values(piece["settings"])))
    columns = min(3, len(names) + 1)
    rows = -(-(len(names) + 1) // columns)
    figure = new_figure(columns, rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(names) + 1 :]:
        panel.set_visible(False)
    for name, panel in zip(names, panels, strict=False):
        for member in told["members"]:
            pieces = member["intervals"]
            values = [plain_values(piece["settings"])[name] for piece in pieces]
            panel.step([0, *(piece["to_step"] for piece in pieces)], [values[0], *values], color=FAINT, linewidth=1)
        line = [plain_values(piece["settings"])[name] for piece in told["schedule"]]
        steps = [0, *(piece["to_step"] for piece in told["schedule"])]
        panel.step(steps, [line[0], *line], color=BEST, linewidth=2.5)
        panel.set_title(name, fontsize=9)
        if name == "optimizer.lr":
            panel.set_yscale("log")
    score = panels[len(names)]
    for member in told["members"]:
        points = [(piece["to_step"], piece["score"]) for piece in member["intervals"] if piece["score"] is not None]
        score.plot(*zip(*points, strict=True), color=FAINT, marker=".", linewidth=1) if points else None
    by_member = {member["key"]: member["intervals"] for member in told["members"]}
    line = [by_member[piece["member"]][at]["score"] for at, piece in enumerate(told["schedule"])]
    score.plot([piece["to_step"] for piece in told["schedule"]], line, color=BEST, marker="o", linewidth=2.5)
    given = next((trial.history for trial in summary.trials if trial.preset), [])
    if given:
        score.plot([row["step"] for row in given], [row["score"] for row in given], color=OTHER, linestyle="--")
    score.set_title(better(summary), fontsize=9)
    for panel in panels[: len(names) + 1]:
        panel.set_xlabel("step")
        panel.grid(alpha=0.3)
    figure.suptitle(
        "red: the winner and those whose weights it took over; grey: all members; dashed: the configuration as given",
        fontsize=9,
    )
    figure.savefig(path, dpi=DPI)
    return path
