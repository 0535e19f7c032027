"""Measure a denoiser on pairs, beside the noisy input and classical baselines, image by image."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.console import strict
from pipeline.data.blocks import Block
from pipeline.data.images import ImageError, read_image, to_float, without_alpha
from pipeline.data.paths import shown
from pipeline.errors import UserError
from pipeline.evaluation.baselines import Baseline, pick_baselines
from pipeline.evaluation.datasets import Pair, find_pairs, spread
from pipeline.evaluation.metrics import DEFINITIONS, SSIM_SIZE, measure
from pipeline.inference.denoiser import Denoiser, NetworkDenoiser
from pipeline.inference.denoiser import load_denoiser as load_denoiser
from pipeline.inference.offset import mended, offset_of

PROTOCOL = "full images, 8-bit rounding, mean of per-image values"
DEFAULT_BASELINES = ("nlm", "tv")
_MAX_WORKERS = 8

FloatImage = NDArray[np.float32]


def evaluate(
    model: str | Denoiser,
    data: str | Path,
    *,
    layout: str = "auto",
    baselines: Sequence[str] = DEFAULT_BASELINES,
    limit: int | None = None,
    workers: int = 0,
    device: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure on every pair of a data set.

    The result does not depend on ``workers``: the baselines of several images run side by side, the model
    one image at a time.

    Args:
        model: a reference for `pipeline.inference.denoiser.load_denoiser`, or a denoiser.
        data: folder; see `pipeline.evaluation.datasets.find_pairs`.
        layout: ``auto``, or as for `pipeline.evaluation.datasets.find_pairs`.
        baselines: names of `pipeline.evaluation.baselines.BASELINES`.
        limit: evaluate this many pairs, evenly spaced over the sorted names; None takes all.
        workers: threads; 0 takes one a core, at most 8.
        device: where the model runs, when ``model`` is a reference.
        on_progress: called as (done, total), from any thread.

    Returns:
        A dict that JSON can hold: layout, protocol, n, the metrics of the model at the top level, noisy and
        baselines with theirs, by_offset (the model's with its brightness and colour offset kept and mended),
        visible_offsets (images that have one), mode (`models.describe_inference`), seconds_per_megapixel,
        per-image rows under images, unpaired files, and the metrics' definitions.

    Raises:
        UserError: no pairs, sizes that differ, a picture that cannot be read, or an unknown name.
    """
    chosen = pick_baselines(tuple(baselines))
    found = find_pairs(data, layout)
    pairs = spread(found.pairs, limit)
    denoiser = load_denoiser(model, device) if isinstance(model, str) else model
    gate = threading.Lock()
    rows: list[dict[str, Any]] = []
    threads = workers or min(os.cpu_count() or 1, _MAX_WORKERS)
    with ThreadPoolExecutor(max_workers=threads) as pool:
        jobs = [pool.submit(_measure_pair, pair, denoiser, chosen, gate) for pair in pairs]
        try:
            for job in jobs:
                rows.append(job.result())
                if on_progress is not None:
                    on_progress(len(rows), len(pairs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    result = {
        "layout": found.layout,
        "protocol": PROTOCOL,
        "model": model if isinstance(model, str) else type(model).__name__,
        "data": str(data),
        "n": len(rows),
        "available": len(found.pairs),
        **_mean([row["model"] for row in rows]),
        "noisy": _mean([row["noisy"] for row in rows]),
        "baselines": {name: _mean([row["baselines"][name] for row in rows]) for name in chosen},
        "by_offset": {how: _mean([row["by_offset"][how] for row in rows]) for how in ("keep", "level")},
        "visible_offsets": sum(row["offset"] is not None and row["offset"]["visible"] for row in rows),
        "mode": denoiser.describe() if isinstance(denoiser, NetworkDenoiser) else None,
        "seconds_per_megapixel": 1e6 * sum(row["seconds"] for row in rows) / sum(row["pixels"] for row in rows),
        "images": rows,
        "unpaired": [str(path) for path in found.unpaired],
        "definitions": dict(DEFINITIONS),
    }
    cleaned: dict[str, Any] = strict(result)
    return cleaned


def read_pair(pair: Pair) -> tuple[FloatImage, FloatImage]:
    """Read (noisy, clean) as (H, W, 1 or 3) float32 in [0, 1], alpha left out.

    Raises:
        ImageError: one of them cannot be read, or is too small for the metrics.
    """
    noisy, clean = (_read(source) for source in (pair.noisy, pair.clean))
    if min(noisy.shape[:2]) < SSIM_SIZE:
        raise ImageError(
            f"{shown(str(pair.noisy))}: expected at least 11x11 pixels, found {noisy.shape[1]}x{noisy.shape[0]}"
        )
    return noisy, clean


def _read(source: Path | Block) -> FloatImage:
    if isinstance(source, Block):
        return to_float(source.pixels())
    return without_alpha(to_float(read_image(source).pixels))


def detail(image: FloatImage) -> float:
    """Return how much a picture varies: mean absolute step between neighbouring pixels, in units of 1/255."""
    grey = image.mean(axis=2)
    steps = [np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1)]
    return float(np.mean(steps)) * 255


def _measure_pair(
    pair: Pair, denoiser: Denoiser, baselines: dict[str, Baseline], gate: threading.Lock
) -> dict[str, Any]:
    noisy, clean = read_pair(pair)
    how = denoiser.inference.offset if isinstance(denoiser, NetworkDenoiser) else "keep"
    with gate:
        start = time.perf_counter()
        denoised = denoiser.uncorrected(noisy) if isinstance(denoiser, NetworkDenoiser) else denoiser(noisy)
        seconds = time.perf_counter() - start
    if denoised.shape != noisy.shape or not np.isfinite(denoised).all():
        raise UserError(f"{shown(str(pair.noisy))}: the model returned no picture of the same size with finite values")
    by_offset = {
        "keep": measure(denoised, clean),
        "level": measure(mended(noisy, denoised, "level"), clean),
    }
    return {
        "name": pair.name,
        "noisy": measure(noisy, clean),
        "model": by_offset[how],
        "by_offset": by_offset,
        "offset": offset_of(noisy, denoised, corrected=how != "keep"),
        "baselines": {name: measure(run(noisy), clean) for name, run in baselines.items()},
        "detail": round(detail(clean), 4),
        "brightness": round(float(clean.mean()), 4),
        "seconds": round(seconds, 4),
        "pixels": noisy.shape[0] * noisy.shape[1],
    }


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in DEFINITIONS}
