"""An evaluation as a reader wants it: for each set a scale with a dot a method, its interval and all its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.data.paths import shown
from pipeline.evaluation.blind import BLIND_DEFINITIONS
from pipeline.evaluation.report_charts import number
from pipeline.evaluation.report_words import (
    headline,
    interval_of,
    interval_text,
    kind_of,
    larger_is_better,
    mean_of,
    method_name,
    metric_text,
    metric_title,
    models,
    paired_sentences,
    set_verdict,
    verdict,
)

_NOTHING = 1e-5
_LONG = 8
"""Sets from which on the table of all of them is folded away."""


def score_boards(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the verdict, a board for every set, the definitions and the table of groups."""
    boards = [_board(evaluation, one) for one in evaluation["sets"]]
    protocol = evaluation.get("protocol") or {}
    return {
        "verdict": verdict(evaluation),
        "measured": any(board["kind"] != "photos" for board in boards),
        "boards": boards,
        "several": len(boards) > 1,
        "protocol": protocol.get("text", "") if isinstance(protocol, Mapping) else str(protocol),
        "definitions": dict(evaluation.get("definitions") or {}),
        "overview": overview(evaluation),
        "groups": group_rows(evaluation),
    }


def _board(evaluation: Mapping[str, Any], one: Mapping[str, Any]) -> dict[str, Any]:
    labels, metrics = models(evaluation), [str(name) for name in evaluation.get("metrics") or []]
    first = headline(evaluation)
    methods = one["methods"]
    ends = [value for row in methods.values() for value in _values(row, first)]
    unit = first.startswith("psnr")
    low, high = _frame(ends, decibel=unit)
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if (high - low) / step <= 6.01)
    ticks = np.arange(np.ceil(low / step - 1e-9) * step, high + 1e-9, step)

    def place(value: float) -> str:
        return f"{100 * min(max((value - low) / (high - low), 0.0), 1.0):.2f}%"

    sign = 1 if larger_is_better(first) else -1
    means = {name: mean_of(row, first) for name, row in methods.items()}
    best = max((sign * value for value in means.values() if value is not None), default=None)
    rows = []
    for name, row in methods.items():
        mean, interval = means[name], interval_of(row, first)
        rows.append(
            {
                "label": method_name(name, labels),
                "kind": kind_of(name, labels, list(methods)),
                "ours": name in labels,
                "best": mean is not None and sign * mean == best,
                "at": place(mean) if mean is not None else "100%",
                "known": mean is not None,
                "whisker": [place(interval[0]), place(interval[1])] if interval else None,
                "interval": interval_text(first, interval),
                "cells": [metric_text(metric, mean_of(row, metric)) for metric in metrics],
                "full": [
                    {"text": metric_text(metric, mean_of(row, metric)), "interval": interval_text(metric, ends_)}
                    for metric in metrics
                    for ends_ in (interval_of(row, metric),)
                ],
                "seconds": "" if row.get("seconds_per_megapixel") is None else f"{row['seconds_per_megapixel']:.2f}",
            }
        )
    noise = one.get("noise")
    return {
        "name": shown(one["name"]),
        "kind": one["kind"],
        "verdict": set_verdict(evaluation, one) if one["kind"] != "photos" else "",
        "n": one["n"],
        "available": one.get("available", one["n"]),
        "about": _about(one, noise),
        "rows": rows,
        "heads": [metric_title(metric) for metric in metrics[:2]],
        "metrics": metrics,
        "ticks": [{"at": place(float(tick)), "text": f"{tick:g}"} for tick in ticks],
        "paired": paired_sentences(one, labels, first),
        "offsets": _offsets(one, labels),
        "blind": _blind(one, labels),
        "charted": False,
    }


def _frame(ends: list[float], *, decibel: bool) -> tuple[float, float]:
    if not ends:
        return (20.0, 40.0) if decibel else (0.0, 1.0)
    if decibel:
        return float(np.floor(min(ends) - 0.25)), float(np.ceil(max(ends) + 0.25))
    spread = 0.06 * (max(ends) - min(ends)) or 0.05
    return min(ends) - spread, max(ends) + spread


def _values(row: Mapping[str, Any], metric: str) -> list[float]:
    mean, interval = mean_of(row, metric), interval_of(row, metric)
    return [*([] if mean is None else [mean]), *(interval or ())]


