"""Attention masks off, seeded, or averaged over K draws: what each gains, what it costs, and what mending levels adds.

    OMP_NUM_THREADS=1 python tests/benchmarks/inference_modes.py WEIGHTS... --shared ../shared/data [--most 16]

For each masked Swin: mean PSNR (`psnr_rgb_u8`) over centre crops of 256x256 of real and synthetic pairs, with the
network's levels kept and mended, CPU-seconds a megapixel, and how large the offsets were. Ensembles are nested, as in
`models.denoise`: K draws are the first K of 16. Prints the tables of docs/results/inference-modes.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models import InferenceSpec, Network, correct_offset, denoise, load, measure_offset
from noise import Gaussian, Poisson, SaltPepper, corrupt
from noise.recipe import NoiseRecipe
from pipeline.data.images import read_image, to_float
from pipeline.evaluation.datasets import find_pairs, spread
from pipeline.evaluation.metrics import psnr_rgb_u8

SIDE = 256
DRAWS = (1, 2, 4, 8, 16)
RECIPES: dict[str, NoiseRecipe] = {
    "Gaussian 15": Gaussian(sigma=(15.0, 15.0)),
    "Poisson 2": Poisson(alpha=(2.0, 2.0)),
    "salt & pepper 0.02": SaltPepper(density=(0.02, 0.02)),
}
PAIRS = {"PolyU": "dev/polyu", "CC60": "dev/cc60"}
Pair = tuple[Tensor, Tensor]


def centre(path: Path) -> Tensor:
    pixels = to_float(read_image(path).pixels)
    top, left = ((length - SIDE) // 2 for length in pixels.shape[:2])
    return torch.from_numpy(pixels[top : top + SIDE, left : left + SIDE, :3].transpose(2, 0, 1).copy())


def sets(shared: Path, crops: int) -> dict[str, list[Pair]]:
    """Noisy and clean crops by the name of the set."""
    found = {}
    for name, folder in PAIRS.items():
        found[name] = [
            (centre(pair.noisy), centre(pair.clean)) for pair in spread(find_pairs(shared / folder).pairs, crops)
        ]
    clean = [centre(path) for path in sorted((shared / "dev" / "kodak24").glob("*.png"))]
    clean = [clean[index * len(clean) // crops] for index in range(crops)]
    for name, recipe in RECIPES.items():
        generator = torch.Generator().manual_seed(0)
        found[name] = [(rounded(corrupt(image, recipe, generator).noisy), image) for image in clean]
    return found


def rounded(image: Tensor) -> Tensor:
    return (image.clamp(0, 1) * 255).round() / 255


def psnr(image: Tensor, clean: Tensor) -> float:
    return psnr_rgb_u8(image.permute(1, 2, 0).numpy(), clean.permute(1, 2, 0).numpy())


def outputs(network: Network, noisy: Tensor, spec: InferenceSpec, most: int) -> Iterator[tuple[str, Tensor, float]]:
    """Mode, output and CPU-seconds: off, then ensembles of 1, 2, 4, ... draws."""
    start = time.process_time()
    yield "off", denoise(network, noisy[None], replace(spec, attention="off", draws=1))[0], time.process_time() - start
    if not network.stochastic:
        return
    total, seconds = torch.zeros_like(noisy), 0.0
    previous = 0
    for draws in (draws for draws in DRAWS if draws <= most):
        start = time.process_time()
        # The draws of the smaller ensemble are the first ones of the larger.
        while previous < draws:
            single = draw_alone(network, noisy, spec, previous)
            total += single
            previous += 1
        seconds += time.process_time() - start
        yield ("seeded" if draws == 1 else f"ensemble {draws}"), total / draws, seconds


def draw_alone(network: Network, noisy: Tensor, spec: InferenceSpec, draw: int) -> Tensor:
    from models import fold
    from models.multi_mask import sub_image_seeds

    seeds = sub_image_seeds(torch.tensor([fold(spec.seed, draw)]), 1)
    with torch.inference_mode():
        return network(noisy[None], seeds=seeds)[0]


def measure(path: Path, data: dict[str, list[Pair]], most: int) -> None:
    loaded = load(path / "weights" if (path / "weights").is_dir() else path)
    network, spec = loaded.network, replace(loaded.inference, mode="direct", pd_stride=1, offset="keep")
    check(network, spec, data)
    print(f"\n### {path.name}: {loaded.spec.kind}, {sum(p.numel() for p in network.parameters()):,} parameters\n")
    print("| | CPU s / MP | " + " | ".join(data) + " |")
    print("|---|---|" + "---|" * len(data))
    usual = "seeded" if network.stochastic else "off"
    scores: dict[tuple[str, str], dict[str, list[float]]] = {}
    seconds: dict[str, list[float]] = {}
    offsets: dict[str, list[tuple[float, float, bool]]] = {}
    for name, pairs in data.items():
        for noisy, clean in pairs:
            scores.setdefault(("noisy", ""), {}).setdefault(name, []).append(psnr(noisy, clean))
            for mode, output, spent in outputs(network, noisy, spec, most):
                seconds.setdefault(mode, []).append(spent)
                for how in ("keep", "level"):
                    value = psnr(correct_offset(noisy, output, how), clean)  # type: ignore[arg-type]
                    scores.setdefault((mode, how), {}).setdefault(name, []).append(value)
                found = measure_offset(noisy, output)
                if found and mode == usual:
                    largest = max(map(abs, found.mean))
                    offsets.setdefault(name, []).append((255 * largest, 255 * found.smooth, found.visible))
    for (mode, how), row in scores.items():
        label = f"{mode}, levels mended" if how == "level" else mode
        cost = f"{np.mean(seconds[mode]) / SIDE**2 * 1e6:.1f}" if mode in seconds and how == "keep" else ""
        print(f"| {label} | {cost} | " + " | ".join(f"{np.mean(row[name]):.2f}" for name in data) + " |")
    gains = [np.subtract(scores[usual, "level"][name], scores[usual, "keep"][name]) for name in data]
    print(f"| {usual}: least gain by mending | | " + " | ".join(f"{gain.min():+.2f}" for gain in gains) + " |")
    cells = [np.array(offsets.get(name, [(np.nan, np.nan, False)])) for name in data]
    print("| largest channel mean, /255 | | " + " | ".join(f"{cell[:, 0].mean():.1f}" for cell in cells) + " |")
    print("| smooth offset, /255 | | " + " | ".join(f"{cell[:, 1].mean():.1f}" for cell in cells) + " |")
    print("| visible | | " + " | ".join(f"{int(cell[:, 2].sum())} of {len(cell)}" for cell in cells) + " |", flush=True)


def check(network: Network, spec: InferenceSpec, data: dict[str, list[Pair]]) -> None:
    """Stop if the draws put together here are not those of `models.denoise`."""
    if not network.stochastic:
        return
    noisy = next(iter(data.values()))[0][0][:, :64, :64]
    expected = denoise(network, noisy[None], replace(spec, attention="ensemble", draws=2))[0]
    mean = (draw_alone(network, noisy, spec, 0) + draw_alone(network, noisy, spec, 1)) / 2
    torch.testing.assert_close(mean, expected, rtol=0, atol=1e-5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--crops", type=int, default=8)
    parser.add_argument("--most", type=int, default=DRAWS[-1], help="largest ensemble")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = sets(options.shared, options.crops)
    for path in options.weights:
        measure(path, data, options.most)


if __name__ == "__main__":
    main()
