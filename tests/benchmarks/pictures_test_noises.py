"""The picture of docs/test-noises.md: one photograph under every recipe, and the noise that was added.

    .venv/bin/python tests/benchmarks/pictures_test_noises.py docs/pictures

The photograph is scikit-image's `coffee` (Rachel Michetti, CC0).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from noise import CameraNoise, EldNoise, Gaussian, Mixture, NoiseRecipe, Poisson, SaltPepper, Spatial, Speckle, corrupt
from noise.levels import LevelLine
from pipeline.data.images import from_float
from pipeline.evaluation.contact_sheet import lay_out
from pipeline.evaluation.metrics import psnr_rgb_u8

SHOWN: dict[str, NoiseRecipe] = {
    "gaussian 15": Gaussian(eight_bit=True),
    "speckle 0.04": Speckle(variance=(0.04, 0.04)),
    "poisson 3.5": Poisson(alpha=(3.5, 3.5)),
    "spatial 60": Spatial(sigma=(60.0, 60.0)),
    "salt_pepper 0.02": SaltPepper(),
    "mixture 1": Mixture(level=(1, 1)),
    "mixture 5": Mixture(level=(5, 5)),
    "isp, shot 0.01": CameraNoise(levels=LevelLine(shot=(0.01, 0.01), std=0.0)),
    "eld, A7S2, ratio 100": EldNoise(ratio=(100.0, 100.0)),
}
TOP, LEFT, SIDE, TIMES = 48, 250, 96, 2


def main() -> None:
    """Write test-noises.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    photo = torch.from_numpy(data.coffee().transpose(2, 0, 1).copy())
    cells, texts = [], []
    for name, recipe in SHOWN.items():
        pair = corrupt(photo, recipe, torch.Generator().manual_seed(1))
        noisy, clean = (from_float(part.numpy().transpose(1, 2, 0), np.uint8) for part in (pair.noisy, pair.clean))
        window = (slice(TOP, TOP + SIDE), slice(LEFT, LEFT + SIDE))
        difference = 0.5 + (noisy[window].astype(float) - clean[window]) / 255
        # Nearest neighbour, so that every pixel can be seen.
        crops = [from_float(difference, np.uint8) if which else noisy[window] for which in (0, 1)]
        cells.append([crop.repeat(TIMES, axis=0).repeat(TIMES, axis=1) for crop in crops])
        texts.append(f"{name}: {psnr_rgb_u8(noisy, clean):.1f} dB")
    rows = len(SHOWN) // 3
    columns = [
        lay_out(cells[start : start + rows], texts[start : start + rows]) for start in range(0, len(cells), rows)
    ]
    gap = np.full((columns[0].shape[0], 16, 3), 255, np.uint8)
    sheet = np.concatenate([columns[0], gap, columns[1], gap, columns[2]], axis=1)
    Image.fromarray(sheet).save(folder / "test-noises.png", optimize=True)


if __name__ == "__main__":
    main()
