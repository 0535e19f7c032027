"""Pictures of a search: the score against each value, all values beside each other, survival, and importance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuning.space import plain_values

if TYPE_CHECKING:
    from tuning.importance import Importance
    from tuning.summary import Summary, Trial

BEST, OTHER, FAINT = "tab:red", "tab:blue", "0.75"
DPI = 110


def draw_all(out: Path, summary: Summary, importance: Importance | None) -> list[Path]:
    """Draw what there is to see; return the files."""
    shown = [trial for trial in summary.trials if trial.score is not None]
    names = _names(shown)
    if not names:
        return []
    made = [_scores(out / "scores.png", summary, shown, names), _survival(out / "survival.png", summary, shown)]
    if len(shown) > 1:
        made.append(_parallel(out / "parallel.png", summary, shown, names))
    if importance is not None:
        made.append(_importance(out / "importance.png", importance))
    return made


def _names(trials: Sequence[Trial]) -> list[str]:
    values = [plain_values(trial.overrides) for trial in trials]
    names = dict.fromkeys(name for value in values for name in value)
    varied = [name for name in names if len({str(value.get(name)) for value in values}) > 1]
    return varied or list(names)


def new_figure(columns: int, rows: int = 1, width: float = 3.6, height: float = 3.4) -> Any:
    """Return a figure for so many panels; sizes of one in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width * columns, height * rows), layout="constrained")


def better(summary: Summary) -> str:
    """Return the name of the score and its direction."""
    return f"{summary.score_name} ({'larger' if summary.score_mode == 'max' else 'smaller'} is better)"


def _scores(path: Path, summary: Summary, shown: Sequence[Trial], names: Sequence[str]) -> Path:
    """Score against each value: trials at the end filled, stopped ones hollow, leaders with their spread."""
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(columns, rows)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    spread = {leader.key: leader for leader in summary.leaders}
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    for name, panel in zip(names, panels, strict=False):
        places = _places([plain_values(trial.overrides).get(name) for trial in shown])
        for place, trial in zip(places, shown, strict=True):
            best = summary.best is not None and trial.key == summary.best.key
            style = {
                "marker": "*" if best else "s" if trial.preset else "o",
                "markersize": 13 if best else 7,
                "color": BEST if best else OTHER,
                "fillstyle": "full" if trial.state == "finished" else "none",
                "linestyle": "none",
            }
            leader = spread.get(trial.key)
            if leader is None:
                panel.plot(place, trial.score, **style)
            else:
                panel.errorbar(place, leader.mean, yerr=leader.sd, capsize=4, **style)
        _label(panel, name, [plain_values(trial.overrides).get(name) for trial in shown])
        panel.grid(alpha=0.3)
    figure.supylabel(better(summary), fontsize=10)
    figure.suptitle(
        "star: best; square: the configuration as given; hollow: stopped early; bars: standard deviation over seeds",
        fontsize=9,
    )
    figure.savefig(path, dpi=DPI)
    return path


def _parallel(path: Path, summary: Summary, shown: Sequence[Trial], names: Sequence[str]) -> Path:
    """One line a trial through all its values to its score."""
    figure = new_figure(1, 1, width=max(6.0, 1.7 * (len(names) + 1)), height=4)
    panel = figure.subplots()
    values = [plain_values(trial.overrides) for trial in shown]
    columns = [[value.get(name) for value in values] for name in names]
    columns.append([trial.score for trial in shown])
    scaled = [_unit(_places(column)) for column in columns]
    order = sorted(range(len(shown)), key=lambda at: _rank(shown[at], summary))
    for at in reversed(order):
        trial = shown[at]
        best = summary.best is not None and trial.key == summary.best.key
        colour = BEST if best else OTHER if trial.state == "finished" else FAINT
        heights = [column[at] for column in scaled]
        panel.plot(range(len(columns)), heights, color=colour, linewidth=2.5 if best else 1.2, zorder=3 if best else 2)
    for at, column in enumerate(columns):
        panel.axvline(at, color="0.4", linewidth=0.8, zorder=1)
        for height, text in _ends(column):
            panel.text(at, height, text, ha="center", va="bottom" if height > 0.5 else "top", fontsize=8)
    panel.set_xticks(range(len(columns)), [*names, summary.score_name], rotation=15, fontsize=8)
    panel.set_yticks([])
    panel.set_ylim(-0.12, 1.12)
    panel.set_title("red: best; blue: to the end; grey: stopped early", fontsize=9)
    figure.savefig(path, dpi=DPI)
    return path


