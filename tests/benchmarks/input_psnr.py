"""Mean input PSNR of every test noise and level on clean pictures, beside what theory says and what the paper has.

    .venv/bin/python tests/benchmarks/input_psnr.py ../shared/data/dev/kodak24

Predictions use the histograms of the pictures and the textbook distribution of each noise (scipy), clipped and rounded
to 8 bits; none of our generators. `McM fit` predicts the paper's McMaster numbers, whose pictures are not here: the
intensities of the given pictures are bent by two numbers, a power and a contrast, fitted to the paper's fourteen.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize, stats

from noise import CameraNoise, EldNoise, Gaussian, Mixture, NoiseRecipe, Poisson, SaltPepper, Spatial, Speckle, corrupt
from noise.mixture import ALPHAS, DENSITY, SIGMA_PER_ALPHA
from pipeline.data.folders import scan
from pipeline.data.images import from_float, read_image
from pipeline.evaluation.metrics import psnr_rgb_u8

Image = NDArray[np.uint8]
Quantiles = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Intensity (n, 1) -> equally likely noisy values (n, m)."""

MCM = {
    ("poisson", 2.0): 23.09,
    ("poisson", 2.5): 21.23,
    ("poisson", 3.0): 19.73,
    ("poisson", 3.5): 18.49,
    ("speckle", 0.018): 25.19,
    ("speckle", 0.024): 23.98,
    ("speckle", 0.03): 23.05,
    ("speckle", 0.036): 22.29,
    ("speckle", 0.04): 21.86,
    ("spatial", 40.0): 26.07,
    ("spatial", 50.0): 24.22,
    ("spatial", 60.0): 22.70,
    ("salt_pepper", 0.002): 31.52,
    ("salt_pepper", 0.02): 21.57,
}
"""Of masked-training.md section 3: the 18 McMaster pictures."""

LEVELS: dict[str, Sequence[float]] = {
    "gaussian": (15, 25, 50),
    "speckle": (0.018, 0.024, 0.03, 0.036, 0.04),
    "poisson": (2, 2.5, 3, 3.5),
    "spatial": (40, 45, 50, 55, 60),
    "salt_pepper": (0.002, 0.02),
    "mixture": (1, 2, 3, 4, 5),
}
P = (np.arange(2000) + 0.5)[None, :] / 2000


def recipe(kind: str, level: float) -> NoiseRecipe:
    """The recipe of one kind at one level."""
    both = (level, level)
    whole = (int(level), int(level))
    return {
        "gaussian": lambda: Gaussian(sigma=both, eight_bit=True),
        "speckle": lambda: Speckle(variance=both),
        "poisson": lambda: Poisson(alpha=both),
        "spatial": lambda: Spatial(sigma=both),
        "salt_pepper": lambda: SaltPepper(density=both),
        "mixture": lambda: Mixture(level=whole),
    }[kind]()


def quantiles(kind: str, level: float) -> Quantiles:
    """Equally likely noisy values of an intensity, before clipping and rounding."""
    if kind == "gaussian":
        return lambda x: x + level / 255 * stats.norm.ppf(P)
    if kind == "spatial":
        return lambda x: x + level / 255 / 3 * stats.norm.ppf(P)
    if kind == "speckle":
        return lambda x: x * (1 + np.sqrt(12 * level) * (P - 0.5))
    if kind == "poisson":
        return lambda x: x + level * (stats.poisson.ppf(P, x * 256) / 256 - x)
    # The sum of Poisson and Gaussian noise, to second order; the Poisson counts are large but in the dark.
    alpha = ALPHAS[int(level) - 1]
    return lambda x: x + np.sqrt(alpha**2 * x / 256 + (SIGMA_PER_ALPHA * alpha / 255) ** 2) * stats.norm.ppf(P)


