"""Figures of an analysis, each from the numbers in ``analysis.json`` alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.analysis_style import (
    INK,
    color_of,
    marker_of,
    new_figure,
    set_plain,
    set_title,
    to_png,
)

Result = dict[str, Any]

_EXAMPLES = {"places": "places as examples", "patches": "whole patches as examples"}
_HOW_TO_READ = "CKA of places; 1: the same features up to rotation and scale. Depth grows to the right and upwards."
# On a logarithmic axis; below it a difference is rounding.
_LEAST_CHANGE = 1e-6
# Layers up to which each cell of a heat map tells its number.
_TOLD = 10
# Layers up to which all are named.
_NAMED = 16


def draw_depth(result: Result) -> bytes | None:
    """How much each layer changes with the noise: 1 - CKA, layer by layer (the diagonals of figure 12b)."""
    names, again = _others(result), _again(result)
    labels = [model["label"] for model in result["models"]]
    figure = new_figure(1.2 + 3.0 * len(names), 6.2)
    panels = figure.subplots(2, len(names), squeeze=False, sharey="row", sharex="col")
    for line, (examples, words) in zip(panels, _EXAMPLES.items(), strict=True):
        rows = {(row["model"], row["b"]): row for row in result["cka"]["noise"] if row["examples"] == examples}
        for panel, noise in zip(line, names, strict=True):
            for number, label in enumerate(labels):
                _draw_changes(panel, rows[label, again]["same_layer"], number, None)
                _draw_changes(panel, rows[label, noise]["same_layer"], number, label)
            panel.set_yscale("log")
            _name_layers(panel, [rows[label, names[0]]["layers"] for label in labels])
            set_plain(panel)
            panel.set_title(noise if examples == "places" else "", fontsize=10, color=INK)
        line[0].set_ylabel(f"1 − CKA\n{words}", fontsize=9, color=INK)
    set_title(
        figure,
        f"How much the noise changes each layer, against {result['reference']}",
        f"Lower is steadier. Dotted: {result['reference']} with another seed, which is chance alone.",
        panels[0][0].get_legend_handles_labels(),
    )
    return to_png(figure)


def draw_noise_maps(result: Result) -> bytes | None:
    """CKA of the layers under two noises, for each model (figure 12b)."""
    rows = [row for row in result["cka"]["noise"] if row["examples"] == "places" and row["b"] != _again(result)]
    names = _others(result)
    lines = [[row for row in rows if row["model"] == model["label"]] for model in result["models"]]
    maps = [[(row["matrix"], row["layers"], row["layers"]) for row in line] for line in lines]
    return _draw_maps(
        maps,
        heads=names,
        sides=[f"{line[0]['model']}\nunder {result['reference']}" for line in lines],
        title=f"Layers under {result['reference']} and under other noise",
        explanation=_HOW_TO_READ,
    )


def draw_model_maps(result: Result) -> bytes | None:
    """CKA of the layers of two models under the same noise (figure 12a); None for one model."""
    rows = [row for row in result["cka"]["models"] if row["examples"] == "places"]
    pairs = list(dict.fromkeys((row["a"], row["b"]) for row in rows))
    if not pairs:
        return None
    lines = [[row for row in rows if (row["a"], row["b"]) == pair] for pair in pairs]
    return _draw_maps(
        [[(row["matrix"], row["layers_a"], row["layers_b"]) for row in line] for line in lines],
        heads=[row["noise"] for row in lines[0]],
        sides=[f"up: {a}\nright: {b}" for a, b in pairs],
        title="Layers of two models under the same noise",
        explanation=_HOW_TO_READ,
    )


def draw_srga(result: Result) -> bytes | None:
    """SRGA of each model and noise (figure 14)."""
    names = [*_others(result), _again(result)]
    labels = [model["label"] for model in result["models"]]
    rows = {(row["model"], row["noise"]): row for row in result["srga"]}
    figure = new_figure(7.5, 1.6 + 0.26 * len(names) * max(2, len(labels)))
    panel = figure.subplots()
    for number, label in enumerate(labels):
        found = [rows[label, noise] for noise in names]
        height = np.arange(len(names)) + min(0.26, 0.8 / len(labels)) * (number - (len(labels) - 1) / 2)
        errors = [row["error"] or 0.0 for row in found]
        panel.errorbar(
            [row["srga"] for row in found], height, xerr=errors, fmt=marker_of(number), color=color_of(number),
            markersize=7, elinewidth=1.3, capsize=2.5, markeredgecolor="white", markeredgewidth=0.7, label=label,
        )  # fmt: skip
    panel.axhspan(len(names) - 1.5, len(names) - 0.5, color="#f3f3f3", zorder=0, linewidth=0)
    panel.set_yticks(range(len(names)), [*names[:-1], f"{names[-1]}\n(chance alone)"])
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.set_xlim(left=0)
    set_plain(panel, grid="x")
    panel.tick_params(axis="y", length=0, labelsize=9)
    panel.set_xlabel("SRGA of the deepest features, ± standard error", fontsize=9, color=INK)
    set_title(
        figure,
        f"How far deep features move from {result['reference']}",
        "0: the same distribution; far from 0, each unit is a factor of ten in the divergence.",
        panel.get_legend_handles_labels(),
    )
    return to_png(figure)


def draw_histograms(result: Result) -> bytes | None:
    """Densities of the deepest features under each noise (figure 15)."""
    labels = [model["label"] for model in result["models"]]
    names = _others(result)
    rows = {(row["model"], row["noise"]): row for row in result["histograms"]}
    figure = new_figure(1.0 + 4.6 * len(labels), 4.4)
    figure.get_layout_engine().set(wspace=0.06, w_pad=0.1)
    panels = figure.subplots(1, len(labels), squeeze=False)[0]
    for panel, label in zip(panels, labels, strict=True):
        first = rows[label, result["reference"]]
        edges = np.array(first["edges"])
        middles = (edges[:-1] + edges[1:]) / 2
        panel.fill_between(middles, first["density"], color="#d6d6d6", linewidth=0, label=result["reference"])
        for number, noise in enumerate(names):
            row = rows[label, noise]
            panel.plot(middles, row["density"], color=color_of(number), linewidth=1.5, label=noise)
        set_plain(panel, grid=None)
        panel.set_ylim(bottom=0)
        panel.set_xlim(edges[0], edges[-1])
        panel.set_yticks([])
        panel.spines["left"].set_visible(False)
        panel.set_xlabel("value of a deepest feature", fontsize=9, color=INK)
        panel.set_title(label, fontsize=10, color=INK, loc="left")
        panel.text(
            0.99,
            0.97,
            f"shared with {result['reference']}",
            transform=panel.transAxes,
            ha="right",
            fontsize=8,
            color=INK,
        )
        for number, noise in enumerate(names):
            panel.text(
                0.99, 0.91 - 0.06 * number, f"{noise}  {rows[label, noise]['overlap']:.0%}", transform=panel.transAxes,
                ha="right", fontsize=9, fontweight="bold", color=color_of(number),
            )  # fmt: skip
    set_title(
        figure,
        "Deepest features under each noise",
        "A curve on the edge of the grey area: the noise does not change how often a value occurs.",
        panels[0].get_legend_handles_labels(),
    )
    return to_png(figure)


FIGURES: dict[str, Callable[[Result], bytes | None]] = {
    "cka-depth.png": draw_depth,
    "cka-noise.png": draw_noise_maps,
    "cka-models.png": draw_model_maps,
    "srga.png": draw_srga,
    "features.png": draw_histograms,
}
"""By the names of their files."""


def _again(result: Result) -> str:
    return next(str(row["name"]) for row in result["noises"] if row["again"])


def _others(result: Result) -> list[str]:
    return [row["name"] for row in result["noises"] if not row["again"] and row["name"] != result["reference"]]


def _draw_changes(panel: Any, values: Sequence[float | None], number: int, label: str | None) -> None:
    change = 1 - np.array([np.nan if value is None else value for value in values])
    height = np.maximum(change, _LEAST_CHANGE)
    # Networks of other depths share an axis from the first layer to the last.
    across = np.linspace(0, 1, len(height)) if len(height) > 1 else np.array([1.0])
    if label is None:
        panel.plot(across, height, color=color_of(number), linewidth=1, linestyle=":")
        return
    panel.plot(
        across, height, color=color_of(number), linewidth=1.6, marker=marker_of(number), markersize=5,
        markeredgecolor="white", markeredgewidth=0.6, label=label,
    )  # fmt: skip


def _name_layers(panel: Any, layers: Sequence[Sequence[str]]) -> None:
    if any(names != layers[0] for names in layers):
        panel.set_xticks([0, 1], ["first layer", "deepest"])
    else:
        places, names = _told_layers(layers[0])
        across = np.array(places) / max(1, len(layers[0]) - 1)
        panel.set_xticks(across, names, rotation=60, ha="right", rotation_mode="anchor")


def _told_layers(names: Sequence[str]) -> tuple[list[int], list[str]]:
    """Numbers and names of the layers that there is room to name: groups where blocks are many, else all."""
    chosen = list(range(len(names)))
    if len(names) > _NAMED:
        chosen = [number for number in chosen if "block" not in names[number]]
    return chosen, [names[number] for number in chosen]


def _draw_maps(
    maps: Sequence[Sequence[tuple[Any, Sequence[str], Sequence[str]]]],
    *,
    heads: Sequence[str],
    sides: Sequence[str],
    title: str,
    explanation: str,
) -> bytes:
    """Heat maps in a grid, all with one scale of colours."""
    values = [np.array(matrix, dtype=float) for line in maps for matrix, _, _ in line]
    lowest = min((float(np.nanmin(value)) for value in values if np.isfinite(value).any()), default=0.0)
    low = max(0.0, np.floor(10 * lowest) / 10)
    figure = new_figure(1.9 + 2.75 * len(heads), 1.35 + 2.75 * len(maps))
    panels = figure.subplots(len(maps), len(heads), squeeze=False)
    # Told once, below, where all rows have the same layers.
    shared = all(cell[2] == maps[0][0][2] for line in maps for cell in line)
    drawn = None
    for number, (line, cells) in enumerate(zip(panels, maps, strict=True)):
        for column, (panel, (matrix, rows, columns)) in enumerate(zip(line, cells, strict=True)):
            below = columns if number == len(maps) - 1 or not shared else None
            drawn = _draw_map(panel, np.array(matrix, dtype=float), rows if column == 0 else None, below, low)
            if number == 0:
                panel.set_title(heads[column], fontsize=10, color=INK)
        line[0].set_ylabel(sides[number], fontsize=9, color=INK)
    bar = figure.colorbar(drawn, ax=panels, shrink=0.6, aspect=25, pad=0.01)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=0)
    bar.set_label("CKA", fontsize=9)
    set_title(figure, title, explanation)
    return to_png(figure)


def _draw_map(
    panel: Any, matrix: NDArray[np.float64], rows: Sequence[str] | None, columns: Sequence[str] | None, low: float
) -> Any:
    image = panel.imshow(matrix, origin="lower", cmap="cividis", vmin=low, vmax=1, aspect="auto")
    panel.set_box_aspect(1)
    panel.set_xticks(*(_told_layers(columns) if columns else ([], [])), rotation=60, ha="right", rotation_mode="anchor")
    panel.set_yticks(*(_told_layers(rows) if rows else ([], [])))
    panel.tick_params(labelsize=7, length=0, colors=INK)
    for spine in panel.spines.values():
        spine.set_visible(False)
    if max(matrix.shape) <= _TOLD:
        for (y, x), value in np.ndenumerate(matrix):
            text = "–" if not np.isfinite(value) else f"{value:.2f}".removeprefix("0") if value < 0.995 else "1"
            dark = np.isfinite(value) and value < low + 0.6 * (1 - low)
            panel.text(x, y, text, ha="center", va="center", fontsize=6.5, color="white" if dark else INK)
    return image
