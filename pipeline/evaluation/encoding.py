"""Arrays as images and curves inside an HTML page: data URLs and SVG path data."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.images import from_float

_BLUE, _PALE, _RED = (44, 94, 168), (246, 246, 244), (186, 48, 42)


def image_url(image: NDArray[Any]) -> str:
    """Return a PNG data URL of (H, W, 1 or 3) float in [0, 1], clipped."""
    return array_url(from_float(image, np.uint8))


def array_url(pixels: NDArray[np.uint8]) -> str:
    """Return a PNG data URL of (H, W, 1 or 3) uint8."""
    from PIL import Image

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
    picture.putpalette(diverging_palette())
    return _png_url(picture)


def residual_limit(residuals: list[NDArray[Any]]) -> float:
    """Return one saturation value for several residuals: three robust standard deviations of the widest."""
    spreads = [1.4826 * float(np.median(np.abs(residual.mean(axis=2)))) for residual in residuals]
    return max(3 * max(spreads, default=0.0), 2 / 255)


def diverging_css() -> str:
    """Return the colours of `residual_url` as a CSS gradient, low to high."""
    return f"linear-gradient(90deg, rgb{_BLUE}, rgb{_PALE}, rgb{_RED})".replace(" ", "")


def diverging_tables() -> dict[str, str]:
    """Return the same colours as tables of an SVG filter, which turns a grey picture (128 is zero) into them."""
    columns = zip(_BLUE, _PALE, _RED, strict=True)
    return {
        channel: " ".join(f"{value / 255:.4f}" for value in column)
        for channel, column in zip("rgb", columns, strict=True)
    }


def smoothed(values: list[float], span: int) -> list[float]:
    """Return the centred moving geometric mean over ``span`` points, or over those there are at the ends."""
    logs, half = np.log(np.asarray(values, dtype=np.float64)), span // 2
    means = [logs[max(index - half, 0) : index + half + 1].mean() for index in range(len(values))]
    return [float(value) for value in np.exp(means)]


def diverging_palette() -> list[int]:
    """Colours of signed maps for indices 0 (blue), 127 (pale) to 254 (red)."""
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
