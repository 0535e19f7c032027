"""How well a brightness or colour offset is found without the clean image, and what mending it wins or costs.

    OMP_NUM_THREADS=1 python tests/benchmarks/offset_accuracy.py --shared ../shared/data [--crops 6]

Non-local means, which has no offset of its own, denoises centre crops of 256x256; a known error is added to what comes
out. "found" is the root mean square difference between the channel means told and the true ones (of denoised against
clean, over the whole crop), in units of 1/255; the gain is that of `correct_offset(..., "level")` in dB.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from inference_modes import SIDE, Pair, psnr, sets
from torch import Tensor

from models import correct_offset, measure_offset
from pipeline.evaluation.baselines import nlm

STEP = 1 / 255
ERRORS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "brightness + 1/255": lambda x: x + STEP,
    "brightness + 4/255": lambda x: x + 4 * STEP,
    "colour + 6, 0, - 4/255": lambda x: x + torch.tensor([6.0, 0.0, -4.0])[:, None, None] * STEP,
    "contrast x 0.9": lambda x: 0.5 + 0.9 * (x - 0.5),
    "gamma 1.1": lambda x: x.clamp_min(0) ** 1.1,
    "saturation x 0.7": lambda x: x.mean(0) + 0.7 * (x - x.mean(0)),
    "ramp of +- 6/255": lambda x: x + torch.linspace(-6, 6, SIDE) * STEP,
}


def non_local_means(noisy: Tensor) -> Tensor:
    return torch.from_numpy(nlm(noisy.permute(1, 2, 0).numpy()).transpose(2, 0, 1).copy())


def rows(pairs: list[Pair]) -> dict[str, list[float]]:
    """For each error: PSNR before, mean and worst gain, error of the means told, shares that are visible and used."""
    plain = [(noisy, clean, non_local_means(noisy)) for noisy, clean in pairs]
    table = {}
    for name, error in ERRORS.items():
        before, gains, told, visible, used = [], [], [], [], []
        for noisy, clean, denoised in plain:
            wrong = error(denoised)
            before.append(psnr(wrong, clean))
            gains.append(psnr(correct_offset(noisy, wrong, "level"), clean) - before[-1])
            found = measure_offset(noisy, wrong)
            if found is not None:
                true = (wrong - clean).mean((1, 2))
                told.append(((torch.tensor(found.mean) - true) * 255).square().mean().item())
                used.append(found.used)
            visible.append(found is not None and found.visible)
        table[name] = [
            np.mean(before), np.mean(gains), min(gains), np.sqrt(np.mean(told)), np.mean(visible), np.mean(used),
        ]  # fmt: skip
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--crops", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, pairs in sets(options.shared, options.crops).items():
        print(f"\n### {name}, {len(pairs)} crops\n")
        print("| error | PSNR | gain | worst gain | found within | visible | pixels used |")
        print("|---|---|---|---|---|---|---|")
        for error, (before, gain, worst, told, visible, used) in rows(pairs).items():
            cells = f"{before:.2f} | {gain:+.2f} | {worst:+.2f} | {told:.2f} | {visible:.0%} | {used:.0%}"
            print(f"| {error} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
