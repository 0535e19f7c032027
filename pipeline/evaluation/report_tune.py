"""What a search found: its trials, the best configuration, and the score against each searched parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.data.paths import shown
from pipeline.evaluation.report_charts import Scale, chart, dots, line, number
from pipeline.evaluation.report_search import importance, kind_of_trial, parallel, schedule, settings, survival
from pipeline.evaluation.report_training import duration

_MOST_CHARTS = 9


def tune_board(tune: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what the template shows of a search; None without trials.

    Args:
        tune: what ``unveil tune`` writes to tune.json.
    """
    trials = [trial for trial in (tune or {}).get("trials") or [] if isinstance(trial, Mapping)]
    if not tune or not trials:
        return None
    best = (tune.get("best") or {}).get("key")
    larger = tune.get("score_mode") == "max"
    names = list(dict.fromkeys(str(name) for trial in trials for name in _numbers(trial)))
    others = dict.fromkeys(str(name) for trial in trials for name in trial.get("overrides") or {})
    columns = [name for name in others if name in names] + [name for name in others if name not in names]
    order = sorted(trials, key=lambda trial: _rank(trial, larger))
    return {
        "score": shown(str(tune.get("score_name", "score"))),
        "mode": "larger" if larger else "smaller",
        "definition": shown(str(tune["score_definition"])) if tune.get("score_definition") else "",
        "count": len(trials),
        "finished": sum(trial.get("state") == "finished" for trial in trials),
        "stopped": sum(trial.get("state") == "stopped" for trial in trials),
        "failed": sum(trial.get("state") == "failed" for trial in trials),
        "columns": [shown(name) for name in columns],
        "rows": [_row(trial, columns, best) for trial in order],
        "best": [
            (shown(str(name)), _value(value))
            for name, value in ((tune.get("best") or {}).get("overrides") or {}).items()
        ],
        "conclusion": [shown(str(line)) for line in tune.get("conclusion") or []],
        **_pictures(tune, trials, best),
        "long": len(trials) > 24,
    }


def _pictures(tune: Mapping[str, Any], trials: Sequence[Mapping[str, Any]], best: Any) -> dict[str, Any]:
    """Return what is drawn. Where settings changed on the way, scores say nothing of the last ones."""
    changing = schedule(tune, trials)
    if changing:
        return {
            "schedule": changing,
            "parallel": None,
            "charts": [],
            "bars": False,
            "survival": [],
            "importance": None,
        }
    spread = {one.get("key"): one for one in tune.get("leaders") or [] if isinstance(one, Mapping)}
    names = dict.fromkeys(name for trial in trials for name in _plain(trial))
    made = [one for name in names if (one := _chart(name, trials, best, spread)) is not None]
    return {
        "schedule": [],
        "parallel": parallel(tune, trials),
        "charts": made[:_MOST_CHARTS],
        "bars": bool(spread),
        "survival": survival(tune, trials),
        "importance": importance(tune),
    }


def _rank(trial: Mapping[str, Any], larger: bool) -> tuple[float, float]:
    score = trial.get("score")
    worst = float("inf")
    return (-float(trial.get("rung") or 0), worst if score is None else -float(score) if larger else float(score))


def _row(trial: Mapping[str, Any], columns: Sequence[str], best: Any) -> dict[str, Any]:
    values = trial.get("overrides") or {}
    score, state = trial.get("score"), str(trial.get("state", ""))
    return {
        "number": trial.get("number", ""),
        "best": best is not None and trial.get("key") == best,
        "preset": bool(trial.get("preset")),
        "state": shown(state) if state else "",
        "score": "" if score is None else number(float(score), 5),
        "key": "" if score is None else f"{float(score):.9g}",
        "steps": f"{int(trial.get('step') or 0):,}",
        "time": duration(float(trial.get("seconds") or 0.0)),
        "seconds": f"{float(trial.get('seconds') or 0.0):.3f}",
        "cells": [_value(values.get(name)) for name in columns],
    }


def _value(value: Any) -> str:
    if isinstance(value, float):
        return number(value, 4)
    if isinstance(value, list | tuple):
        return ", ".join(_value(item) for item in value)
    return "" if value is None else shown(str(value))


def _numbers(trial: Mapping[str, Any]) -> dict[str, float]:
    """Searched numbers by name; a list of numbers counts as its first."""
    found = {}
    for name, value in (trial.get("overrides") or {}).items():
        first = value[0] if isinstance(value, list | tuple) and value else value
        if isinstance(first, int | float) and not isinstance(first, bool):
            found[str(name)] = float(first)
    return found


def _plain(trial: Mapping[str, Any]) -> dict[str, float]:
    """Return settings that are numbers, of a range both ends."""
    return {name: value for name, value in settings(trial.get("overrides")).items() if isinstance(value, float)}


def _chart(
    name: str, trials: Sequence[Mapping[str, Any]], best: Any, spread: Mapping[Any, Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Score against one value; leaders at their mean over seeds, with the standard deviation as a bar."""
    rows = [
        (_plain(trial)[name], float(spread.get(trial.get("key"), {}).get("mean", trial["score"])), trial)
        for trial in trials
        if trial.get("score") is not None and name in _plain(trial)
    ]
    values = [value for value, _, _ in rows]
    if len(set(values)) < 2:
        return None
    x = Scale.around(values, log=min(values) > 0 and max(values) / min(values) > 20)
    bars = [
        (
            value,
            float(one["mean"]) - float(one["sd"]),
            float(one["mean"]) + float(one["sd"]),
            kind_of_trial(trial, best),
        )
        for value, _, trial in rows
        if (one := spread.get(trial.get("key"))) is not None
    ]
    y = Scale.around([*(score for _, score, _ in rows), *(end for _, low, high, _ in bars for end in (low, high))])
    styles = (
        ("stopped", "hollow", "noisy", "stopped early"),
        ("finished", "dots", "classical", "finished"),
        ("best", "big", "ours", "best"),
    )
    series = []
    for kind, style, colour, label in styles:
        points = [(value, score) for value, score, trial in rows if kind_of_trial(trial, best) == kind]
        spans = "".join(line([(value, low), (value, high)], x, y) for value, low, high, of in bars if of == kind)
        if points:
            paths = {"outline": spans, style: dots(points, x, y)}
            series.append({"paths": paths, "colour": colour, "label": label, "label_at": None})
    return chart(shown(name), series, x, y, most=(4, 4))
