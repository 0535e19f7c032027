"""How methods hold up as the noise grows: sets that differ by the level of one recipe, a line a method.

The view of Figure 11 of "Masked Image Training for Generalizable Deep Image Denoising" (CVPR 2023).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.data.paths import shown
from pipeline.evaluation.report_charts import Point, Scale, band, chart, dots, line, number
from pipeline.evaluation.report_words import (
    headline,
    interval_of,
    kind_of,
    mean_of,
    method_name,
    metric_title,
    models,
)

Sets = Sequence[Mapping[str, Any]]


def level_charts(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a chart for every recipe and data folder with at least two levels."""
    families: dict[tuple[str, str], list[tuple[float, Mapping[str, Any]]]] = defaultdict(list)
    for one in evaluation["sets"]:
        noise = one.get("noise") or {}
        level = noise.get("level")
        if isinstance(level, int | float) and not isinstance(level, bool):
            families[str(noise.get("recipe")), str(one.get("data"))].append((float(level), one))
    many = len({data for _, data in families}) > 1
    return [
        _chart(evaluation, recipe, data if many else "", sorted(family, key=lambda pair: pair[0]))
        for (recipe, data), family in families.items()
        if len({level for level, _ in family}) > 1
    ]


def charted(evaluation: Mapping[str, Any]) -> set[str]:
    """Names of the sets that such a chart shows."""
    return {name for one in level_charts(evaluation) for name in one["sets"]}


def _chart(
    evaluation: Mapping[str, Any], recipe: str, data: str, family: list[tuple[float, Mapping[str, Any]]]
) -> dict[str, Any]:
    metric, labels = headline(evaluation), models(evaluation)
    names = list(dict.fromkeys(name for _, one in family for name in one["methods"]))
    values, ends = [], []
    curves: dict[str, list[Point]] = {}
    bands: dict[str, tuple[list[Point], list[Point]]] = {}
    for name in names:
        rows = [(level, one["methods"].get(name)) for level, one in family]
        curves[name] = [(level, mean) for level, row in rows if (mean := mean_of(row, metric)) is not None]
        spans = [(level, span) for level, row in rows if (span := interval_of(row, metric)) is not None]
        bands[name] = ([(level, low) for level, (low, _) in spans], [(level, high) for level, (_, high) in spans])
        values += [value for _, value in curves[name]]
        # The noisy input's interval would stretch the frame, and tells of the images only.
        ends += [value for side in bands[name] for _, value in side] if name != "noisy" else []
    levels = [level for level, _ in family]
    x, y = Scale.around(levels, margin=0.03), Scale.around([*values, *ends], margin=0.06)
    series = []
    for name in names:
        if not curves[name]:
            continue
        paths = {"line": line(curves[name], x, y), "dots": dots(curves[name], x, y)}
        if name in labels:
            paths = {"band": band(*bands[name], x, y), **paths}
        series.append(
            {
                "paths": paths,
                "colour": kind_of(name, labels, names),
                "label": method_name(name, labels, short=True),
                "label_at": curves[name][-1][1],
            }
        )
    made = chart(
        shown(recipe),
        series,
        x,
        y,
        x_name="level of the noise",
        y_name=metric_title(metric),
        note=shown(data) if data else "",
    )
    made["x"] = [{"at": f"{100 * x.at(level):.2f}%", "text": number(level)} for level in _few(levels)]
    return {**made, "sets": [str(one["name"]) for _, one in family]}


def _few(levels: list[float]) -> list[float]:
    """At most six of the levels, the first and the last among them."""
    distinct = sorted(set(levels))
    if len(distinct) <= 6:
        return distinct
    return [distinct[round(index * (len(distinct) - 1) / 5)] for index in range(6)]
