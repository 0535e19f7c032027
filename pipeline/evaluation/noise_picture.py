"""The noise curves of files as a picture: variance against level, the line through it, and how sure that is."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.images import write_bytes
from pipeline.data.paths import shown

Floats = NDArray[np.float64]

MOST_FILES = 9
_COLORS = {"R": "#c8372d", "Gr": "#2a8c3c", "G": "#2a8c3c", "Gb": "#7fae2e", "B": "#2b62b8", "grey": "#444444"}
_COLUMNS = 3


def draw_noise(rows: Sequence[dict[str, Any]], path: Path) -> int:
    """Draw one panel for each measured file and write a PNG.

    Args:
        rows: files of a survey; those without a noise line are left out, and those after the first nine.
        path: of the picture.

    Returns:
        The number of panels; 0 writes nothing.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chosen = [row for row in rows if row["noise"] is not None and row["noise"].get("channels")][:MOST_FILES]
    if not chosen:
        return 0
    columns = min(len(chosen), _COLUMNS)
    lines = -(-len(chosen) // columns)
    size = (8.0, 5.0) if len(chosen) == 1 else (4.6 * columns, 3.6 * lines)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel, row in zip(panels, chosen, strict=False):
        _panel(panel, row)
    for panel in panels[len(chosen) :]:
        panel.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_bytes(path, buffer.getvalue())
    return len(chosen)


def _panel(panel: Any, row: dict[str, Any]) -> None:
    labels = []
    for channel in row["noise"]["channels"]:
        level, variance, weight = np.array(channel["curve"]).T
        color = _COLORS.get(channel["name"], "#444444")
        trust = np.clip(weight / np.quantile(weight, 0.9), 0.05, 1)
        panel.scatter(level, variance, s=6 + 18 * trust, color=color, alpha=0.55, linewidths=0)
        if len(level) > 1 and np.ptp(level) > 0:
            ends = np.linspace(min(0.0, level.min()), level.max(), 100)
            middle, reach = _band(level, variance, weight, ends, bent=channel["prnu"] > 0)
            style = "-" if channel["shot"] is not None else (0, (4, 3))
            panel.plot(ends, middle, color=color, linewidth=1.2, linestyle=style)
            panel.fill_between(
                ends, np.maximum(middle - reach, 0), middle + reach, color=color, alpha=0.12, linewidth=0
            )
            labels.append((float(middle[-1]), float(ends[-1]), channel["name"], color))
    top = max(max(point[1] for point in channel["curve"]) for channel in row["noise"]["channels"])
    right = max(max(point[0] for point in channel["curve"]) for channel in row["noise"]["channels"])
    panel.set_ylim(0, 1.15 * top)
    panel.set_xlim(right=1.12 * right)
    _place(panel, labels, 1.15 * top)
    raw = row["raw"] is not None
    panel.set_xlabel("level (black 0, white 1)" if raw else "level of the display image (0 to 1)")
    panel.set_ylabel("variance of the noise")
    panel.set_title(_title(row), fontsize=9, loc="left")
    panel.grid(color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2), useMathText=True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def _place(panel: Any, labels: list[tuple[float, float, str, str]], top: float) -> None:
    """Names at the right ends of the lines, moved apart where they would overlap, and kept inside of the panel."""
    gap, height = 0.055 * top, -np.inf
    for count, (value, end, name, color) in enumerate(sorted(labels), 1):
        height = min(max(value, height + gap), top - (len(labels) - count) * gap)
        text = panel.text(end, height, f" {name}", color=color, va="center", ha="left", fontsize=9, fontweight="bold")
        text.set_in_layout(False)


def _band(level: Floats, variance: Floats, weight: Floats, at: Floats, *, bent: bool) -> tuple[Floats, Floats]:
    """The curve through the points, and half the width of its line's 95 % band, at levels ``at``."""
    from noise.noise_line import NORMAL_95, weighted_line

    fit = weighted_line(level, variance, 1 / np.sqrt(weight), bent=bent)
    design = np.stack([at, np.ones_like(at)], axis=1)
    reach = NORMAL_95 * np.sqrt(np.einsum("ij,jk,ik->i", design, fit.covariance, design))
    return np.maximum(fit.at(at) + fit.bend * np.square(at), 0.0), reach


def _title(row: dict[str, Any]) -> str:
    noise = row["noise"]
    name = shown(Path(row["path"]).name)
    iso = f", ISO {row['raw']['iso']:.0f}" if row["raw"] and row["raw"]["iso"] else ""
    return f"{name}{iso}, {noise['method']}\n{told_line(noise)}"


def told_line(noise: dict[str, Any]) -> str:
    """The line in words: coefficients that are told, and bounds of those that are not."""
    parts = []
    for name in ("shot", "read"):
        value, (low, high) = noise[name], noise[f"{name}_interval"]
        if value is not None:
            parts.append(f"{name} {value:.3g}")
        elif high == float("inf") or noise["note"].startswith("not linear"):
            parts.append(f"{name} unknown")
        elif low > 0:
            parts.append(f"{name} {low:.1e} to {high:.1e}")
        else:
            parts.append(f"{name} below {high:.2g}")
    return ", ".join(parts)
