"""Models beside BM3D on microscopy, whose two sides do not fit as they are.

    OMP_NUM_THREADS=1 python tests/benchmarks/microscopy.py fmd=../shared/data/dev/fmd w2s=../shared/data/dev/w2s

(and `--model REF`) needs the package bm3d. The clean side of a confocal pair lies up to a pixel beside the noisy one:
it is moved by what cross-correlation finds between it and the noisy picture, both blurred by a Gaussian of one pixel,
and a border of 8 pixels is left out. Both sides of a widefield pair were stretched by themselves: for those the line
a * x + b that brings an output nearest to the clean side (least squares) comes before PSNR, for the noisy picture as
for each result. Printed are `psnr_rgb_u8` (which of grey is grey's) of each picture, the means, and how many pictures
came out worse than they went in. BM3D gets the sigma that is estimated, as in `unveil evaluate --baselines bm3d`.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from pipeline.evaluation.baselines import BASELINES
from pipeline.evaluation.metrics import psnr_rgb_u8
from pipeline.inference.denoiser import load_denoiser

Floats = NDArray[np.float32]
BORDER = 8
BLUR = 1.0
FINENESS = 20
SIDES = {"fmd": ("Confocal_gaussianpoisson", "Confocal"), "w2s": ("noisy", "clean")}


def moved(clean: Floats, noisy: Floats) -> tuple[Floats, tuple[float, float]]:
    """Return the clean picture where the noisy one is, and by how many pixels it was moved."""
    blurred = [ndimage.gaussian_filter(image[..., 0].astype(float), BLUR) for image in (noisy, clean)]
    shift, _, _ = phase_cross_correlation(*blurred, upsample_factor=FINENESS, normalization=None)
    found = ndimage.shift(clean[..., 0], shift, order=3, mode="nearest")[..., None]
    return np.clip(found, 0, 1).astype(np.float32), (float(shift[0]), float(shift[1]))


def on_line(image: Floats, clean: Floats) -> Floats:
    """Return the image as a * x + b, nearest to the clean one."""
    slope, offset = np.polyfit(image.ravel().astype(float), clean.ravel().astype(float), 1)
    return np.clip(slope * image + offset, 0, 1).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", metavar="fmd|w2s=FOLDER")
    parser.add_argument("--model", action="append", default=[])
    options = parser.parse_args()
    models = {ref: load_denoiser(ref, "cpu") for ref in options.model or ["default"]}
    denoisers = {"BM3D": BASELINES["bm3d"], **models}
    for text in options.sets:
        kind, _, folder = text.partition("=")
        noisy_side, clean_side = (Path(folder) / name for name in SIDES[kind])
        print(f"\n| {kind} | moved by | noisy | {' | '.join(denoisers)} |")
        print(f"|{'---|' * (3 + len(denoisers))}")
        values: dict[str, list[float]] = {"noisy": [], **{name: [] for name in denoisers}}
        for file in sorted(noisy_side.iterdir()):
            noisy, clean = (
                (iio.imread(one).astype(np.float32) / 255)[..., None] for one in (file, clean_side / file.name)
            )
            shift = (0.0, 0.0)
            if kind == "fmd":
                clean, shift = moved(clean, noisy)
            inner = np.s_[BORDER:-BORDER, BORDER:-BORDER]
            for name in values:
                output = noisy if name == "noisy" else np.clip(denoisers[name](noisy), 0, 1)
                output = output.reshape(noisy.shape)[inner]
                shown = on_line(output, clean[inner]) if kind == "w2s" else output
                values[name].append(psnr_rgb_u8(shown, clean[inner]))
            cells = " | ".join(f"{values[name][-1]:.2f}" for name in values)
            print(f"| {file.stem} | {shift[0]:+.2f}, {shift[1]:+.2f} | {cells} |", flush=True)
        print(f"| mean | | {' | '.join(f'{statistics.fmean(values[name]):.2f}' for name in values)} |")
        worse = [sum(a < b for a, b in zip(values[name], values["noisy"], strict=True)) for name in denoisers]
        print(f"| worse than noisy | | | {' | '.join(map(str, worse))} |")


if __name__ == "__main__":
    main()
