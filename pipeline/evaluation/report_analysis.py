"""Why a network generalises: similarity of layers (CKA), distance of features (SRGA), and their histograms.

Draws what ``unveil analyze`` writes. Whatever it does not know in there is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.data.paths import shown
from pipeline.evaluation.report_charts import Scale, chart, number, steps

_MOST_MAPS = 16
_COLOURS = ("ours", "m1", "m2", "m3", "m4", "m5", "classical", "noisy")


def analysis_board(analysis: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return heat maps, a table, charts and conclusions; None if there is nothing of them.

    Args:
        analysis: what ``unveil analyze`` wrote, or dicts of the shapes that `adapted` makes of it.
    """
    found = adapted(analysis or {})
    maps = [made for one in found["cka"] if (made := _heat(one)) is not None]
    charts, table = _histograms(found["histograms"]), _srga(found["srga"])
    if not maps and not charts and not table:
        return None
    return {
        "maps": maps[:_MOST_MAPS],
        "left_out": max(len(maps) - _MOST_MAPS, 0),
        "srga": table,
        "charts": charts,
        "conclusion": [shown(str(line)) for line in found["conclusion"]],
    }


def adapted(analysis: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the parts of an analysis as flat lists: the one place that knows the shape of its file.

    Returns:
        ``cka`` (title, rows, columns, values), ``srga`` (model, noise, value, error), ``histograms`` (model, noise,
        edges, density) and ``conclusion`` (sentences).
    """
    cka = analysis.get("cka")
    maps = _dicts(cka)
    if isinstance(cka, Mapping):
        # Of two ways to take examples, places in a patch follow the layers more closely than whole patches.
        noises, models = (
            [row for row in _dicts(cka.get(name)) if row.get("examples", "places") == "places"]
            for name in ("noise", "models")
        )
        maps = [
            {"title": f"{row.get('model')}: {row.get('a')} and {row.get('b')}", "values": row.get("matrix")}
            | {"rows": row.get("layers"), "columns": row.get("layers")}
            for row in noises
        ]
        maps += [
            {"title": f"{row.get('a')} and {row.get('b')}, {row.get('noise')}", "values": row.get("matrix")}
            | {"rows": row.get("layers_a"), "columns": row.get("layers_b")}
            for row in models
        ]
    srga = [{**row, "value": row.get("srga", row.get("value"))} for row in _dicts(analysis.get("srga"))]
    said = analysis.get("conclusion")
    return {
        "cka": maps,
        "srga": srga,
        "histograms": _dicts(analysis.get("histograms")),
        "conclusion": list(said) if isinstance(said, list | tuple) else [],
    }


def _dicts(value: Any) -> list[Any]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list | tuple) else []


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
    found = {(str(row.get("model")), str(row.get("noise"))): row for row in rows}
    if not noises:
        return None
    return {
        "columns": [shown(name) for name in noises],
        "rows": [
            {
                "name": shown(name),
                "cells": [_distance(found.get((name, noise), {})) for noise in noises],
            }
            for name in names
        ],
    }


def _distance(row: Mapping[str, Any]) -> str:
    value, error = row.get("value"), row.get("error")
    if not isinstance(value, int | float):
        return ""
    return number(float(value)) + (
        f" \N{PLUS-MINUS SIGN} {number(float(error), 2)}" if isinstance(error, int | float) else ""
    )


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
