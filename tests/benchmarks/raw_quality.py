"""A model for raw against classical filters, on photographs taken back to raw, where the truth is known.

    OMP_NUM_THREADS=1 python tests/benchmarks/raw_quality.py ../shared/data/dev/kodak24 --model runs/raw \\
        [--pictures 6] [--side 256] [--levels 1e-4,1e-6 1e-3,1e-5 4e-3,2e-5 2e-2,4e-4] [--told 1.0]
        [--photons gaussian] [--out raw.json]

Each picture's middle is photographed by a camera of its own, in the CFA patterns RGGB, GBRG and BGGR in turn, with
the light of the picture times 0.1, 0.3 or 1 in turn. Its noise, photons counted one by one unless told, cut off at
white and stored as 14-bit numbers, is taken out by the path of `unveil denoise` (`RawDenoiser.mosaic`), which is told
the true level times `--told`. The classical filters work on the four planes, on the same curve, with the level that
is told; of each the best of three strengths for a level, which reads the clean pictures, so theirs are upper bounds.
Scored: mean PSNR in dB of the mosaic, black 0 and white 1 of the light, linear and after a square root. "as
predicted" is the model without the local means of the file kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from noise.camera_noise import expose
from noise.finish import photograph
from noise.shot_read import NoiseLevel
from noise.stabilised import deviation, restore, stabilise
from pipeline.data.folders import scan
from pipeline.data.images import read_image, to_float
from pipeline.data.raw_source import as_rggb
from pipeline.evaluation.baselines import BASELINES
from pipeline.inference.denoiser import load_denoiser
from pipeline.inference.raw_denoiser import RawDenoiser
from raw.camera import sample_camera
from raw.cfa import CFAPattern
from raw.dng import write_dng
from raw.files import read_raw
from raw.levels import Levels, denormalise, normalise

Floats = NDArray[np.float32]
PATTERNS: tuple[CFAPattern, ...] = ("RGGB", "GBRG", "BGGR")
LIGHTS = (0.1, 0.3, 1.0)
STRENGTHS = (0.7, 1.0, 1.4)
BLACK, WHITE = 1024, 16383


class Taken:
    """A raw of a picture, and the light that it is of."""

    def __init__(self, picture: Path, index: int, side: int, level: NoiseLevel, folder: Path, photons: str) -> None:
        pixels = to_float(read_image(picture).pixels)[..., :3]
        top, left = (max(length - side, 0) // 4 * 2 for length in pixels.shape[:2])
        cut = torch.from_numpy(pixels[top : top + side, left : left + side].transpose(2, 0, 1).copy())
        self.pattern = PATTERNS[index % len(PATTERNS)]
        camera = replace(sample_camera(torch.Generator().manual_seed(index)), pattern=self.pattern)
        self.light = LIGHTS[index // len(PATTERNS) % len(LIGHTS)]
        light = photograph(cut, camera) * self.light
        self.clean: Floats = light.numpy()
        noisy = expose(light, level, {"photons": photons, "seed": 1000 + index}).clamp_max(1.0).numpy()
        self.levels = Levels(pattern=self.pattern, black_levels=(float(BLACK),) * 4, white_level=WHITE)
        path = folder / f"{picture.stem}.dng"
        write_dng(
            path, denormalise(noisy, self.levels), pattern=self.pattern, black_levels=(float(BLACK),) * 4,
            white_level=WHITE,
        )  # fmt: skip
        self.raw = read_raw(path)
        assert self.raw.mosaic is not None
        self.noisy: Floats = self.planes(self.raw.mosaic)

    def planes(self, mosaic: NDArray[np.uint16]) -> Floats:
        """Linear planes R, Gr, Gb, B as they lie in the file."""
        return normalise(mosaic, self.levels)

    def psnr(self, planes: Floats) -> tuple[float, float]:
        """Linear, and after a root; the light of the picture is 1."""
        return _psnr(planes / self.light, self.clean / self.light), _psnr(
            np.sqrt(np.clip(planes / self.light, 0, None)), np.sqrt(self.clean / self.light)
        )


def _psnr(one: Floats, other: Floats) -> float:
    return float(-10 * np.log10(np.mean(np.square(one.astype(np.float64) - other))))


def classical(name: str, planes: Floats, level: NoiseLevel, strength: float) -> Floats:
    """A filter of single planes on the curve on which the noise is one."""
    shown, sigma = stabilise(planes, level), strength * deviation(level)
    low, span = shown.min(), max(float(np.ptp(shown)), 1e-6)
    made = [BASELINES[name]((plane[..., None] - low) / span, sigma / span)[..., 0] * span + low for plane in shown]
    return restore(np.stack(made), level)


def rows_of(told: NoiseLevel, taken: list[Taken], model: RawDenoiser) -> dict[str, tuple[float, float]]:
    """Name of what was done -> (linear, root)."""

    def mean(made: Callable[[Taken], Floats]) -> tuple[float, float]:
        linear, root = np.array([one.psnr(made(one)) for one in taken]).mean(0)
        return float(linear), float(root)

    def predicted(one: Taken) -> Floats:
        seen = np.ascontiguousarray(as_rggb(one.noisy, one.pattern))
        return as_rggb(restore(model.predicted(seen, told), told), one.pattern)

    found = {
        "noisy": mean(lambda one: one.noisy),
        "model": mean(lambda one: one.planes(model.mosaic(one.raw, told))),
        "model, as predicted": mean(predicted),
    }
    for name in ("nlm", "bm3d"):
        if name in BASELINES:
            tried = [mean(lambda one, n=name, s=s: classical(n, one.noisy, told, s)) for s in STRENGTHS]  # type: ignore[misc]
            found[f"{name}, best of three strengths"] = max(tried, key=lambda pair: pair[1])
    return found


def main() -> None:
    """Print a table."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--levels", nargs="+", default=["1e-4,1e-6", "1e-3,1e-5", "4e-3,2e-5", "2e-2,4e-4"])
    parser.add_argument("--told", type=float, default=1.0)
    parser.add_argument("--photons", choices=["gaussian", "poisson"], default="poisson")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    model = RawDenoiser(load_denoiser(arguments.model))
    files = [source.path for source in scan([arguments.folder])][: arguments.pictures]
    table: dict[str, dict[str, tuple[float, float]]] = {}
    for text in arguments.levels:
        shot, read = map(float, text.split(","))
        level = NoiseLevel(shot=shot, read=read)
        told = NoiseLevel(shot=shot * arguments.told, read=read * arguments.told)
        with tempfile.TemporaryDirectory() as folder:
            taken = [
                Taken(path, index, arguments.side, level, Path(folder), arguments.photons)
                for index, path in enumerate(files)
            ]
            table[text] = rows_of(told, taken, model)
        print(f"{text}: {table[text]}", flush=True)
    names = table[arguments.levels[0]]
    print(f"\n| shot, read ({len(files)} pictures) | " + " | ".join(f"{name}: root (linear)" for name in names) + " |")
    print("|" + " --- |" * (1 + len(names)))
    for text, row in table.items():
        print(f"| {text} | " + " | ".join(f"{root:.2f} ({linear:.2f})" for linear, root in row.values()) + " |")
    if arguments.out:
        arguments.out.write_text(json.dumps(table, indent=1), "utf-8")


if __name__ == "__main__":
    main()
