"""What each noise model costs on one thread: nanoseconds of CPU time per raw sample, and per pixel of a whole recipe.

OMP_NUM_THREADS=1 python tests/benchmarks/bench_noise_models.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from skimage import data

from noise import tukey_lambda
from noise.camera_noise import CameraNoise
from noise.eld import DarkExposure, EldNoise
from noise.poisson_gaussian import add_poisson_gaussian
from noise.recipe import reproduce
from noise.sensor_effects import SensorEffects, add_hot_pixels, digitise, row_noise, vary_sensitivity
from noise.shot_read import NoiseLevel
from raw.rendering import Rendering

SIDE = 256


def nanoseconds(call: Callable[[], object], count: int, repeats: int = 30) -> float:
    """Best of `repeats`, in CPU time: other processes on the machine do not count."""
    call()
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time_ns()
        call()
        best = min(best, time.process_time_ns() - start)
    return best / count


def main() -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    raw = torch.rand((4, SIDE // 2, SIDE // 2), generator=generator) ** 2
    medium, high = NoiseLevel(shot=1e-3, read=1e-6), NoiseLevel(shot=1e-2, read=1e-4)
    dark = DarkExposure(
        gain=1.0, ratio=200.0, read_scale=2.0, read_shape=0.05, row_std=0.5, offsets=(0.0,) * 4, quantise=True
    )
    samples: dict[str, Callable[[], object]] = {
        "shot and read noise, Gaussian": lambda: medium.add(raw, generator),
        "Poisson-Gaussian, about 300 photons": lambda: add_poisson_gaussian(raw, medium, generator),
        "Poisson-Gaussian, about 30 photons": lambda: add_poisson_gaussian(raw, high, generator),
        "Tukey-lambda": lambda: tukey_lambda.sample((4, SIDE // 2, SIDE // 2), 0.05, generator),
        "PRNU": lambda: vary_sensitivity(raw, 0.01, generator),
        "hot pixels": lambda: add_hot_pixels(raw, 1e-3, 0.2, generator),
        "row noise": lambda: row_noise(raw, 0.01, generator, "RGGB"),
        "pedestal, rounding, clip": lambda: digitise(raw, 800, 16383),
        "ELD, all sources": lambda: dark.add(raw, generator, "RGGB"),
    }
    print(f"one thread, {SIDE}x{SIDE}\n\n| noise | ns per raw sample |\n| --- | --- |")
    for name, call in samples.items():
        print(f"| {name} | {nanoseconds(call, SIDE * SIDE):.1f} |")

    top = SIDE // 2
    clean = torch.from_numpy(data.astronaut()[:SIDE, top : top + SIDE].copy()).permute(2, 0, 1).contiguous()
    effects = SensorEffects(
        prnu=(0.01, 0.01), hot_pixels=(1e-3, 1e-3), rows=(0.1, 0.1), colour_bias=(0.1, 0.1), bits=12, black=256
    )
    recipes = {
        "camera, default": CameraNoise(),
        "camera, Poisson": CameraNoise(photons="poisson"),
        "camera, every sensor effect": CameraNoise(sensor=effects),
        "camera, Malvar + sRGB + tone curve": CameraNoise(
            rendering=Rendering(demosaic="malvar", transfer="srgb", tone="smoothstep", brighten=True)
        ),
        "camera, JPEG": CameraNoise(jpeg=(85.0, 85.0)),
        "camera, taken at twice the size": CameraNoise(resize=(0.5, 0.5)),
        "eld": EldNoise(),
    }
    print("\n| recipe, 8-bit image to pair | ns per pixel |\n| --- | --- |")
    for name, recipe in recipes.items():
        parameters = recipe.draw(torch.Generator().manual_seed(1))
        print(f"| {name} | {nanoseconds(lambda p=parameters: reproduce(clean, p), SIDE * SIDE):.0f} |")


if __name__ == "__main__":
    main()
