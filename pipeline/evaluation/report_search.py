"""Pictures of a search: all values beside each other, who was stopped when, what mattered, and schedules."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.data.paths import shown
from pipeline.evaluation.report_charts import Point, Scale, chart, dots, line, number, percent

Trial = Mapping[str, Any]
Tune = Mapping[str, Any]

_MOST_NAMES = 8
"""Of values that are no numbers, beside an axis."""

_AXIS_PIXELS = 92
_KINDS = (
    ("stopped", "thin", "noisy", "stopped early"),
    ("finished", "thin", "classical", "to the end"),
    ("best", "line", "ours", "best"),
)


def kind_of_trial(trial: Trial, best: Any) -> str:
    """Return `best`, `finished` or `stopped`."""
    if best is not None and trial.get("key") == best:
        return "best"
    return "finished" if trial.get("state") == "finished" else "stopped"


def settings(overrides: Mapping[str, Any] | None) -> dict[str, float | str]:
    """Return what was set as one value a name: ranges as low and high, without what follows a setting of the method."""
    found: dict[str, float | str] = {}
    for key, value in (overrides or {}).items():
        section, _, name = str(key).partition(".")
        if section == "inference" and f"method.{name}" in (overrides or {}) and name != "pd_stride":
            continue
        pair = isinstance(value, list | tuple) and len(value) == 2 and name != "hole"
        if pair and all(isinstance(end, int | float) for end in value):
            found |= {f"{key}.low": float(value[0]), f"{key}.high": float(value[1])}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[str(key)] = float(value)
        else:
            found[str(key)] = "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return found


def parallel(tune: Tune, trials: Sequence[Trial]) -> dict[str, Any] | None:
    """Return all values of all trials and their scores, a line a trial; None where nothing differs."""
    scored = [trial for trial in trials if trial.get("score") is not None]
    values = [settings(trial.get("overrides")) for trial in scored]
    names = [
        name
        for name in dict.fromkeys(name for one in values for name in one)
        if len({one.get(name) for one in values}) > 1
    ]
    if not names or len(scored) < 2:
        return None
    columns = [_column([one.get(name) for one in values]) for name in names]
    columns.append(_column([float(trial["score"]) for trial in scored]))
    x, y = Scale(0.0, float(len(columns) - 1)), Scale(0.0, 1.0)
    best = (tune.get("best") or {}).get("key")
    series: list[dict[str, Any]] = [{"paths": {"faint": _uprights(len(columns), x, y)}, "colour": "ink"}]
    for kind, style, colour, label in _KINDS:
        rows = [at for at, trial in enumerate(scored) if kind_of_trial(trial, best) == kind]
        path = "".join(
            line([(float(place), column["at"][at]) for place, column in enumerate(columns)], x, y) for at in rows
        )
        if path:
            series.append({"paths": {style: path}, "colour": colour, "label": label, "label_at": None})
    made = chart("All values of each trial", series, x, y)
    heads = [*names, str(tune.get("score_name", "score"))]
    axes = [
        {"at": percent(x.at(float(place))), "name": _breakable(shown(name)), "marks": column["marks"]}
        for place, (name, column) in enumerate(zip(heads, columns, strict=True))
    ]
    return {**made, "x": [], "y": [], "axes": axes, "pixels": _AXIS_PIXELS * len(axes)}


def survival(tune: Tune, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return how many trials were trained how far, and how the scores went; nothing where none was stopped."""
    histories = [[row for row in trial.get("history") or [] if _scored(row)] for trial in trials]
    rungs = sorted({int(row["rung"]) for rows in histories for row in rows})
    if len(rungs) < 2 or not any(trial.get("state") == "stopped" for trial in trials):
        return []
    last = int(tune.get("rungs") or rungs[-1])
    x = Scale(0.0, float(last))
    left = [sum(int(trial.get("rung") or 0) >= rung for trial in trials) for rung in rungs]
    points: list[Point] = []
    for start, end, count in zip([0, *rungs], rungs, left, strict=False):
        points += [(float(start), float(count)), (float(end), float(count))]
    y = Scale(0.0, 1.08 * max(left))
    whole = f"parts of the training, {last} in all"
    title = "Trials in training"
    charts = [chart(title, [{"paths": {"line": line(points, x, y)}, "colour": "classical"}], x, y, x_name=whole)]
    best = (tune.get("best") or {}).get("key")
    scores = Scale.around([float(row["score"]) for rows in histories for row in rows])
    series = []
    for kind, style, colour, label in _KINDS:
        chosen = [
            [(float(row["rung"]), float(row["score"])) for row in rows]
            for trial, rows in zip(trials, histories, strict=True)
            if rows and kind_of_trial(trial, best) == kind
        ]
        if chosen:
            paths = {style: "".join(line(one, x, scores) for one in chosen)}
            paths["dots"] = "".join(dots(one, x, scores) for one in chosen)
            series.append({"paths": paths, "colour": colour, "label": label, "label_at": None})
    return [*charts, chart("Scores on the way", series, x, scores, x_name=whole)]


