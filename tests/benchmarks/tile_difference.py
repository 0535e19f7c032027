"""How much tiling changes the output of trained weights.

    .venv/bin/python tests/benchmarks/tile_difference.py WEIGHTS IMAGE [--tiles 256,512] [--halos 16,32,64] [--sigma 15]

The whole image, with Gaussian noise of sigma/255 added, against the same in tiles, both as `models.denoise` computes
them, in units of 1/255: the largest and the mean difference, and the share of 8-bit values that differ.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from models import denoise, load
from pipeline.data.images import read_image, to_float


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--tiles", type=numbers, default=[256, 512])
    parser.add_argument("--halos", type=numbers, default=[16, 32, 64])
    parser.add_argument("--sigma", type=float, default=15.0)
    arguments = parser.parse_args()
    loaded = load(arguments.weights)
    image = torch.from_numpy(to_float(read_image(arguments.image).pixels)).permute(2, 0, 1)[None, :3]
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    pixels = (image + arguments.sigma / 255 * noise).clamp(0, 1)
    # One pass, without draws to average: tiles differ most there.
    spec = replace(loaded.inference, mode="direct", draws=1, pd_stride=1)
    whole = denoise(loaded.network, pixels, spec, tile=max(pixels.shape[-2:]))
    print(f"{loaded.spec.kind}, {arguments.image.name} {tuple(pixels.shape[-2:])}")
    print("| tile | halo | largest, /255 | mean, /255 | 8-bit values that differ |")
    print("|---|---|---|---|---|")
    for tile in arguments.tiles:
        for halo in arguments.halos:
            tiled = denoise(loaded.network, pixels, replace(spec, halo=halo), tile=tile)
            error = (tiled - whole).abs() * 255
            bytes_differ = ((tiled.clamp(0, 1) * 255).round() != (whole.clamp(0, 1) * 255).round()).float().mean()
            print(f"| {tile} | {halo} | {error.max():.3f} | {error.mean():.4f} | {float(bytes_differ):.3%} |")


if __name__ == "__main__":
    main()