def _about(one: Mapping[str, Any], noise: Mapping[str, Any] | None) -> str:
    what = {"pairs": "pairs", "synthetic": "clean images with made noise", "photos": "photos without a clean partner"}
    count = f"{one['n']} of {one['available']}" if one.get("available", one["n"]) != one["n"] else f"{one['n']}"
    parts = [f"{count} {what.get(one['kind'], shown(str(one['kind'])))}"]
    if noise:
        level = noise.get("level")
        parts.append(f"noise {shown(str(noise.get('recipe')))}{'' if level is None else f' {level}'}")
    elif one.get("layout") and one["kind"] == "pairs":
        parts.append(f"layout {shown(str(one['layout']))}")
    if one.get("unpaired"):
        parts.append(f"{len(one['unpaired'])} without a partner, left out")
    return ", ".join(parts)


def _offsets(one: Mapping[str, Any], labels: list[str]) -> list[str]:
    told = []
    for label in labels:
        count = (one["methods"].get(label) or {}).get("visible_offsets")
        if count:
            told.append(
                f"{method_name(label, labels)}: brightness or colour visibly off in {count} of {one['n']} images"
            )
    return told


def _blind(one: Mapping[str, Any], labels: list[str]) -> dict[str, Any] | None:
    """Measures without ground truth that are one number each; those of every channel are in the JSON."""
    rows = {name: row["blind"] for name, row in one["methods"].items() if isinstance(row.get("blind"), Mapping)}
    names = list(dict.fromkeys(str(key) for row in rows.values() for key, value in row.items() if _is_number(value)))
    if not names:
        return None
    return {
        "heads": [shown(name.removesuffix("_255").replace("_", " ")) for name in names],
        "units": ["1/255" if name.endswith("_255") else "" for name in names],
        "terms": [(shown(name), BLIND_DEFINITIONS[name]) for name in names if name in BLIND_DEFINITIONS],
        "rows": [
            {"label": method_name(who, labels), "cells": [_measure(row.get(name)) for name in names]}
            for who, row in rows.items()
        ],
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _measure(value: Any) -> str:
    if not _is_number(value):
        return ""
    # Less than this is rounding of float32 pictures.
    return "0" if abs(value) < _NOTHING else number(float(value))


def overview(evaluation: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return sets by methods with the headline means; None where the board of the only set says it all."""
    measured = [one for one in evaluation["sets"] if one["kind"] != "photos"]
    labels, metric = models(evaluation), headline(evaluation)
    if len(measured) < 2:
        return None
    sign = 1 if larger_is_better(metric) else -1
    names = list(dict.fromkeys(name for one in measured for name in one["methods"]))
    rows = []
    for one in measured:
        means = {name: mean_of(one["methods"].get(name), metric) for name in names}
        best = max((sign * mean for mean in means.values() if mean is not None), default=None)
        cells = [
            {
                "text": metric_text(metric, mean) if name in one["methods"] else "",
                "interval": interval_text(metric, interval_of(one["methods"].get(name), metric)),
                "best": mean is not None and sign * mean == best,
            }
            for name, mean in means.items()
        ]
        rows.append({"name": shown(one["name"]), "cells": cells})
    columns = [{"name": method_name(name, labels, short=True), "kind": kind_of(name, labels, names)} for name in names]
    return {"title": metric_title(metric), "columns": columns, "rows": rows, "long": len(rows) > _LONG}


def group_rows(evaluation: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the spread over training seeds, a row a group and set; None without groups."""
    metrics = [str(name) for name in evaluation.get("metrics") or []]
    rows = []
    for group in evaluation.get("groups") or []:
        for name, found in (group.get("sets") or {}).items():
            rows.append(
                {
                    "group": shown(str(group["group"])),
                    "models": len(group.get("models") or []),
                    "set": shown(str(name)),
                    "cells": [_spread(metric, found.get(metric)) for metric in metrics],
                }
            )
    return {"heads": [metric_title(metric) for metric in metrics], "rows": rows} if rows else None


def _spread(metric: str, found: Mapping[str, Any] | None) -> str:
    if not found or found.get("mean") is None:
        return ""
    sd = found.get("sd")
    return metric_text(metric, found["mean"]) + (f" \N{PLUS-MINUS SIGN} {metric_text(metric, sd)}" if sd else "")
