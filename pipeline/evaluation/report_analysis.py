"""Why a network generalises: similarity of layers (CKA), distance of features (SRGA), and their histograms.

Draws what ``unveil analyze`` writes. Whatever it does not know in there is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.data.paths import shown
from pipeline.evaluation.report_charts import Scale, chart, number, steps

_COLOURS = ("ours", "m1", "m2", "m3", "m4", "m5", "classical", "noisy")


def analysis_board(analysis: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return heat maps, a table and charts; None if there is nothing of them."""
    cka, srga, histograms = adapted(analysis)
    maps = [made for one in cka if (made := _heat(one)) is not None]
    charts = _histograms(histograms)
    table = _srga(srga)
    return {"maps": maps, "srga": table, "charts": charts} if maps or charts or table else None


def adapted(analysis: Mapping[str, Any] | None) -> tuple[list[Any], list[Any], list[Any]]:
    """Return the parts of an analysis file: the one place that knows its shape."""
    found = analysis or {}
    cka, srga, histograms = (
        [entry for entry in found.get(name) or [] if isinstance(entry, Mapping)]
        if isinstance(found.get(name), list | tuple)
        else []
        for name in ("cka", "srga", "histograms")
    )
    return cka, srga, histograms


def _heat(one: Mapping[str, Any]) -> dict[str, Any] | None:
    values = np.array(one.get("values") or [], dtype=np.float64)
    rows, columns = ([shown(str(name)) for name in one.get(side) or []] for side in ("rows", "columns"))
    if values.ndim != 2 or values.shape != (len(rows), len(columns)):
        return None
    return {
        "title": shown(str(one.get("title", "CKA"))),
        "columns": columns,
        "rows": [
            {"name": name, "cells": [_cell(value) for value in line]} for name, line in zip(rows, values, strict=True)
        ],
        "numbered": len(columns) <= 12,
        "mean": number(float(np.nanmean(values))) if np.isfinite(values).any() else "",
    }


def _cell(value: float) -> dict[str, Any]:
    if not np.isfinite(value):
        return {"text": "", "mix": "0"}
    share = min(max(float(value), 0.0), 1.0)
    return {"text": f"{value:.2f}".replace("-", "\N{MINUS SIGN}"), "mix": f"{share:.2f}"}


def _srga(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    noises = list(dict.fromkeys(str(row.get("noise")) for row in rows))
    names = list(dict.fromkeys(str(row.get("model")) for row in rows))
    values = {(str(row.get("model")), str(row.get("noise"))): row.get("value") for row in rows}
    if not noises:
        return None
    return {
        "columns": [shown(name) for name in noises],
        "rows": [
            {
                "name": shown(name),
                "cells": [
                    number(float(value)) if isinstance(value := values.get((name, noise)), int | float) else ""
                    for noise in noises
                ],
            }
            for name in names
        ],
    }


def _histograms(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    charts = []
    for model in dict.fromkeys(str(one.get("model")) for one in found):
        own = [one for one in found if str(one.get("model")) == model and len(one.get("density") or [])]
        own = [one for one in own if len(one.get("edges") or []) == len(one["density"]) + 1]
        if not own:
            continue
        x = Scale(min(one["edges"][0] for one in own), max(one["edges"][-1] for one in own))
        y = Scale(0.0, 1.08 * max(max(one["density"]) for one in own) or 1.0)
        series = [
            {
                "paths": {"outline": steps(one["edges"], one["density"], x, y)},
                "colour": _COLOURS[index % len(_COLOURS)],
                "label": shown(str(one.get("noise"))),
                "label_at": None,
            }
            for index, one in enumerate(own)
        ]
        charts.append(chart(shown(model), series, x, y, x_name="feature", most=(5, 3)))
    return charts
