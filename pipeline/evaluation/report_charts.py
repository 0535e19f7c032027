"""Charts of the report: paths in a box that any width may stretch, with ticks and labels as text beside it.

Text inside of an SVG shrinks with it and cannot be read on a phone. So the SVG holds lines only, in a box of 1000 x
1000 without a fixed aspect and with strokes that do not scale; ticks and names are HTML at percentages.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

BOX = 1000

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to [0, 1] along one axis, linear or logarithmic."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, values: Sequence[float], *, log: bool = False, margin: float = 0.05, zero: bool = False) -> Scale:
        """The scale that holds all values with a margin; ``zero`` starts it there."""
        finite = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
        low, high = (min(finite), max(finite)) if finite else (1.0, 2.0) if log else (0.0, 1.0)
        if log:
            spread = (high / low) ** margin if high > low else 1.5
            return cls(low / spread, high * spread, log=True)
        spread = margin * (high - low) or abs(high) * 0.1 or 0.5
        return cls(0.0 if zero and low >= 0 else low - spread, high + spread)

    def at(self, value: float) -> float:
        """Where a value lies, clipped to [0, 1]."""
        if self.log:
            value = max(value, self.low)
            share = math.log(value / self.low) / (math.log(self.high / self.low) or 1.0)
        else:
            share = (value - self.low) / ((self.high - self.low) or 1.0)
        return min(max(share, 0.0), 1.0)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values inside, at most about ``most``."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for digits in ((1, 2, 5), (1, 3), (1,)):
                inside = [d * 10.0**p for p in powers for d in digits if self.low <= d * 10.0**p <= self.high]
                if 2 <= len(inside) <= most:
                    return inside
            return inside if 2 <= len(inside) <= 2 * most else [self.low, self.high]
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        width = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / width - 1e-9), math.floor(self.high / width + 1e-9)
        return [width * index for index in range(first, last + 1)]


def number(value: float, digits: int = 3) -> str:
    """Format a number for an axis or a label: short, with a real minus sign."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-3:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        text = f"{mantissa}e{int(exponent)}"
    else:
        text = f"{value:,.0f}" if size >= 1000 else f"{value:.{digits}g}"
    return text.replace("-", "\N{MINUS SIGN}")


def percent(share: float) -> str:
    """A share as a CSS length."""
    return f"{100 * share:.2f}%"


def axis(scale: Scale, *, down: bool = False, most: int = 6) -> list[dict[str, str]]:
    """Ticks with their places; ``down`` for the vertical axis, whose zero is at the bottom."""
    return [
        {"at": percent(1 - scale.at(tick) if down else scale.at(tick)), "text": number(tick)}
        for tick in scale.ticks(most)
    ]


def line(points: Sequence[Point], x: Scale, y: Scale) -> str:
    """Path data of a line through the points; empty for none."""
    return "M" + "L".join(_place(point, x, y) for point in points) if points else ""


def dots(points: Sequence[Point], x: Scale, y: Scale) -> str:
    """Path data of dots: strokes of no length, which round caps make round at any stretch."""
    return "".join(f"M{_place(point, x, y)}h.01" for point in points)


def band(low: Sequence[Point], high: Sequence[Point], x: Scale, y: Scale) -> str:
    """Path data of the area between two lines."""
    return line([*low, *reversed(high)], x, y) + "Z" if low else ""


def steps(edges: Sequence[float], heights: Sequence[float], x: Scale, y: Scale) -> str:
    """Path data of a histogram's outline, closed at the bottom."""
    if len(edges) != len(heights) + 1 or not heights:
        return ""
    points: list[Point] = [(edges[0], y.low)]
    for index, height in enumerate(heights):
        points += [(edges[index], height), (edges[index + 1], height)]
    return line([*points, (edges[-1], y.low)], x, y) + "Z"


def spaced(places: Sequence[float], gap: float) -> list[float]:
    """Move label places in [0, 1] apart until neighbours keep ``gap``, each as little as simple rules allow."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    for before, index in itertools.pairwise(order):
        moved[index] = max(moved[index], moved[before] + gap)
    ceiling = 1.0
    for index in reversed(order):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - gap
    return moved


def chart(
    title: str,
    series: Sequence[dict[str, Any]],
    x: Scale,
    y: Scale,
    *,
    x_name: str = "",
    y_name: str = "",
    note: str = "",
    most: tuple[int, int] = (5, 5),
) -> dict[str, Any]:
    """Return what the template draws.

    Args:
        title: above the chart.
        series: dicts with ``paths`` (kind -> path data; kinds are CSS classes: line, faint, dots, hollow, band, dashed)
            and ``colour`` (CSS class), optionally ``label`` and ``label_at`` (value of y beside which it stands).
        x: horizontal scale.
        y: vertical scale.
        x_name: what is drawn to the right, with its unit.
        y_name: what is drawn upwards, with its unit.
        note: below the title.
        most: ticks across and up.
    """
    named = [one for one in series if one.get("label") and one.get("label_at") is not None]
    places = spaced([1 - y.at(one["label_at"]) for one in named], 0.085)
    return {
        "title": title,
        "note": note,
        "series": list(series),
        "labels": [
            {"text": one["label"], "colour": one["colour"], "at": percent(place)}
            for one, place in zip(named, places, strict=True)
        ],
        "widest": max((len(one["label"]) for one in named), default=0),
        "keys": [
            {"text": one["label"], "colour": one["colour"]}
            for one in series
            if one.get("label") and one.get("label_at") is None
        ],
        "x": axis(x, most=most[0]),
        "y": axis(y, down=True, most=most[1]),
        "x_name": x_name,
        "y_name": y_name,
    }


def _place(point: Point, x: Scale, y: Scale) -> str:
    return f"{BOX * x.at(point[0]):.1f},{BOX * (1 - y.at(point[1])):.1f}"
