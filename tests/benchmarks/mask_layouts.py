"""Random masks, lattices and holes compared on short trainings: a table of docs/asymmetric-masks.md.

    .venv/bin/python tests/benchmarks/mask_layouts.py polyu --data ../shared/data
    .venv/bin/python tests/benchmarks/mask_layouts.py sidd --data ../shared/data --steps 200

A U-Net of width 16, one seed, about a CPU minute each. Clean images are read for the score alone.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from models import AsymmetricMasks, InferenceSpec, Network, UNetSpec, build, denoise
from models.holes import Layout
from pipeline.data.images import read_image, to_float

METHODS = {
    "random": AsymmetricMasks(pd_stride=2, fill="smooth"),
    "random, mean": AsymmetricMasks(pd_stride=2, fill="mean"),
    "lattice": AsymmetricMasks(pd_stride=2, fill="smooth", layout="lattice"),
    "hole": AsymmetricMasks(pd_stride=1, fill="smooth", hole=(3, 3), hole_shape="diamond"),
}
BATCH, CROP, RATE = 8, 96, 2e-3
Pairs = list[tuple[Tensor, Tensor]]


def picture(path: Path) -> Tensor:
    """(3, H, W) float32."""
    return torch.from_numpy(to_float(read_image(path).pixels)[..., :3]).permute(2, 0, 1)


def data_of(name: str, root: Path) -> tuple[list[Tensor], Pairs]:
    """Noisy images to train on, and 8 noisy and clean crops of 128x128 to score on."""
    if name == "polyu":
        train = [picture(path) for path in sorted((root / "train/noisy/polyu").iterdir())[:20]]
        noisy = sorted((root / "dev/polyu").glob("*_real.JPG"))[::8][:8]
        files = [(path, path.with_name(path.name.replace("real", "mean"))) for path in noisy]
        corner = 128
    else:
        noisy = sorted((root / "dev/sidd_crops/noisy").glob("*.png"))
        train = [picture(path) for path in noisy]
        files = [(path, root / "dev/sidd_crops/clean" / path.name) for path in noisy]
        corner = 0
    part = slice(corner, corner + 128)
    return train, [(picture(one)[:, part, part], picture(other)[:, part, part]) for one, other in files]


def crops(train: list[Tensor], generator: torch.Generator) -> Tensor:
    """A batch, half of it flipped."""
    chosen = []
    for _ in range(BATCH):
        image = train[int(torch.randint(len(train), (1,), generator=generator))]
        top, left = (int(torch.randint(size - CROP + 1, (1,), generator=generator)) for size in image.shape[1:])
        crop = image[:, top : top + CROP, left : left + CROP]
        chosen.append(crop.flip(2) if torch.rand(1, generator=generator) < 0.5 else crop)
    return torch.stack(chosen)


def trained(method: AsymmetricMasks, train: list[Tensor], steps: int) -> Network:
    """The averaged network after so many steps."""
    network, average = build(UNetSpec(width=16)), build(UNetSpec(width=16)).eval()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 30) * 0.5 * (1 + math.cos(math.pi * step / steps))
        loss = method.loss(network, crops(train, generator), torch.arange(BATCH) + step * BATCH)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            decay = min(0.99, (1 + step) / (10 + step))
            for kept, new in zip(average.parameters(), network.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
    return average


def uses(method: AsymmetricMasks) -> dict[str, InferenceSpec]:
    """How a network of a method is scored."""

    def spec(pd_stride: int = 1, draws: int = 1, refine_draws: int = 0) -> InferenceSpec:
        return InferenceSpec(
            mode="multi_mask", fill=method.fill, layout=method.layout, hole=method.hole, hole_shape=method.hole_shape,
            pd_stride=pd_stride, draws=draws, refine_draws=refine_draws,
        )  # fmt: skip

    found = {"PD 1": spec(), "PD 1, R3": spec(refine_draws=8)}
    other: Layout = "lattice" if method.layout == "random" else "random"
    if method.hole == (1, 1):
        found |= {"PD 2": spec(2), "PD 2, R3": spec(2, refine_draws=8), "other layout": replace(spec(), layout=other)}
    if method.layout == "random" and method.hole == (1, 1):
        found |= {"PD 1, 8 draws": spec(draws=8), "PD 2, 8 draws": spec(2, 8)}
    return found


def main() -> None:
    """Train and score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=("polyu", "sidd"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, pairs = data_of(options.set, options.data)

    def psnr(network: Network | None, spec: InferenceSpec | None) -> float:
        values = []
        for noisy, clean in pairs:
            output = noisy if network is None or spec is None else denoise(network, noisy[None], spec)[0].clamp(0, 1)
            values.append(-10 * math.log10(float((output - clean).square().mean())))
        return sum(values) / len(values)

    print(f"{options.set}, {options.steps} steps: noisy {psnr(None, None):.2f} dB")
    for name in options.methods:
        start = time.process_time()
        network = trained(METHODS[name], train, options.steps)
        seconds = time.process_time() - start
        cells = ", ".join(f"{use} {psnr(network, spec):.2f}" for use, spec in uses(METHODS[name]).items())
        print(f"{name} ({seconds:.0f} CPU s): {cells}", flush=True)


if __name__ == "__main__":
    main()
