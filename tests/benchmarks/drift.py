"""How far a model moves brightness and colour of real photographs, with its offset kept and mended, beside the truth.

    python tests/benchmarks/drift.py default SIDD=../shared/data/dev/sidd_crops CC60=../shared/data/dev/cc60

Each folder is one that `unveil evaluate --data` takes. Of each pair the middle of at most 256x256 pixels counts. The
drift is the mean of denoised minus noisy in the channel where it is largest, in units of 1/255: its mean over the
pictures, and its largest; that of the clean picture shows what part of it is right. Prints a Markdown table
(docs/default-models.md).
"""

import sys
from pathlib import Path

import numpy as np

from pipeline.evaluation.case_sets import data_set
from pipeline.evaluation.cases import checked
from pipeline.evaluation.metrics import psnr_rgb_u8
from pipeline.inference.denoiser import load_denoiser
from pipeline.inference.offset import mended, offset_of

SIDE = 256


def middle(image: np.ndarray) -> np.ndarray:
    """The middle of a picture."""
    top, left = (max(0, (size - SIDE) // 2) for size in image.shape[:2])
    return np.ascontiguousarray(image[top : top + SIDE, left : left + SIDE])


def drift(image: np.ndarray, noisy: np.ndarray) -> float:
    """Largest mean difference of a channel, in units of 1/255."""
    return float(np.abs(255 * (image - noisy).mean(axis=(0, 1))).max())


def main(ref: str, *sets: str) -> None:
    """Print a row for each set."""
    denoiser = load_denoiser(ref, "cpu")
    print("| set | pictures | named as visible | drift kept | mended | of the clean | PSNR noisy | kept | mended |")
    print("|---|---|---|---|---|---|---|---|---|")
    for text in sets:
        name, _, folder = text.partition("=")
        cases = data_set(Path(folder)).cases
        psnrs, drifts, visible = [], [], 0
        for case in cases:
            noisy, clean = (middle(side) for side in checked(case, 32))
            kept = denoiser.uncorrected(noisy)
            level = mended(noisy, kept, "level")
            visible += bool((offset_of(noisy, kept) or {}).get("visible"))
            psnrs.append([psnr_rgb_u8(image, clean) for image in (noisy, kept, level)])
            drifts.append([drift(image, noisy) for image in (kept, level, clean)])
        told = [f"{mean:.2f}, {most:.2f}" for mean, most in zip(np.mean(drifts, 0), np.max(drifts, 0), strict=True)]
        numbers = [f"{value:.2f}" for value in np.mean(psnrs, 0)]
        print(f"| {' | '.join([name, str(len(cases)), str(visible), *told, *numbers])} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
