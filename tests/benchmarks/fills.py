"""How well fills alone predict hidden pixels, and what they cost: a table of docs/asymmetric-masks.md.

    .venv/bin/python tests/benchmarks/fills.py ../shared/data/dev/polyu ../shared/data/dev/sidd_crops

PSNR of an image whose every pixel is the fill of a mask that hides it, against the clean image, over centre crops;
with one draw of the masks, and the mean of eight.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models import FILLS, Fill, UNetSpec, build, fill_hidden, input_mask
from models.holes import Partition
from models.masks import partition_numbers
from pipeline.evaluation.cases import PairCase
from pipeline.evaluation.datasets import find_pairs, spread

DRAWS = 8
LAYOUTS = {
    "random, 1 of 2": (Partition(mask_count=2), True),
    "lattice, 1 of 2": (Partition(mask_count=2, layout="lattice"), False),
    "diamond 3x3, random": (Partition(mask_count=2, hole=(3, 3), hole_shape="diamond"), True),
    "diamond 3x3": (Partition(mask_count=2, hole=(3, 3), hole_shape="diamond"), False),
}
"""Name -> (partition, whether its targets are drawn at random, which larger holes never are in training)."""


def filled(noisy: Tensor, partition: Partition, random: bool, draw: int, fill: Fill) -> Tensor:
    """(1, C, H, W) of the fills of all masks."""
    height, width = noisy.shape[-2:]
    down, right = (side // 2 for side in partition.hole)
    seeds = torch.tensor([1])
    if random:
        numbers = partition_numbers(seeds, partition.count, height + 2 * down, width + 2 * right, draw=draw)
    else:
        numbers = partition.numbers(seeds, height, width, draw=draw)
    output = torch.zeros_like(noisy)
    for index in range(partition.count):
        targets, hidden = partition.mask(numbers, index)
        output = torch.where(targets, fill_hidden(noisy, hidden, fill), output)
    return output


def psnr(image: Tensor, clean: Tensor) -> float:
    """PSNR in dB, without rounding."""
    return -10 * math.log10(float((image - clean).square().mean()))


def crops(folder: Path, count: int, side: int) -> list[tuple[Tensor, Tensor]]:
    """Centres of ``count`` noisy and clean pairs, (1, C, side, side) each."""
    pairs = []
    for pair in spread(find_pairs(folder).pairs, count):
        cut = []
        for image in PairCase(*pair).read():
            top, left = ((size - side) // 2 for size in image.shape[:2])
            part = np.ascontiguousarray(image[top : top + side, left : left + side].transpose(2, 0, 1))
            cut.append(torch.from_numpy(part)[None])
        pairs.append((cut[0], cut[1]))
    return pairs


def seconds(run: Callable[[], object], rounds: int = 7) -> float:
    """Median CPU seconds."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return sorted(times)[rounds // 2]


def costs() -> str:
    """Nanoseconds a pixel of each fill and of the default U-Net."""
    image, mask = torch.rand(1, 3, 256, 256), input_mask(torch.tensor([1]), 0.5, 256, 256)
    network = build(UNetSpec()).eval()
    runs: dict[str, Callable[[], object]] = {
        fill: lambda fill=fill: fill_hidden(image, mask, fill)  # type: ignore[misc]
        for fill in FILLS
    }
    runs["U-Net, forward"] = lambda: network(image)
    return ", ".join(f"{name} {seconds(run) / 256**2 * 1e9:.0f}" for name, run in runs.items())


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--crops", type=int, default=4)
    parser.add_argument("--side", type=int, default=128)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():
        print(f"nanoseconds a pixel: {costs()}")
        for folder in options.folders:
            data = crops(folder, options.crops, options.side)
            mean = sum(psnr(noisy, clean) for noisy, clean in data) / len(data)
            print(f"\n{folder.name}, noisy {mean:.2f} dB\n| masks | passes | mean | smooth |\n|---|---|---|---|")
            for name, (partition, random) in LAYOUTS.items():
                draws = DRAWS if random else min(DRAWS, partition.distinct or DRAWS)
                cells = []
                for fill in ("mean", "smooth"):
                    one, many = [], []
                    for noisy, clean in data:
                        outputs = [filled(noisy, partition, random, draw, fill) for draw in range(draws)]
                        one.append(psnr(outputs[0], clean))
                        many.append(psnr(torch.stack(outputs).mean(0), clean))
                    cells.append(f"{sum(one) / len(one):.2f} / {sum(many) / len(many):.2f}")
                print(f"| {name} | {partition.count} / {partition.count * draws} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