def _survival(path: Path, summary: Summary, shown: Sequence[Trial]) -> Path:
    """How many trials were left at each rung, and how their scores went."""
    figure = new_figure(2, 1)
    left, right = figure.subplots(1, 2)
    rungs = list(range(1, summary.rungs + 1))
    left.step(rungs, [sum(trial.rung >= rung for trial in shown) for rung in rungs], where="mid", color=OTHER)
    left.set_ylim(0, None)
    left.yaxis.get_major_locator().set_params(integer=True)
    left.set_ylabel("trials left")
    for trial in shown:
        best = summary.best is not None and trial.key == summary.best.key
        colour = BEST if best else OTHER if trial.state == "finished" else FAINT
        rows = [(row["rung"], row["score"]) for row in trial.history]
        right.plot(*zip(*rows, strict=True), color=colour, marker=".", linewidth=2 if best else 1)
    right.set_ylabel(better(summary))
    for panel in (left, right):
        panel.set_xlabel(f"rung ({summary.rungs} is the end of training)")
        panel.set_xticks(rungs)
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=DPI)
    return path


def _importance(path: Path, importance: Importance) -> Path:
    figure = new_figure(1, 1, width=6, height=0.5 * len(importance.shares) + 1.6)
    panel = figure.subplots()
    names = list(importance.shares)[::-1]
    panel.barh(names, [100 * importance.shares[name] for name in names], color=OTHER, height=0.55)
    for at, name in enumerate(names):
        panel.plot([100 * importance.chance[name]] * 2, [at - 0.4, at + 0.4], color="black")
    panel.set_xlim(0, 100)
    panel.set_xlabel("% of the differences explained; black: what shuffled scores give")
    panel.set_title(f"{importance.method}, rung {importance.rung}, {importance.trials} trials", fontsize=9)
    figure.savefig(path, dpi=DPI)
    return path


def _places(values: Sequence[Any]) -> list[float]:
    """Numbers as they are; names, and nothing, by their number in the alphabet."""
    if all(isinstance(value, int | float) for value in values):
        return [float(value) for value in values]
    names = sorted({str(value) for value in values})
    return [float(names.index(str(value))) for value in values]


def _label(panel: Any, name: str, values: Sequence[Any]) -> None:
    panel.set_xlabel(name)
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(numbers) < len(values):
        names = sorted({str(value) for value in values})
        panel.set_xticks(range(len(names)), names, fontsize=8)
    elif _by_factors(numbers):
        panel.set_xscale("log")
        # Matplotlib's own names of ticks, powers of ten, lie on top of each other in so small a panel.
        low, high = min(numbers), max(numbers)
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [step * 10.0**decade for decade in decades for step in (1, 3)]
        inside = [tick for tick in ticks if low <= tick <= high]
        panel.set_xticks(inside, [f"{tick:g}" for tick in inside], fontsize=8)
        panel.set_xticks([], minor=True)
    elif all(isinstance(value, int) for value in numbers) and len(set(numbers)) < 9:
        panel.set_xticks(sorted(set(numbers)))


def _by_factors(numbers: Sequence[float]) -> bool:
    return min(numbers) > 0 and max(numbers) / min(numbers) > 20


def _unit(values: Sequence[float]) -> list[float]:
    if _by_factors(values):
        values = [math.log(value) for value in values]
    low, high = min(values), max(values)
    return [(value - low) / (high - low) if high > low else 0.5 for value in values]


def _ends(values: Sequence[Any]) -> list[tuple[float, str]]:
    if all(isinstance(value, int | float) for value in values):
        low, high = min(values), max(values)
        return [(1.0, f"{high:.4g}")] if low == high else [(0.0, f"{low:.4g}"), (1.0, f"{high:.4g}")]
    names = sorted({str(value) for value in values})
    heights = _unit([float(at) for at in range(len(names))])
    return list(zip(heights, names, strict=True))


def _rank(trial: Trial, summary: Summary) -> tuple[int, float]:
    sign = -1 if summary.score_mode == "max" else 1
    return (-trial.rung, sign * (trial.score or 0.0))
