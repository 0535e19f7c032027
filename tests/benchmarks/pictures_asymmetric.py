"""The picture of docs/asymmetric-masks.md: sub-images, masks, holes and fills of one crop.

    .venv/bin/python tests/benchmarks/pictures_asymmetric.py docs/pictures

The photograph is scikit-image's `astronaut` (NASA, public domain).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from pictures_masks import CROP, HIDDEN, enlarged, painted, sheet
from torch import Tensor

from models import fill_hidden, pd_down
from models.holes import Partition
from noise import Gaussian, corrupt

ZOOM = 32
"""Pixels across the panels of masks."""

TARGET = (0.95, 0.6, 0.1)


def noisy_crop() -> Tensor:
    """(3, CROP, CROP) of the photograph with noise of sigma 25 whose neighbours go together."""
    from skimage import data

    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[:, 70 : 70 + 2 * CROP, 164 : 164 + 2 * CROP].float()
    clean = torch.nn.functional.avg_pool2d(photo, 2) / 255
    grey = torch.full_like(clean, 0.5)
    white = corrupt(grey, Gaussian(sigma=(25.0, 25.0)), torch.Generator().manual_seed(1)).noisy - grey
    correlated = torch.nn.functional.avg_pool2d(white[None], 3, 1, 1, count_include_pad=False)[0]
    return clean + correlated * (white.std() / correlated.std())


def mosaic(image: Tensor, stride: int) -> Tensor:
    """(3, H, W) with the sub-images of PD beside each other."""
    sub_images = pd_down(image[None], stride)
    rows = [torch.cat(list(sub_images[row * stride : (row + 1) * stride]), dim=2) for row in range(stride)]
    return torch.cat(rows, dim=1)


def masked(image: Tensor, partition: Partition) -> Tensor:
    """(3, ZOOM, ZOOM) of the image, hidden pixels in blue and targets in orange."""
    part = image[:, :ZOOM, :ZOOM]
    targets, hidden = partition.mask(partition.numbers(torch.tensor([7]), ZOOM, ZOOM), 0)
    picture = painted(0.4 + 0.6 * part, hidden[0, 0], HIDDEN)
    return painted(picture, targets[0, 0], TARGET) if partition.hole != (1, 1) else picture


def main() -> None:
    """Write asymmetric-masks.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    noisy = noisy_crop()
    random = Partition(mask_count=2)
    hidden = random.mask(random.numbers(torch.tensor([7]), CROP, CROP), 0)[1]
    rows = [
        [
            ("a crop of 64x64 pixels; the noise of\nneighbours goes together", noisy),
            ("its 4 sub-images at PD stride 2:\nneighbours were 2 pixels apart", mosaic(noisy, 2)),
            ("one of 2 random masks (a quarter shown):\nhalf of the pixels hidden (blue)", masked(noisy, random)),
            (
                "layout 'lattice', 2 masks: every hidden\npixel has four visible neighbours",
                masked(noisy, Partition(mask_count=2, layout="lattice")),
            ),
        ],
        [
            (
                "hole [3, 3] 'diamond', one of 10 masks:\npredicted are the targets (orange)",
                masked(noisy, Partition(mask_count=2, hole=(3, 3), hole_shape="diamond")),
            ),
            (
                "fill 'zero': what the paper's network\nsees of the random mask",
                fill_hidden(noisy[None], hidden, "zero")[0],
            ),
            ("fill 'mean': the mean of what is\nvisible in 3x3", fill_hidden(noisy[None], hidden, "mean")[0]),
            ("fill 'smooth': weights that fall with\ndistance", fill_hidden(noisy[None], hidden, "smooth")[0]),
        ],
    ]
    panels = [[(text, enlarged(image)) for text, image in row] for row in rows]
    sheet(panels).save(options.folder / "asymmetric-masks.png", optimize=True)


if __name__ == "__main__":
    main()
