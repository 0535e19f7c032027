"""How well `noise.measure.estimate_noise` finds the noise of images whose clean partner is known.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_noise_estimate.py [--shapes]

Ratio of the estimate to the deviation of noisy - clean (geometric mean of the channels), over the synthetic sets and
the real pairs in ../shared/data/dev: the table of docs/camera-noise.md. --shapes also compares the autocorrelation
that is found in the noisy image alone with that of the difference.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from skimage import data

from noise.camera_noise import CameraNoise
from noise.measure import LAGS, estimate_noise
from noise.recipe import corrupt
from pipeline.data.images import read_image, to_float
from pipeline.evaluation.datasets import find_pairs

DEV = Path(__file__).parents[3] / "shared" / "data" / "dev"
PHOTOS = ("astronaut", "chelsea", "coffee")
Pairs = Iterator[tuple[str, np.ndarray, np.ndarray]]


def white(*, sigmas: tuple[float, ...], clip: bool) -> Pairs:
    for name in PHOTOS:
        clean = getattr(data, name)()[..., :3] / 255
        for sigma in sigmas:
            noisy = clean + np.random.default_rng(6).normal(size=clean.shape) * sigma / 255
            # Before clipping: that is what the estimate is of.
            yield f"{name} {sigma}", np.round(noisy.clip(0, 1) * 255) / 255 if clip else noisy, noisy - clean


def camera() -> Pairs:
    for index in range(10):
        clean = torch.from_numpy(getattr(data, PHOTOS[index % 3])()[..., :3].copy()).permute(2, 0, 1)
        clean = clean[:, : clean.shape[1] // 2 * 2, : clean.shape[2] // 2 * 2].contiguous()
        made = corrupt(clean, CameraNoise(), torch.Generator().manual_seed(index))
        noisy, reference = (image.permute(1, 2, 0).numpy() for image in (made.noisy, made.clean))
        yield f"camera {index}", noisy, noisy - reference


def real(folder: str) -> Pairs:
    if not (DEV / folder).exists():
        return
    for pair in find_pairs(DEV / folder).pairs:
        noisy, clean = (to_float(read_image(path).pixels)[..., :3] for path in (pair.noisy, pair.clean))
        yield pair.name, noisy, noisy - clean


def autocorrelation(difference: np.ndarray) -> np.ndarray:
    """(2, LAGS) of the difference itself, less its slow parts: what a picture-wide estimate should find."""
    from scipy.ndimage import uniform_filter

    residual = difference - uniform_filter(difference, (25, 25, 1))
    power = np.square(residual).mean()
    rows = [(residual[:, lag:] * residual[:, :-lag]).mean() / power for lag in range(1, LAGS + 1)]
    columns = [(residual[lag:] * residual[:-lag]).mean() / power for lag in range(1, LAGS + 1)]
    return np.array([rows, columns])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", action="store_true")
    shapes = parser.parse_args().shapes
    sets: dict[str, list[Pairs]] = {
        "white Gaussian, unclipped, sigma 15 and 50": [white(sigmas=(15, 50), clip=False)],
        "white Gaussian sigma 5 to 50, clipped to 8 bits": [white(sigmas=(5, 10, 15, 25, 50), clip=True)],
        "camera noise": [camera()],
        "SIDD crops": [real("sidd_crops")],
        "Nikon D800 (CC60, CC15)": [real("cc60"), real("cc15")],
        "RENOIR": [real("renoir")],
        "PolyU": [real("polyu")],
    }
    print("| images | count | median | 10 % | 90 % | within 30 % | reliable | of these in the interval | lag 1 error |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, parts in sets.items():
        ratios, reliable, inside, errors = [], [], [], []
        for part in parts:
            for _, noisy, difference in part:
                found = estimate_noise(noisy)
                truth = 255 * difference.std(axis=(0, 1))
                ratios.append(np.exp(np.mean(np.log(np.array(found.sigma) / truth))))
                reliable.append(found.reliable)
                inside.append(found.interval[0] <= truth.mean() <= found.interval[1])
                if shapes:
                    shape = np.array([found.horizontal, found.vertical]) - autocorrelation(difference)
                    errors.append(shape[:, 0].mean())
        ratio, sure = np.array(ratios), np.array(reliable)
        if not len(ratio):
            continue
        low, middle, high = np.quantile(ratio, (0.1, 0.5, 0.9))
        lag = f"{np.median(errors):+.2f}" if shapes else ""
        print(
            f"| {name} | {len(ratio)} | {middle:.2f} | {low:.2f} | {high:.2f} | {np.sum(np.abs(ratio - 1) < 0.3)} "
            f"| {sure.sum()} | {np.sum(np.array(inside)[sure])} | {lag} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
