"""What a set of pictures is, and how noisy: the facts behind a choice of training settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.data.folders import SourceFile
from pipeline.data.images import ImageError, Pixels, read_header, read_image, read_raw_file, to_float, without_alpha

if TYPE_CHECKING:
    from noise.measure import NoiseEstimate
    from noise.noise_line import NoiseLine
    from noise.raw_noise import RawNoise
    from raw.raw_file import RawFile

_SIDE = 1536
"""Display images are measured in the centre of this side: enough pixels, and one time for every camera."""

_NAMES = {1: ("grey",), 3: ("R", "G", "B")}


def survey(
    files: Sequence[SourceFile], *, limit: int = 40, on_progress: Callable[[], None] | None = None
) -> dict[str, Any]:
    """Describe every file and measure the noise of some.

    Args:
        files: pictures and raw files.
        limit: measure the noise of at most this many, evenly spaced.
        on_progress: called after each file.

    Returns:
        n, failed, files and pooled. Each of ``files`` has path, width, height, channels, bits, format, and
        (None where unknown or not measured) raw (the sensor's facts), noise, correlation, suggested, error.

        ``noise``: ``sigma`` per channel in 1/255 of the display image, with ``interval`` and ``reliable``; the noise
        line Var = shot x + read of the file (``shot``, ``read``, ``shot_interval``, ``read_interval``, ``prnu``,
        ``method``, ``note``), of a raw file in normalised raw units, and under ``channels`` that of each channel, with
        its curve.
        ``correlation``: of the display image at lags 1..5 and between its channels. ``suggested``: pd_stride and
        mask_ratio from it. ``pooled``: medians over the measured files (over those with enough flat areas, if there
        are any), or None if nothing was measured.
    """
    measured = {index * len(files) // limit for index in range(limit)} if limit < len(files) else None
    rows = []
    for index, file in enumerate(files):
        rows.append(_describe(file.path, measured is None or index in measured))
        if on_progress is not None:
            on_progress()
    return {
        "n": len(rows),
        "failed": sum(row["error"] is not None for row in rows),
        "files": rows,
        "pooled": _pool([row for row in rows if row["noise"] is not None]),
    }


def _describe(path: Path, measured: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"path": str(path)}
    names = ("width", "height", "channels", "bits", "format", "raw", "noise", "correlation", "suggested", "error")
    row |= dict.fromkeys(names)
    try:
        if not measured:
            header = read_header(path)
            return row | {key: getattr(header, key) for key in ("width", "height", "channels", "bits", "format")}
        # What unveil trains on: of a raw file the developed picture, so the settings follow from that.
        image = read_image(path)
        row["height"], row["width"], row["channels"] = image.pixels.shape
        row["bits"], row["format"] = image.pixels.dtype.itemsize * 8, image.format
        found = _estimate(image.pixels)
        if found is not None:
            row |= _of_display(found)
        if image.format == "raw":
            row |= _of_raw(path, row["noise"])
    except ImageError as error:
        row["error"] = str(error)
    return row


def _estimate(pixels: Pixels) -> NoiseEstimate | None:
    from noise.measure import estimate_noise

    colours = without_alpha(pixels)
    top, left = (max(length - _SIDE, 0) // 2 for length in colours.shape[:2])
    try:
        return estimate_noise(to_float(colours[top : top + _SIDE, left : left + _SIDE]))
    except ValueError:  # too small to tell noise from texture
        return None


def _of_display(found: NoiseEstimate) -> dict[str, Any]:
    from noise.noise_line import line_through

    names = _NAMES[len(found.sigma)]
    joined = line_through([point for line in found.lines for point in line.curve], method=found.lines[0].method)
    return {
        "noise": {
            "sigma": list(found.sigma),
            "interval": list(found.interval),
            "reliable": found.reliable,
            "horizontal": list(found.horizontal),
            "vertical": list(found.vertical),
            "pd_stride": found.pd_stride,
            "mask_ratio": found.mask_ratio,
            **line_json(joined),
            "channels": channels_json(names, found.lines),
        },
        "correlation": {
            "horizontal": list(found.horizontal),
            "vertical": list(found.vertical),
            "channels": [list(row) for row in found.channel_correlation],
        },
        "suggested": {"pd_stride": found.pd_stride, "mask_ratio": found.mask_ratio},
    }


def _of_raw(path: Path, display: dict[str, Any] | None) -> dict[str, Any]:
    """The sensor's facts, and its noise line in place of the display image's."""
    from noise.raw_noise import measure_raw_file

    raw = read_raw_file(path)
    measured = measure_raw_file(raw)
    facts = raw_facts(raw)
    if measured is None:
        return {"raw": facts}
    facts |= _sensor_noise(raw, measured)
    line = line_json(measured.pooled) | {"channels": channels_json(measured.names, measured.lines)}
    return {"raw": facts, "noise": (display or {}) | line}


def raw_facts(raw: RawFile) -> dict[str, Any]:
    """What a raw file is, as JSON values."""
    return {
        "kind": raw.kind,
        "cfa": raw.pattern,
        "width": raw.width,
        "height": raw.height,
        "bits": raw.bits,
        "black": list(raw.black_levels),
        "white": raw.white_level,
        "saturation": raw.saturation,
        "iso": raw.iso,
        "camera": camera_name(raw.make, raw.model),
        "noise_profile": None if raw.noise_profile is None else [list(pair) for pair in raw.noise_profile],
        "notes": list(raw.notes),
    }


def camera_name(make: str, model: str) -> str:
    """Maker and model without saying the maker twice; empty if unknown."""
    return model if model.lower().startswith(make.lower().split(" ")[0]) and make else f"{make} {model}".strip()


def _sensor_noise(raw: RawFile, measured: RawNoise) -> dict[str, Any]:
    border = None
    if measured.border is not None:
        found = measured.border
        span = [raw.white_level - black for black in raw.black_levels]
        border = {
            "pixels": found.pixels,
            "black": [
                black + offset * scale for black, offset, scale in zip(raw.black_levels, found.black, span, strict=True)
            ],
            "read": list(found.read),
            "read_intervals": [list(interval) for interval in found.read_intervals],
            "row": found.row,
            "column": found.column,
        }
    return {
        "border": border,
        "correlation": {
            "horizontal": list(measured.horizontal),
            "vertical": list(measured.vertical),
            "channels": [list(row) for row in measured.channel_correlation],
            "reliable": measured.flat,
        },
        "notes": [*raw.notes, *measured.notes],
    }


def line_json(line: NoiseLine) -> dict[str, Any]:
    """A noise line as JSON values, without its curve."""
    return {
        "shot": line.shot,
        "read": line.read,
        "shot_interval": list(line.shot_interval),
        "read_interval": list(line.read_interval),
        "prnu": line.prnu,
        "method": line.method,
        "note": line.note,
    }


def channels_json(names: Sequence[str], lines: Sequence[NoiseLine]) -> list[dict[str, Any]]:
    """The noise lines of all channels with their curves, as JSON values."""
    return [
        {"name": name, **line_json(line), "curve": [list(point) for point in line.curve]}
        for name, line in zip(names, lines, strict=True)
    ]


def _pool(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    display = [row for row in rows if "sigma" in row["noise"]]
    if not display:
        return None
    trusted = [row for row in display if row["noise"]["reliable"]]
    chosen = [row["noise"] for row in trusted or display]
    neighbours = [(noise["horizontal"][0] + noise["vertical"][0]) / 2 for noise in chosen]
    # Medians of values that were suggested, so that the result is one of them.
    suggested = {
        "pd_stride": int(_middle([noise["pd_stride"] for noise in chosen])),
        "mask_ratio": float(_middle([noise["mask_ratio"] for noise in chosen])),
    }
    return {
        "measured": len(display),
        "reliable": len(trusted),
        "sigma": float(np.median([np.mean(noise["sigma"]) for noise in chosen])),
        "correlation": float(np.median(neighbours)),
        **suggested,
        "suggested": suggested,
        "noise": _pool_lines([row["noise"] for row in rows]),
    }


def _pool_lines(noises: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the told coefficients, and the range of their intervals: files differ in ISO."""
    pooled: dict[str, Any] = {}
    for name in ("shot", "read"):
        told = [noise[name] for noise in noises if noise[name] is not None]
        ends = [noise[f"{name}_interval"] for noise in noises if noise[name] is not None]
        pooled[name] = float(np.median(told)) if told else None
        pooled[f"{name}_interval"] = [min(end[0] for end in ends), max(end[1] for end in ends)] if ends else None
        pooled[f"{name}_told"] = len(told)
    return pooled


def _middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
