"""Noise curves: variance against level, as measured in the data and as the training noise has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.data.paths import shown
from pipeline.evaluation.report_charts import Point, Scale, chart, dots, line, number

_COLOURS = {"R": "red", "Gr": "green", "G": "green", "Gb": "olive", "B": "blue", "grey": "grey"}
_MOST = 9
_MOST_POINTS = 120


def noise_charts(noise: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a chart an entry; synthesised ones are laid over every measured one.

    Args:
        noise: dicts with label, channels (name, curve of (level, variance, weight), shot and read, either may be None)
            and optionally kind, "measured" (default) or "synthesised".
    """
    usable = [entry for entry in noise if any(channel.get("curve") for channel in entry.get("channels") or [])]
    measured = [entry for entry in usable if entry.get("kind", "measured") != "synthesised"]
    made = [entry for entry in usable if entry.get("kind") == "synthesised"]
    if not measured:
        return [_chart(entry, []) for entry in made[:_MOST]]
    return [_chart(entry, made[:1]) for entry in measured[:_MOST]]


def _chart(entry: Mapping[str, Any], over: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    channels = [channel for channel in entry["channels"] if channel.get("curve")]
    others = [channel for one in over for channel in one["channels"] if channel.get("curve")]
    points = {channel["name"]: _curve(channel) for channel in channels}
    levels = [level for curve in points.values() for level, _ in curve]
    variances = [variance for curve in points.values() for _, variance in curve]
    x = Scale(min(0.0, *levels), max(levels) * 1.02 or 1.0)
    tops = [*variances, *(variance for other in others for level, variance in _curve(other) if level <= x.high)]
    y = Scale(0.0, 1.08 * float(np.quantile(tops, 0.99)) or 1e-6)
    series = []
    for channel in channels:
        colour = _COLOURS.get(channel["name"], "grey")
        fitted = _line(channel, x)
        paths = {"dots": dots(points[channel["name"]], x, y)}
        if fitted:
            paths["line"] = line(fitted, x, y)
        end = fitted[-1][1] if fitted else points[channel["name"]][-1][1]
        series.append({"paths": paths, "colour": colour, "label": shown(channel["name"]), "label_at": end})
    for channel in others:
        fitted = _line(channel, x) or [point for point in _curve(channel) if point[0] <= x.high]
        series.append(
            {"paths": {"dashed": line(fitted, x, y)}, "colour": _COLOURS.get(channel["name"], "grey"), "label": None}
        )
    made = chart(
        shown(str(entry["label"])),
        series,
        x,
        y,
        x_name="level, 0 to 1",
        y_name="variance of the noise",
        note=_told(channels),
        most=(5, 4),
    )
    return {**made, "over": shown(str(over[0]["label"])) if over else ""}


def _curve(channel: Mapping[str, Any]) -> list[Point]:
    curve = np.array([point[:2] for point in channel["curve"]], dtype=np.float64)
    curve = curve[np.isfinite(curve).all(axis=1)]
    curve = curve[np.argsort(curve[:, 0])]
    stride = -(-len(curve) // _MOST_POINTS)
    return [(float(level), float(variance)) for level, variance in curve[::stride]]


def _line(channel: Mapping[str, Any], x: Scale) -> list[Point]:
    shot, read = channel.get("shot"), channel.get("read")
    if shot is None and read is None:
        return []
    slope, start = shot or 0.0, read or 0.0
    first = max(x.low, 0.0, -start / slope if slope > 0 > start else 0.0)
    return [(level, start + slope * level) for level in (first, x.high)]


def _told(channels: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for name in ("shot", "read"):
        values = [channel[name] for channel in channels if channel.get(name) is not None]
        if values:
            parts.append(f"{name} {number(float(np.median(values)))}")
    return ", ".join(parts)
