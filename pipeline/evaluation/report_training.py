"""The training of a run as small charts: loss, held-out loss, learning rate, speed, gradient and skipped steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.encoding import smoothed
from pipeline.evaluation.report_charts import Point, Scale, chart, dots, line, number

Rows = Sequence[Mapping[str, Any]]

_MOST_POINTS = 1500
"""Of a curve: more do not show and make the file large."""


def training_charts(history: Rows, held_out: Rows = ()) -> dict[str, Any] | None:
    """Return charts and numbers of a training; None below two rows with a loss.

    Args:
        history: rows of the log with step and loss.
        held_out: rows with ``step`` and ``value``, the loss on crops that were not trained on.
    """
    losses = _points(history, "loss", positive=True)
    if len(losses) < 2:
        return None
    x = Scale(losses[0][0], losses[-1][0])
    charts = [_loss(losses, x)]
    kept = _points(held_out, "value")
    if len(kept) > 1:
        y = Scale.around([value for _, value in kept])
        low = min(kept, key=lambda point: point[1])
        best = [{"paths": {"dots": dots([low], x, y)}, "colour": "ours", "label": "best", "label_at": low[1]}]
        charts.append(
            chart(
                "Held-out loss",
                [{"paths": {"line": line(kept, x, y), "hollow": dots(kept, x, y)}, "colour": "ours"}, *best],
                x,
                y,
                x_name="step",
            )
        )
    for key, title, zero in (
        ("lr", "Learning rate", True),
        ("images_per_second", "Images per second", True),
        ("grad_norm", "Gradient norm", True),
    ):
        points = _points(history, key)
        if len(points) > 1:
            y = Scale.around([value for _, value in points], zero=zero)
            charts.append(
                chart(title, [{"paths": {"line": line(_thin(points), x, y)}, "colour": "ours"}], x, y, x_name="step")
            )
    skipped = _points(history, "skipped_steps")
    if skipped and max(value for _, value in skipped) > 0:
        y = Scale(0.0, 1.05 * max(value for _, value in skipped))
        path = {"line": line(_thin(skipped), x, y)}
        most = int(min(max(value for _, value in skipped), 5))
        one = {"paths": path, "colour": "minus"}
        charts.append(chart("Skipped steps", [one], x, y, x_name="step", most=(5, most)))
    return {"charts": charts, "stats": _stats(history, losses, kept, skipped)}


def _loss(losses: Sequence[Point], x: Scale) -> dict[str, Any]:
    values = [value for _, value in losses]
    # The first steps are often far off; they may leave the frame so that the rest can be seen.
    y = Scale(min(values) * 0.95, float(np.quantile(values, 0.995)) * 1.1, log=True)
    smooth = smoothed(values, max(len(values) // 12, 3))
    mean = [(step, value) for (step, _), value in zip(losses, smooth, strict=True)]
    paths = {"faint": line(_thin(losses), x, y), "line": line(_thin(mean), x, y)}
    return chart("Training loss", [{"paths": paths, "colour": "ours"}], x, y, x_name="step")


def _stats(history: Rows, losses: Sequence[Point], kept: Sequence[Point], skipped: Sequence[Point]) -> list[Any]:
    values = [value for _, value in losses]
    stats = [(f"{losses[-1][0]:,.0f}", "steps")]
    seconds = next((row["seconds"] for row in reversed(history) if _number(row.get("seconds"))), None)
    if seconds is not None:
        stats.append((duration(float(seconds)), "training time"))
    stats.append((number(float(np.mean(values[-max(len(values) // 20, 1) :]))), "loss over the last 5 % of steps"))
    if kept:
        low = min(kept, key=lambda point: point[1])
        stats.append((number(low[1]), f"best held-out loss, at step {low[0]:,.0f}"))
    if skipped:
        stats.append((f"{skipped[-1][1]:,.0f}", "steps skipped: gradients not finite"))
    return stats


def duration(seconds: float) -> str:
    """A time in words."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _points(rows: Rows, key: str, *, positive: bool = False) -> list[Point]:
    return [
        (float(row["step"]), float(row[key]))
        for row in rows
        if _number(row.get(key)) and _number(row.get("step")) and (row[key] > 0 or not positive)
    ]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _thin(points: Sequence[Point]) -> Sequence[Point]:
    stride = -(-len(points) // _MOST_POINTS)
    return points if stride == 1 else [*points[::stride], points[-1]]
