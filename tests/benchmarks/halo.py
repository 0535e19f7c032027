"""How far a masked Swin's pixels see, and what a tile's halo must be for the seams not to show.

    OMP_NUM_THREADS=1 python tests/benchmarks/halo.py IMAGE [WEIGHTS...] [--paper]

"reach": the farthest pixel that moves by more than 1/512 (half a step of 8 bits), and by a tenth of that, when one
pixel jumps by at least half the range. "halo h": four tiles of 128 of a 256x256 image with noise of sigma 15 against
the whole image: largest difference in units of 1/255, and the share of 8-bit values that differ. ``--paper`` adds the
paper's size with random weights three times as large as those of short trainings.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from models import InferenceSpec, MaskedSwinSpec, Network, build, denoise, load
from pipeline.data.images import read_image, to_float

SIDE, TILE = 256, 128
HALOS = (8, 16, 24, 32, 48, 64)
PLACES = ((0, 0), (3, 5), (4, 4), (7, 2))


def networks(paths: list[Path], paper: bool) -> Iterator[tuple[str, Network]]:
    for path in paths:
        loaded = load(path / "weights" if (path / "weights").is_dir() else path)
        yield f"{path.name} (dim {loaded.spec.dim}, {sum(loaded.spec.depths)} blocks)", loaded.network
    if paper:
        network = build(MaskedSwinSpec()).eval()
        generator = torch.Generator().manual_seed(1)
        for name, parameter in network.named_parameters():
            if name.endswith("weight") and (".attention." in name or ".mlp." in name):
                torch.nn.init.normal_(parameter, std=0.1, generator=generator)
            if "bias_table" in name:
                torch.nn.init.normal_(parameter, std=0.3, generator=generator)
        yield "paper's size, random", network


@torch.inference_mode()
def reach(network: Network, image: Tensor, seeds: Tensor | None) -> tuple[int, int]:
    """Distances at which a jump of one pixel moves others by 1/512 and by a tenth of that."""
    before = network(image, seeds=seeds)
    farthest = [0, 0]
    for down, right in PLACES:
        row, column = SIDE // 2 + down, SIDE // 2 + right
        changed = image.clone()
        changed[..., row, column] = (image[..., row, column] < 0.5).float()
        moved = (network(changed, seeds=seeds) - before).abs().amax((0, 1))
        for index, threshold in enumerate((1 / 512, 1 / 5120)):
            places = (moved > threshold).nonzero()
            if len(places):
                farthest[index] = max(farthest[index], int((places - torch.tensor([row, column])).abs().max()))
    return farthest[0], farthest[1]


def seams(network: Network, image: Tensor, attention: str) -> Iterator[tuple[float, float]]:
    spec = InferenceSpec(attention=attention)  # type: ignore[arg-type]  # "seeded" or "off"
    whole = denoise(network, image, spec, tile=SIDE)
    for halo in HALOS:
        tiled = denoise(network, image, InferenceSpec(attention=attention, halo=halo), tile=TILE)  # type: ignore[arg-type]
        differs = (tiled.clamp(0, 1) * 255).round() != (whole.clamp(0, 1) * 255).round()
        yield 255 * float((tiled - whole).abs().max()), float(differs.float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("weights", type=Path, nargs="*")
    parser.add_argument("--paper", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pixels = torch.from_numpy(to_float(read_image(options.image).pixels)).permute(2, 0, 1)[None, :3, :SIDE, :SIDE]
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
    image = (pixels + 15 / 255 * noise).clamp(0, 1)
    print("| network | attention | reach 1/512 | reach 1/5120 | " + " | ".join(f"halo {h}" for h in HALOS) + " |")
    print("|---" * (4 + len(HALOS)) + "|")
    for name, network in networks(options.weights, options.paper):
        for attention in ("seeded", "off"):
            seen = reach(network, image, torch.tensor([0]) if attention == "seeded" else None)
            cells = [f"{largest:.2f} ({share:.3%})" for largest, share in seams(network, image, attention)]
            print(f"| {name} | {attention} | {seen[0]} | {seen[1]} | {' | '.join(cells)} |", flush=True)
    print(f"\npeak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