def importance(tune: Tune) -> dict[str, Any] | None:
    """Return how much of the differences each value explains, beside chance; None if that was not measured."""
    found = tune.get("importance") or {}
    shares, chance = found.get("shares") or {}, found.get("chance") or {}
    if not shares:
        return None
    return {
        "about": f"{shown(str(found.get('method', '')))}; scores at part {found.get('rung')} of "
        f"{tune.get('rungs')}, {found.get('trials')} trials",
        "ticks": [{"at": percent(at / 4), "text": f"{25 * at}\N{NO-BREAK SPACE}%"} for at in range(5)],
        "rows": [
            {
                "label": shown(str(name)),
                "at": percent(min(max(float(share), 0.0), 1.0)),
                "chance": percent(min(max(float(chance.get(name, 0.0)), 0.0), 1.0)),
                "cells": [f"{float(share):.0%}", f"{float(chance.get(name, 0.0)):.0%}"],
                "clear": float(share) > float(chance.get(name, 0.0)),
            }
            for name, share in shares.items()
        ],
    }


def schedule(tune: Tune, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return each value and the score over the steps, where a population changed them on the way."""
    told = tune.get("population") or {}
    pieces, members = told.get("schedule") or [], told.get("members") or []
    if not pieces or not members:
        return []
    x = Scale(0.0, float(told["steps"]))
    charts = [
        _value_chart(name, pieces, members, x)
        for name in dict.fromkeys(name for one in pieces for name in settings(one["settings"]))
    ]
    return [*charts, _score_chart(tune, trials, x)]


def _value_chart(name: str, pieces: Sequence[Trial], members: Sequence[Trial], x: Scale) -> dict[str, Any]:
    own = [settings(piece["settings"]).get(name) for piece in pieces]
    every = [[settings(piece["settings"]).get(name) for piece in member["intervals"]] for member in members]
    flat = [value for values in (own, *every) for value in values]
    names = [] if all(isinstance(value, float) for value in flat) else sorted({str(value) for value in flat})

    def place(value: Any) -> float:
        return float(names.index(str(value))) if names else float(value)

    places = [place(value) for value in flat]
    y = Scale.around(places, log=not names and min(places) > 0 and max(places) / min(places) > 20)
    starts = [float(piece["from_step"]) for piece in pieces]
    ends = [float(piece["to_step"]) for piece in pieces]

    def path(values: Sequence[Any]) -> str:
        heights = [place(value) for value in values]
        corners = zip(starts, ends, heights, strict=False)
        return line([point for start, end, height in corners for point in ((start, height), (end, height))], x, y)

    series = [
        {"paths": {"thin": "".join(map(path, every))}, "colour": "noisy", "label": "members", "label_at": None},
        {"paths": {"line": path(own)}, "colour": "ours", "label": "the winner's schedule", "label_at": None},
    ]
    made = chart(shown(name), series, x, y, x_name="step", most=(4, 4))
    if names:
        made["y"] = [{"at": percent(1 - y.at(float(at))), "text": shown(one)} for at, one in enumerate(names)]
    return made


def _score_chart(tune: Tune, trials: Sequence[Trial], x: Scale) -> dict[str, Any]:
    told = tune["population"]
    curves = {
        member["key"]: [
            (float(one["to_step"]), float(one["score"])) for one in member["intervals"] if one.get("score") is not None
        ]
        for member in told["members"]
    }
    given = next((trial for trial in trials if trial.get("preset")), {})
    base = [(float(row["step"]), float(row["score"])) for row in given.get("history") or [] if _scored(row)]
    ends = {point for points in curves.values() for point in points}
    own = [
        point
        for piece in told["schedule"]
        for point in curves.get(piece["member"], [])
        if point[0] == float(piece["to_step"])
    ]
    y = Scale.around([score for _, score in (*ends, *base)])
    series = [
        {"paths": {"thin": "".join(line(one, x, y) for one in curves.values())}, "colour": "noisy"}
        | {"label": "members", "label_at": None},
        {"paths": {"line": line(own, x, y), "dots": dots(own, x, y)}, "colour": "ours"}
        | {"label": "the winner and those it took over from", "label_at": None},
    ]
    if base:
        paths = {"dashed": line(base, x, y)}
        series.append({"paths": paths, "colour": "classical", "label": "as given", "label_at": None})
    return chart(shown(str(tune.get("score_name", "score"))), series, x, y, x_name="step")


def _scored(row: Any) -> bool:
    return isinstance(row, Mapping) and isinstance(row.get("score"), int | float) and "rung" in row


def _column(values: Sequence[Any]) -> dict[str, Any]:
    """Return where values lie on an axis from 0 to 1, and what stands beside it."""
    if all(isinstance(value, float) for value in values):
        low, high = min(values), max(values)
        scale = Scale(low, high, log=low > 0 and high / low > 20)
        ends = [(0.0, number(low, 4)), (1.0, number(high, 4))] if high > low else [(0.5, number(low, 4))]
        return {"at": [scale.at(value) if high > low else 0.5 for value in values], "marks": _marks(ends)}
    names = sorted({"" if value is None else str(value) for value in values})
    places = {name: at / (len(names) - 1) if len(names) > 1 else 0.5 for at, name in enumerate(names)}
    told = list(places.items())
    shown_ones = told if len(told) <= _MOST_NAMES else [told[0], told[-1]]
    return {
        "at": [places["" if value is None else str(value)] for value in values],
        "marks": _marks([(place, shown(name) if name else "none") for name, place in shown_ones]),
    }


def _marks(ends: Sequence[tuple[float, str]]) -> list[dict[str, str]]:
    return [{"at": percent(1 - place), "text": text} for place, text in ends]


def _uprights(count: int, x: Scale, y: Scale) -> str:
    return "".join(line([(float(at), 0.0), (float(at), 1.0)], x, y) for at in range(count))


def _breakable(name: str) -> str:
    """Allow a line to end after dots and underscores."""
    return "".join(itertools.chain.from_iterable((one, "\N{ZERO WIDTH SPACE}") if one in "._" else one for one in name))
