"""Whether a network for raw should be told the noise level wrong in training, since it will be told it wrong later.

    OMP_NUM_THREADS=1 python tests/benchmarks/raw_level_error.py ../shared/data/train/clean/bsds500 \\
        ../shared/data/dev/kodak24 [--errors 0 0.15 0.4] [--steps 800] [method.error=log_mse ...]

A small network (width 16, depth 1) of the preset `shipped_raw` for each `data.raw_level_error`, one seed. Scored on the
middles (128x128 pixels) of twelve test pictures, taken back to raw with light 1 and 0.3 in turn, with the level
told 0.5, 0.7, 1, 1.4 and 2 times: mean PSNR in dB of the planes after a square root, the light of the picture being 1.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from models import Network, build
from noise.finish import photograph
from noise.shot_read import NoiseLevel
from pipeline.config import load_config
from pipeline.data.folders import scan
from pipeline.data.images import read_image, to_float
from pipeline.data.raw_source import Floats, level_on_curve, off_curve, on_curve
from pipeline.data.source import batch_source
from pipeline.training.batches import to_device
from pipeline.training.intake import read_source
from pipeline.training.step import StepSettings, TrainState, train_step
from raw.camera import sample_camera

LEVELS = (
    NoiseLevel(shot=3e-4, read=2e-6),
    NoiseLevel(shot=4e-3, read=2e-5),
    NoiseLevel(shot=2e-2, read=4e-4),
)
FACTORS = (0.5, 0.7, 1.0, 1.4, 2.0)
SETTINGS = ("data.crop=24", "network.width=16", "network.depth=1", "optimizer.lr=3e-3", "optimizer.ema_decay=0.99",
            "optimizer.precision=float32")  # fmt: skip
CPU = torch.device("cpu")


def trained(folder: Path, error: float, steps: int, overrides: list[str]) -> Network:
    """The averaged weights of a short training."""
    settings = [*SETTINGS, f"data.raw_level_error={error}", *overrides]
    config = load_config(preset="shipped_raw", overrides=settings, data=str(folder))
    source = batch_source(read_source(config, lambda *_: None)[0])
    optimizer = StepSettings(**config.optimizer.model_dump())
    state = TrainState(build(config.network, seed=config.seed), optimizer)
    for index in range(steps):
        batch = to_device(source.batch(index, range(config.training.batch)), config, CPU)
        train_step(state, batch, config.method, optimizer, index / steps)
    return state.average


def pictures(folder: Path) -> list[tuple[torch.Tensor, float]]:
    """Clean planes, and the light that they were taken at."""
    made = []
    for index, file in enumerate(scan([folder])[:12]):
        pixels = to_float(read_image(file.path).pixels)[..., :3]
        top, left = (length // 4 * 2 - 64 for length in pixels.shape[:2])
        cut = torch.from_numpy(pixels[top : top + 128, left : left + 128].transpose(2, 0, 1).copy())
        light = 0.3 if index % 2 else 1.0
        made.append((photograph(cut, sample_camera(torch.Generator().manual_seed(index))) * light, light))
    return made


@torch.no_grad()
def denoised(network: Network, noisy: Floats, told: NoiseLevel) -> Floats:
    """What the network makes of planes."""
    noise = torch.tensor([level_on_curve(told, "stabilised")])
    output = network(torch.from_numpy(on_curve(noisy, told, "stabilised"))[None], noise=noise)
    return off_curve(output[0].numpy(), told, "stabilised")


def main() -> None:
    """Print a row for each error and level."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--errors", type=float, nargs="+", default=[0.0, 0.15, 0.4])
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()
    taken = pictures(arguments.test)
    print("| shot, read | error | " + " | ".join(f"told {factor:g} times" for factor in FACTORS) + " |", flush=True)
    for error in arguments.errors:
        network = trained(arguments.train, error, arguments.steps, arguments.overrides)
        for level in LEVELS:
            scores = []
            for factor in FACTORS:
                told, errors = NoiseLevel(shot=level.shot * factor, read=level.read * factor), []
                for seed, (clean, light) in enumerate(taken):
                    noisy = level.add(clean, torch.Generator().manual_seed(seed)).clamp_max(1.0).numpy()
                    made = np.clip(denoised(network, noisy, told) / light, 0, None)
                    errors.append(-10 * np.log10(np.mean((np.sqrt(made) - np.sqrt(clean.numpy() / light)) ** 2)))
                scores.append(float(np.mean(errors)))
            row = " | ".join(f"{score:.2f}" for score in scores)
            print(f"| {level.shot:g}, {level.read:g} | {error:g} | {row} |", flush=True)


if __name__ == "__main__":
    main()