def squared_error(kind: str, level: float, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected squared error at intensities ``x`` (n,) after clipping and rounding to 8 bits."""
    lost = (x**2 + (1 - x) ** 2) / 2
    if kind == "salt_pepper":
        return level * lost
    column = x[:, None]
    noisy = np.rint(np.clip(quantiles(kind, level)(column), 0, 1) * 255) / 255
    error = ((noisy - column) ** 2).mean(axis=1)
    return (1 - DENSITY) * error + DENSITY * lost if kind == "mixture" else error


def first_order(kind: str, level: float, mean: float, square: float) -> float:
    """The textbook variance of a picture of these moments, without clipping."""
    return {
        "gaussian": (level / 255) ** 2,
        "spatial": (level / 255 / 3) ** 2,
        "speckle": level * square,
        "poisson": level**2 * mean / 256,
        "salt_pepper": level / 2 * (square + 1 - 2 * mean + square),
        "mixture": (
            (ALPHAS[int(level) % 6 - 1] ** 2) * (mean / 256 + (SIGMA_PER_ALPHA / 255) ** 2)
            + DENSITY / 2 * (1 - 2 * mean + 2 * square)
        ),
    }[kind]


def decibel(error: NDArray[np.float64] | float) -> float:
    """Mean PSNR of mean squared errors."""
    return float(np.mean(-10 * np.log10(error)))


def measured(made: NoiseRecipe, images: Sequence[Image], seed: int, *, of_source: bool = False) -> list[float]:
    """PSNR of every picture, noise after noise from one seed each.

    With ``of_source`` that of the clean partner against the picture put in, which a camera re-grades.
    """
    values = []
    for index, image in enumerate(images):
        tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
        pair = corrupt(tensor, made, torch.Generator().manual_seed(seed * len(images) + index))
        noisy, clean = (from_float(part.numpy().transpose(1, 2, 0), np.uint8) for part in (pair.noisy, pair.clean))
        values.append(psnr_rgb_u8(clean, image) if of_source else psnr_rgb_u8(noisy, clean))
    return values


def bent(power: float, contrast: float) -> NDArray[np.float64]:
    """The 256 intensities of darker or brighter pictures of more or less contrast."""
    return np.clip(0.5 + contrast * ((np.arange(256) / 255) ** power - 0.5), 0, 1)


def fit_content(histograms: NDArray[np.float64]) -> tuple[float, float, dict[tuple[str, float], float]]:
    """Power and contrast with which the pictures have the paper's McMaster numbers best, and the numbers then."""
    x = np.arange(256) / 255
    errors = {key: squared_error(*key, x) for key in MCM}

    def numbers(content: NDArray[np.float64]) -> NDArray[np.float64]:
        at = bent(*content)
        return np.array([decibel(histograms @ np.interp(at, x, error)) for error in errors.values()])

    fit = optimize.least_squares(lambda content: numbers(content) - list(MCM.values()), [1.2, 1.2])
    return fit.x[0], fit.x[1], dict(zip(MCM, numbers(fit.x), strict=True))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--camera-seeds", type=int, default=9, help="draws of a camera for each picture")
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = [read_image(source.path).pixels[..., :3] for source in scan([options.folder])]
    histograms = np.stack([np.bincount(image.ravel(), minlength=256) / image.size for image in images])
    x = np.arange(256) / 255
    means, squares = histograms @ x, histograms @ x**2
    power, contrast, fitted = fit_content(histograms)
    like = bent(power, contrast)
    print(f"{len(images)} pictures, mean I {means.mean():.4f}, mean I^2 {squares.mean():.4f}; ", end="")
    moments = f"mean I {(histograms @ like).mean():.4f}, mean I^2 {(histograms @ like**2).mean():.4f}"
    print(f"McM fit: power {power:.3f}, contrast {contrast:.3f}, {moments}\n")
    print("| recipe | level | measured | predicted | without clipping | paper, McM | McM fit |")
    print("|---|---|---|---|---|---|---|")
    misses, fits = [], []
    for kind, levels in LEVELS.items():
        for level in levels:
            got = float(np.mean(measured(recipe(kind, level), images, 0)))
            want = decibel(histograms @ squared_error(kind, level, x))
            simple = decibel(np.array([first_order(kind, level, *pair) for pair in zip(means, squares, strict=True)]))
            misses.append(got - want)
            paper, fit = MCM.get((kind, float(level))), ""
            if paper is not None:
                fit = f"{fitted[kind, float(level)]:.2f}"
                fits.append(fitted[kind, float(level)] - paper)
            known = "" if paper is None else f"{paper:.2f}"
            print(f"| {kind} | {level:g} | {got:.2f} | {want:.2f} | {simple:.2f} | {known} | {fit} |")
    print(f"\nmeasured - predicted: largest {np.abs(misses).max():.3f} dB")
    print(f"McM fit - paper: largest {np.abs(fits).max():.2f}, mean {np.mean(fits):+.2f} dB\n")
    print("| recipe | pairs | mean | 10 % | median | 90 % |")
    print("|---|---|---|---|---|---|")
    for name, made in (("isp", CameraNoise()), ("eld", EldNoise(camera="random"))):
        values = [value for seed in range(options.camera_seeds) for value in measured(made, images, seed)]
        low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
        print(f"| {name} | {len(values)} | {np.mean(values):.2f} | {low:.1f} | {middle:.1f} | {high:.1f} |")
    graded = [
        value for seed in range(options.camera_seeds) for value in measured(CameraNoise(), images, seed, of_source=True)
    ]
    print(f"\nclean partner of isp against the picture put in: {np.mean(graded):.2f} dB, sd {np.std(graded):.2f}")


if __name__ == "__main__":
    main()
