"""Arrays as images and curves inside an HTML page: data URLs and SVG path data."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.images import from_float

_BLUE, _PALE, _RED = (44, 94, 168), (246, 246, 244), (186, 48, 42)


def image_url(image: NDArray[Any]) -> str:
    """Return a PNG data URL of (H, W, 1 or 3) float in [0, 1], clipped."""
    from PIL import Image

    pixels = from_float(image, np.uint8)
    return _png_url(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def residual_url(residual: NDArray[Any], limit: float) -> str:
    """Return a PNG data URL of a signed map: blue below zero, pale at zero, red above.

    Args:
        residual: (H, W, C) difference on the [0, 1] scale; the channels are averaged.
        limit: value (same scale) at which the colours saturate.
    """
    from PIL import Image

    scaled = np.clip(residual.mean(axis=2) / limit, -1, 1)
    indices = np.rint(127 + 127 * scaled).astype(np.uint8)
    picture = Image.fromarray(indices)
    picture.putpalette(_diverging_palette())
    return _png_url(picture)


def residual_limit(residuals: list[NDArray[Any]]) -> float:
    """Return one saturation value for several residuals: three robust standard deviations of the widest."""
    spreads = [1.4826 * float(np.median(np.abs(residual.mean(axis=2)))) for residual in residuals]
    return max(3 * max(spreads, default=0.0), 2 / 255)


def diverging_css() -> str:
    """Return the colours of `residual_url` as a CSS gradient, low to high."""
    return f"linear-gradient(90deg, rgb{_BLUE}, rgb{_PALE}, rgb{_RED})".replace(" ", "")


def log_curve(steps: list[float], values: list[float], *, low: float, high: float, span: tuple[float, float]) -> str:
    """Return SVG path data in a 1000 x 1000 box: x linear over ``span``, y logarithmic from low to high."""
    if not values:
        return ""
    first, last = span
    height = math.log(high / low) or 1.0
    points = [
        f"{1000 * (step - first) / ((last - first) or 1):.1f},"
        f"{1000 * (1 - math.log(min(max(value, low), high) / low) / height):.1f}"
        for step, value in zip(steps, values, strict=True)
    ]
    return "M" + "L".join(points)


def smoothed(values: list[float], span: int) -> list[float]:
    """Return the centred moving geometric mean over ``span`` points, or over those there are at the ends."""
    logs, half = np.log(np.asarray(values, dtype=np.float64)), span // 2
    means = [logs[max(index - half, 0) : index + half + 1].mean() for index in range(len(values))]
    return [float(value) for value in np.exp(means)]


def step_ticks(first: float, last: float) -> list[float]:
    """Return at most six round numbers (1, 2 or 5 times a power of ten apart) from first to last."""
    rough = max(last - first, 1) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    width = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough)
    start = math.ceil(first / width)
    return [width * index for index in range(start, math.floor(last / width) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return readable ticks (1, 2 or 5 times a power of ten) between two positive values."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    inside = [tick for tick in ticks if low <= tick <= high]
    return inside if len(inside) >= 2 else [low, high]


def _diverging_palette() -> list[int]:
    colours: list[int] = []
    for index in range(255):
        mix = (index - 127) / 127
        end = _RED if mix > 0 else _BLUE
        colours += [round(p + (e - p) * abs(mix)) for p, e in zip(_PALE, end, strict=True)]
    return [*colours, 0, 0, 0]


def _png_url(picture: Any) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
