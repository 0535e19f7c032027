"""How the figures of an analysis look: one palette that colour-blind people can tell apart, one way to save."""

from __future__ import annotations

import io
from typing import Any

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b4fa0", "#7a6a53")
"""Okabe and Ito's colours, without the yellow that white paper swallows."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY, INK = "#8a8a8a", "#222222"
_GRID = "#e4e4e4"
_TITLE_INCHES = 0.24


def new_figure(width: float, height: float) -> Any:
    """Make a white figure of a size in inches, which needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Any) -> bytes:
    """Return the figure as a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def set_title(figure: Any, title: str, explanation: str, keys: tuple[list[Any], list[str]] | None = None) -> None:
    """Head a figure with what it shows, and below it ``keys``, a legend; say at the bottom how to read it."""
    # The legend stands in a second line of the title, for which the layout then keeps room.
    figure.suptitle(
        title if keys is None else f"{title}\n", x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK
    )
    figure.supxlabel(explanation, x=0.01, ha="left", fontsize=9, color="#555555")
    if keys is not None:
        below = 1 - _TITLE_INCHES / figure.get_figheight()
        figure.legend(
            *keys, loc="upper left", bbox_to_anchor=(0.004, below), ncols=len(keys[1]), frameon=False, fontsize=9,
            borderaxespad=0.2, columnspacing=1.6, handletextpad=0.6,
        )  # fmt: skip


def set_plain(panel: Any, *, grid: str | None = "y") -> None:
    """Take the frame off, and put a faint grid behind."""
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        panel.spines[side].set_color(GREY)
    panel.tick_params(colors=INK, length=3, labelsize=8)
    if grid is not None:
        panel.grid(axis=grid, color=_GRID, linewidth=0.7)
        panel.set_axisbelow(True)


def color_of(number: int) -> str:
    """Colour of a model or noise; after eight they come again."""
    return PALETTE[number % len(PALETTE)]


def marker_of(number: int) -> str:
    """Marker likewise."""
    return MARKERS[number % len(MARKERS)]
