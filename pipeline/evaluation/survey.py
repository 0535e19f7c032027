"""What a set of pictures is, and how noisy: the facts behind a choice of training settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipeline.data.folders import SourceFile
from pipeline.data.images import ImageError, Pixels, read_header, read_image, to_float

_SIDE = 1536
"""Noise is measured in the centre of this side: enough pixels, and one time for every camera."""


def survey(
    files: Sequence[SourceFile], *, limit: int = 40, on_progress: Callable[[], None] | None = None
) -> dict[str, Any]:
    """Describe every file and estimate the noise of some.

    Args:
        files: pictures.
        limit: measure the noise of at most this many, evenly spaced.
        on_progress: called after each file.

    Returns:
        n, failed, files (path, width, height, channels, bits, format, noise, error; unknown values are None)
        and pooled: medians over the measured files (over those with enough flat areas, if there are any), or
        None if nothing was measured.
    """
    measured = {index * len(files) // limit for index in range(limit)} if limit < len(files) else None
    rows = []
    for index, file in enumerate(files):
        rows.append(_describe(file, measured is None or index in measured))
        if on_progress is not None:
            on_progress()
    return {
        "n": len(rows),
        "failed": sum(row["error"] is not None for row in rows),
        "files": rows,
        "pooled": _pool([row["noise"] for row in rows if row["noise"] is not None]),
    }


def _describe(file: SourceFile, measured: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"path": str(file.path)}
    row |= dict.fromkeys(("width", "height", "channels", "bits", "format", "noise", "error"))
    try:
        if measured:
            image = read_image(file.path)
            row["height"], row["width"], row["channels"] = image.pixels.shape
            row["bits"], row["format"] = image.pixels.dtype.itemsize * 8, image.format
            row["noise"] = _noise(image.pixels)
        else:
            header = read_header(file.path)
            row |= {key: getattr(header, key) for key in ("width", "height", "channels", "bits", "format")}
    except ImageError as error:
        row["error"] = str(error)
    return row


def _noise(pixels: Pixels) -> dict[str, Any] | None:
    from noise.measure import estimate_noise

    colours = pixels[..., :-1] if pixels.shape[2] in (2, 4) else pixels
    top, left = (max(length - _SIDE, 0) // 2 for length in colours.shape[:2])
    try:
        found = estimate_noise(to_float(colours[top : top + _SIDE, left : left + _SIDE]))
    except ValueError:  # too small to tell noise from texture
        return None
    return {
        "sigma": list(found.sigma),
        "interval": list(found.interval),
        "reliable": found.reliable,
        "horizontal": list(found.horizontal),
        "vertical": list(found.vertical),
        "pd_stride": found.pd_stride,
        "mask_ratio": found.mask_ratio,
    }


def _pool(noises: list[dict[str, Any]]) -> dict[str, Any] | None:
    if not noises:
        return None
    trusted = [noise for noise in noises if noise["reliable"]]
    chosen = trusted or noises
    neighbours = [(noise["horizontal"][0] + noise["vertical"][0]) / 2 for noise in chosen]
    return {
        "measured": len(noises),
        "reliable": len(trusted),
        "sigma": float(np.median([np.mean(noise["sigma"]) for noise in chosen])),
        "correlation": float(np.median(neighbours)),
        # Medians of values that were suggested, so that the result is one of them.
        "pd_stride": int(_middle([noise["pd_stride"] for noise in chosen])),
        "mask_ratio": float(_middle([noise["mask_ratio"] for noise in chosen])),
    }


def _middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
