"""By how much the definitions of PSNR and SSIM differ on real photos: the table of docs/metrics.md.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.metric_definitions [--json definitions.json]

The colour photographs inside scikit-image, with white Gaussian noise of standard deviation 25 in each channel (clipped,
not rounded), as they are and after total variation (Chambolle 2004, weight = sigma), which no metric was made for: two
outputs, one grainy and one smooth. Every metric that needs no weights, the mean over the photos, its distance from the
default metric of its kind, and the smallest and largest distance on one photo.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.baselines import tv
from pipeline.evaluation.metrics import METRICS, measure

PHOTOS = ("astronaut", "coffee", "chelsea", "rocket")
SIGMA = 25 / 255
OUTPUTS = ("noisy", "denoised")


def photos() -> list[NDArray[np.uint8]]:
    """Colour photographs as (H, W, 3); the names are those of `skimage.data`."""
    from skimage import data

    return [getattr(data, name)() for name in PHOTOS]


def outputs(clean: NDArray[np.uint8], seed: int) -> dict[str, NDArray[np.float32]]:
    """The noisy photo, and what total variation makes of it."""
    noise = np.random.default_rng(seed).normal(0, SIGMA, clean.shape)
    noisy = np.clip(clean / 255 + noise, 0, 1).astype(np.float32)
    return {"noisy": noisy, "denoised": tv(noisy, SIGMA)}


def rows() -> list[dict[str, Any]]:
    """One row a metric: for each output the mean and the distances from the default metric of its kind."""
    names = [name for name in METRICS if not name.startswith("lpips")]
    values: dict[str, list[dict[str, float]]] = {kind: [] for kind in OUTPUTS}
    for seed, clean in enumerate(photos()):
        for kind, image in outputs(clean, seed).items():
            values[kind].append(measure(image, clean, names))
    table = []
    for name in names:
        base = "psnr_rgb_u8" if METRICS[name].unit == "dB" else "ssim_gauss11_rgb"
        row: dict[str, Any] = {"metric": name}
        for kind in OUTPUTS:
            distances = [found[name] - found[base] for found in values[kind]]
            row[kind] = {
                "mean": float(np.mean([found[name] for found in values[kind]])),
                "distance": float(np.mean(distances)),
                "range": [min(distances), max(distances)],
            }
        table.append(row)
    return table


def markdown(table: Sequence[dict[str, Any]]) -> str:
    """The table for people."""
    lines = ["| metric | noisy | distance | denoised | distance |", "|---|---|---|---|---|"]
    for row in table:
        digits = 3 if METRICS[row["metric"]].unit == "dB" else 4
        cells = []
        for kind in OUTPUTS:
            cell = row[kind]
            low, high = cell["range"]
            cells.append(f"{cell['mean']:.{digits}f}")
            cells.append(f"{cell['distance']:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})")
        lines.append(f"| `{row['metric']}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    table = rows()
    print(markdown(table))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
