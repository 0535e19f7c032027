"""What was removed from a picture, as a distribution: is it the fitted noise, is it white, is it free of bias?

Draws what `pipeline.evaluation.blind.residual_panel` returns.
"""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.evaluation.encoding import diverging_palette
from pipeline.evaluation.report_charts import Scale, chart, dots, line, number, steps

_CELL = 12


def residual_charts(panel: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return histogram, correlation map and bias by level; parts without data are left out.

    Args:
        panel: histogram (edges, density, fitted), correlation (2R+1, 2R+1) and by_level (level, mean), in units of
            1/255; every key may be missing.
    """
    if not panel:
        return None
    charts = [made for made in (_histogram(panel.get("histogram")), _bias(panel.get("by_level"))) if made]
    correlation = _correlation(panel.get("correlation"))
    return {"charts": charts, "correlation": correlation} if charts or correlation else None


def _histogram(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not found or len(found.get("density") or []) == 0:
        return None
    edges, density = [float(e) for e in found["edges"]], [float(d) for d in found["density"]]
    fitted = [float(value) for value in found.get("fitted") or []]
    x = Scale(edges[0], edges[-1])
    y = Scale(0.0, 1.1 * max([*density, *fitted]) or 1.0)
    series: list[dict[str, Any]] = [{"paths": {"area": steps(edges, density, x, y)}, "colour": "ours"}]
    if len(fitted) == len(density):
        middles = [(a + b) / 2 for a, b in itertools.pairwise(edges)]
        path = line(list(zip(middles, fitted, strict=True)), x, y)
        series.append({"paths": {"dashed": path}, "colour": "ink", "label": "fitted noise", "label_at": None})
    series[0] |= {"label": "residual", "label_at": None}
    return chart("Distribution", series, x, y, x_name="residual, 1/255", most=(5, 3))


def _bias(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not found or len(found.get("level") or []) == 0:
        return None
    points = [
        (float(level), float(mean))
        for level, mean in zip(found["level"], found["mean"], strict=True)
        if mean is not None and np.isfinite(mean)
    ]
    if not points:
        return None
    x = Scale.around([level for level, _ in points], margin=0.02)
    reach = max(1.0, 1.1 * max(abs(mean) for _, mean in points))
    y = Scale(-reach, reach)
    zero = line([(x.low, 0.0), (x.high, 0.0)], x, y)
    series = [
        {"paths": {"thin": zero}, "colour": "ink"},
        {"paths": {"line": line(points, x, y), "dots": dots(points, x, y)}, "colour": "ours"},
    ]
    return chart("Mean by brightness", series, x, y, x_name="level", y_name="mean residual, 1/255", most=(5, 5))


def _correlation(found: Any) -> dict[str, Any] | None:
    if found is None:
        return None
    values = np.asarray(found, dtype=np.float64)
    if values.ndim != 2 or values.size < 2:
        return None
    off = values.copy()
    off[values.shape[0] // 2, values.shape[1] // 2] = 0.0
    strongest = float(off.flat[int(np.nanargmax(np.abs(off)))])
    return {
        "url": map_url(values, 1.0),
        "radius": values.shape[1] // 2,
        "strongest": number(strongest, 2),
        "white": abs(strongest) < 0.1,
    }


def map_url(values: np.ndarray[Any, np.dtype[np.float64]], limit: float, cell: int = _CELL) -> str:
    """Return a PNG data URL of a signed matrix, a square a value, blue below zero and red above."""
    from PIL import Image

    scaled = np.clip(np.nan_to_num(values) / limit, -1, 1)
    indices = np.rint(127 + 127 * scaled).astype(np.uint8).repeat(cell, 0).repeat(cell, 1)
    picture = Image.fromarray(indices)
    picture.putpalette(diverging_palette())
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
