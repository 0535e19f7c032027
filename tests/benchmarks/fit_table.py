"""Photos fitted one by one, beside BM3D and non-local means with our estimated sigma, on whole real photos.

    OMP_NUM_THREADS=1 python tests/benchmarks/fit_table.py --shared ../shared/data --out fit.json \\
        [--each 5] [--steps 1500] [--seeds 0] [--sets polyu cc60 sidd_crops renoir]

Fits `--each` photos of every set, evenly spaced, on the noisy picture alone, as `unveil denoise --fit` does; clean
partners are read by the scoring only. `--steps` is for 512x512 pixels and in proportion to the size between 256x256 and
1024x1024. Scores are `psnr_rgb_u8` and `ssim_gauss11_rgb` of whole pictures. CPU time is that of the whole fit.

Goes on where an earlier call with the same --out stopped; the tables are written beside it as Markdown.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.images import read_image, to_float, without_alpha
from pipeline.evaluation import baselines
from pipeline.evaluation.datasets import Pair, find_pairs, spread
from pipeline.evaluation.metrics import measure
from pipeline.inference.fit import FitDenoiser, FitOptions

SETS = ("polyu", "cc60", "sidd_crops", "renoir")
METRICS = ("psnr_rgb_u8", "ssim_gauss11_rgb")


def photos(options: argparse.Namespace) -> list[tuple[str, Pair]]:
    """The photos, one of each set in turn."""
    found = [
        [(name, pair) for pair in spread(find_pairs(options.shared / "dev" / name).pairs, options.each)]
        for name in options.sets
    ]
    return list(filter(None, chain.from_iterable(zip_longest(*found))))


def fit(noisy: np.ndarray, steps: int, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Fit one photo; the picture and what is known about the fit."""
    pixels = min(max(noisy.shape[0] * noisy.shape[1], 256**2), 1024**2)
    denoiser = FitDenoiser(FitOptions(steps=round(steps * pixels / 512**2), seed=seed, device="cpu"))
    start = time.process_time()
    output = denoiser(noisy)
    assert denoiser.last is not None
    chosen = denoiser.last.settings
    facts = {
        "cpu_seconds": round(time.process_time() - start, 1),
        "strides": list(chosen.strides),
        "train_stride": chosen.method.pd_stride,
        "sigma_255": round(chosen.sigma_255, 2),
        **denoiser.last.measures,
    }
    return output, facts


def score(name: str, pair: Pair, options: argparse.Namespace, rows: dict[str, Any]) -> list[str]:
    """Fill in the rows of one photo that are missing; say what was new."""
    noisy, clean = (to_float(without_alpha(read_image(path).pixels)) for path in (pair.noisy, pair.clean))
    new = []
    for row in ["noisy", "nlm", *(["bm3d"] if "bm3d" in baselines.BASELINES else [])]:
        if row not in rows:
            output = noisy if row == "noisy" else baselines.BASELINES[row](noisy)
            rows[row] = measure(output, clean)
            new.append(f"{row} {rows[row]['psnr_rgb_u8']:.2f}")
    for seed in options.seeds:
        row = f"fit, {options.steps} steps, seed {seed}"
        if row not in rows:
            output, facts = fit(noisy, options.steps, seed)
            rows[row] = {**measure(output, clean), **facts}
            told = f"{facts['cpu_seconds']:.0f} CPU-seconds, strides {facts['strides']}"
            new.append(f"{row} {rows[row]['psnr_rgb_u8']:.2f} ({told})")
    return [f"{name} {pair.name} {noisy.shape[1]}x{noisy.shape[0]}: {', '.join(new)}"] if new else []


def table(kept: dict[str, Any], sets: list[str], metric: str) -> str:
    """Markdown: mean over the photos that have all rows; their number stands in the header."""
    names = list(dict.fromkeys(row for rows in kept.values() for row in rows))
    whole = {
        name: [rows for key, rows in kept.items() if key.split("/")[0] == name and set(names) <= set(rows)]
        for name in sets
    }
    lines = [f"| {metric} | " + " | ".join(f"{name} ({len(whole[name])})" for name in sets) + " |"]
    lines.append("|---" * (1 + len(sets)) + "|")
    digits = 2 if metric.startswith("psnr") else 4
    for row in names:
        cells = [
            f"{np.mean([rows[row][metric] for rows in whole[name]]):.{digits}f}" if whole[name] else "" for name in sets
        ]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Fit and score what is missing, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder that holds dev/")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; the tables go beside it")
    parser.add_argument("--each", type=int, default=5, help="photos of each set")
    parser.add_argument("--steps", type=int, default=1500, help="for 512x512 pixels")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    kept: dict[str, Any] = json.loads(options.out.read_text()) if options.out.is_file() else {}
    for name, pair in photos(options):
        for line in score(name, pair, options, kept.setdefault(f"{name}/{pair.name}", {})):
            print(line, flush=True)
        options.out.write_text(json.dumps(kept, indent=1) + "\n")
        text = "\n\n".join(table(kept, options.sets, metric) for metric in METRICS)
        options.out.with_suffix(".md").write_text(text + "\n")
    print("\n\n".join(table(kept, options.sets, metric) for metric in METRICS))


if __name__ == "__main__":
    main()
