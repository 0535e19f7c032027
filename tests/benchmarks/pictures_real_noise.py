"""Synthetic camera noise over the statistics of real noise: the second half of docs/camera-noise.md.

    .venv/bin/python tests/benchmarks/pictures_real_noise.py ../shared/data/dev docs/pictures/real-noise.png

For every pair of a set, noise is put on the clean picture, of the level that gives the deviation of the real noise;
the camera is drawn at random. What is compared is not fitted: the noise at each brightness, its autocorrelation and
the correlation of its channels.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray

from noise import CameraNoise, corrupt
from noise.levels import LevelLine
from pipeline.data.images import read_image, to_float
from pipeline.evaluation.datasets import find_pairs
from raw.rendering import Rendering

Array = NDArray[np.float64]

LAGS = 6
SIDE = 512
BINS = np.linspace(0.05, 0.95, 10)
SETS = {"SIDD crops (phones)": "sidd_crops", "CC60 (Nikon D800, in-camera JPEG)": "cc60"}
RECIPES = {
    "ours, defaults of the paper": {},
    "ours, Malvar": {"rendering": Rendering(demosaic="malvar")},
    "ours, Malvar, tone curve, enlarged, JPEG": {
        "rendering": Rendering(demosaic="malvar", tone="smoothstep", brighten=True),
        "resize": (1.4, 1.6),
        "jpeg": (90.0, 95.0),
    },
}
REAL = "real"
COLOURS = {REAL: "#222222"} | dict(zip(RECIPES, ("#0072b2", "#d55e00", "#009e73"), strict=True))


@dataclass
class Statistics:
    """Of the noise of one set, channels pooled."""

    level: Array
    deviation: Array
    autocorrelation: Array
    channels: Array


def measure(pairs: list[tuple[Array, Array]]) -> Statistics:
    """Statistics of noisy - clean, (H, W, 3) each."""
    residuals = [noisy - clean for noisy, clean in pairs]
    levels = np.concatenate([clean.reshape(-1) for _, clean in pairs])
    values = np.concatenate([residual.reshape(-1) for residual in residuals])
    places = np.digitize(levels, BINS)
    used = [place for place in range(1, len(BINS)) if (places == place).sum() > 2000]
    lags = []
    for residual in residuals:
        for channel in range(3):
            centred = residual[..., channel] - residual[..., channel].mean()
            width = centred.shape[1]
            along = [(centred[:, lag:] * centred[:, : width - lag]).mean() for lag in range(LAGS)]
            lags.append(np.array(along) / along[0])
    return Statistics(
        level=np.array([(BINS[place - 1] + BINS[place]) / 2 for place in used]),
        deviation=np.array([255 * values[places == place].std() for place in used]),
        autocorrelation=np.mean(lags, axis=0),
        channels=np.mean([np.corrcoef(residual.reshape(-1, 3).T) for residual in residuals], axis=0),
    )


def synthesise(clean: Array, target: float, options: dict[str, object], seed: int) -> tuple[Array, Array]:
    """The noisy and clean picture whose noise has the deviation ``target``, by bisection over the shot noise."""
    image = torch.from_numpy(np.ascontiguousarray(clean.transpose(2, 0, 1))).float()
    low, high = math.log(1e-5), math.log(0.3)
    for _ in range(12):
        shot = math.exp((low + high) / 2)
        recipe = CameraNoise(levels=LevelLine(shot=(shot, shot)), **options)
        pair = corrupt(image, recipe, torch.Generator().manual_seed(seed))
        found = float((pair.noisy - pair.clean).std())
        low, high = (low, math.log(shot)) if found > target else (math.log(shot), high)
    return tuple(part.double().numpy().transpose(1, 2, 0) for part in (pair.noisy, pair.clean))


def load(folder: Path) -> list[tuple[Array, Array]]:
    """The upper left corners of all pairs."""
    return [
        tuple(to_float(read_image(path).pixels).astype(np.float64)[:SIDE, :SIDE] for path in (pair.noisy, pair.clean))
        for pair in find_pairs(folder).pairs
    ]


def main() -> None:
    """Draw the picture and print its numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    figure, axes = plt.subplots(len(SETS), 3, figsize=(11, 3.4 * len(SETS)), layout="constrained")
    for row, (caption, name) in zip(axes, SETS.items(), strict=True):
        pairs = load(options.data / name)
        found = {REAL: measure(pairs)}
        for recipe, extra in RECIPES.items():
            made = [
                synthesise(clean, float((noisy - clean).std()), extra, seed)
                for seed, (noisy, clean) in enumerate(pairs)
            ]
            found[recipe] = measure(made)
        draw(row, caption, found)
        for recipe, statistics in found.items():
            lags = " ".join(f"{value:.2f}" for value in statistics.autocorrelation[1:4])
            (_, rg, rb), (_, _, gb), _ = statistics.channels
            print(f"{caption:36s} {recipe:42s} lags 1-3: {lags}   R-G {rg:.2f} G-B {gb:.2f} R-B {rb:.2f}")
    figure.savefig(options.out, dpi=100)


def draw(row: list[plt.Axes], caption: str, found: dict[str, Statistics]) -> None:
    """One set: deviation at each level, autocorrelation, correlation of the channels."""
    for index, (recipe, statistics) in enumerate(found.items()):
        style = {"color": COLOURS[recipe], "label": recipe, "lw": 2.4 if recipe == REAL else 1.5}
        row[0].plot(statistics.level, statistics.deviation, marker="o", ms=3, **style)
        row[1].plot(range(LAGS), statistics.autocorrelation, marker="o", ms=3, **style)
        (_, rg, rb), (_, _, gb), _ = statistics.channels
        row[2].bar(np.arange(3) + 0.2 * index, (rg, gb, rb), width=0.18, color=COLOURS[recipe])
    row[0].set(title=caption, xlabel="level of the clean picture", ylabel="noise sd (of 255)", ylim=(0, None))
    row[0].legend(fontsize=7.5, frameon=False)
    row[1].set(title="autocorrelation", xlabel="distance in pixels", ylim=(-0.15, 1.02))
    row[2].set(title="correlation of the channels", ylim=(-0.6, 0.8))
    row[2].set_xticks(np.arange(3) + 0.3, ("R-G", "G-B", "R-B"))
    row[2].axhline(0, color="#888888", lw=0.8)
    for axis in row:
        axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
