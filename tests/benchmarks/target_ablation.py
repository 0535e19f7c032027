"""What each step from a teacher's outputs to a target gains: strides, recharging, the Wiener filter, brightening.

    OMP_NUM_THREADS=1 python tests/benchmarks/target_ablation.py [--limit 6] NAME=DATA:RUN ...

RUN is the folder of a run that has a teacher. Each photograph is denoised once at strides 1 to 6; every row combines
these outputs in another way. Mean of `psnr_rgb_u8` over evenly spaced pairs, photographs of more than 0.3 megapixels
by their centre of 512x512; in brackets the least gain of an image over the noisy one. Clean images are read here only.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import noise.wiener
from noise.measured import measure_noise
from noise.recharge import recharge
from pipeline.evaluation.baselines import nlm
from pipeline.evaluation.cases import PairCase
from pipeline.evaluation.datasets import find_pairs, spread
from pipeline.evaluation.metrics import measure
from pipeline.inference.averaged import average_strides, brightened
from pipeline.inference.denoiser import load_denoiser

STRIDES = range(1, 7)
LARGE, SIDE = 300_000, 512


def combined(noisy: np.ndarray, outputs: dict[int, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield every combination by name."""

    def made(strides: range, **options: float) -> np.ndarray:
        return average_strides(noisy, outputs.__getitem__, strides=strides, **options)

    yield "noisy", noisy
    yield "NLM, estimated sigma", nlm(noisy)
    for stride in STRIDES:
        yield f"stride {stride} alone", outputs[stride]
    for last in (3, 4, 5, 6):
        yield f"mean of 1 to {last}", made(range(1, last + 1), margin=0, strength=0)
        yield f"mean of 1 to {last}, recharged", made(range(1, last + 1), strength=0)
        yield f"mean of 1 to {last}, recharged, Wiener", made(range(1, last + 1))
    five = range(1, 6)
    for margin in (1.5, 2.0, 4.0):
        yield f"1 to 5, recharged with margin {margin:g}, no Wiener", made(five, margin=margin, strength=0)
    yield "1 to 5, Wiener with the mean as pilot", made(five, margin=0)
    yield "1 to 5, Wiener with the recharged mean as pilot", on_recharged(noisy, outputs)
    for strength in (1.0, 1.5, 3.0):
        yield f"1 to 5, Wiener of strength {strength:g}", made(five, strength=strength)
    kept = noise.wiener._SIDE, noise.wiener._STEP
    for side, step in ((16, 8), (24, 6), (32, 8)):
        noise.wiener._SIDE, noise.wiener._STEP = side, step
        yield f"1 to 5, windows of {side}, a step of {step}", made(five)
    noise.wiener._SIDE, noise.wiener._STEP = kept
    yield "the target: 1 to 5, brightened", brightened(noisy, made(five))


def on_recharged(noisy: np.ndarray, outputs: dict[int, np.ndarray]) -> np.ndarray:
    """Filter with a pilot that is the recharged mean alone."""
    photo, *blind = (torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))) for image in (
        noisy, *(outputs[stride] for stride in range(1, 6))
    ))  # fmt: skip
    mean = sum(blind[1:], blind[0]) / len(blind)
    pilot = recharge(photo, [mean, blind[0]])
    filtered = noise.wiener.wiener(photo, pilot, measure_noise(photo, mean.clamp(0, 1)))
    return filtered.numpy().transpose(1, 2, 0)


def score(data: str, run: Path, limit: int) -> dict[str, list[float]]:
    """Measure every combination on every pair."""
    teacher = load_denoiser(str(run / "teacher"))
    found: dict[str, list[float]] = {}
    for pair in spread(find_pairs(data).pairs, limit):
        noisy, clean = PairCase(*pair).read()
        if noisy.shape[0] * noisy.shape[1] > LARGE:
            top, left = ((length - SIDE) // 2 for length in noisy.shape[:2])
            noisy, clean = (image[top : top + SIDE, left : left + SIDE] for image in (noisy, clean))
        outputs = {
            stride: teacher.using(replace(teacher.inference, pd_stride=stride))(noisy) for stride in STRIDES
        }  # fmt: skip
        for name, image in combined(noisy, outputs):
            found.setdefault(name, []).append(measure(np.clip(image, 0, 1), clean)["psnr_rgb_u8"])
        print(f"  {pair.name}", flush=True)
    return found


def main() -> None:
    """Score what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="NAME=DATA:RUN")
    parser.add_argument("--limit", type=int, default=6, help="pairs of each set, evenly spaced")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for text in options.sets:
        name, _, places = text.partition("=")
        data, _, run = places.rpartition(":")
        results[name] = score(data, Path(run), options.limit)
    print("| | " + " | ".join(f"{name} ({len(found['noisy'])})" for name, found in results.items()) + " |")
    print("|---|" + "---|" * len(results))
    for row in next(iter(results.values())):
        cells = []
        for found in results.values():
            gain = min(np.subtract(found[row], found["noisy"]))
            cells.append(f"{np.mean(found[row]):.2f} ({gain:+.1f})")
        print(f"| {row} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
