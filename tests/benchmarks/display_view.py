"""How linear light is best shown to a network of display pictures: curves compared on renderings with a reference.

    python -m tests.benchmarks.display_view FOLDER MODEL...

FOLDER has noisy*.exr beside reference*.exr, at any depth. For each model, rendering and curve: PSNR of both pictures
after the same exposure, Reinhard's operator and the sRGB curve; and the mean squared relative error where the reference
is beyond white at that exposure.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models import DisplayView
from pipeline.data.exr import read_exr
from pipeline.data.light import encode_light
from pipeline.data.renders import find_renderings
from pipeline.inference.denoiser import load_denoiser
from pipeline.inference.light_view import view_of_light

SIDE = 384
CURVES = {
    "linear": {"curve": None, "shoulder": math.inf},
    "sRGB": {"shoulder": math.inf},
    "k=1": {"shoulder": 1.0},
    "k=0.5": {"shoulder": 0.5},
    "k=0.25": {"shoulder": 0.25},
    "k=0.1": {"shoulder": 0.1},
}


def score(found: NDArray[np.float32], reference: NDArray[np.float32], exposure: float) -> str:
    """Return PSNR in dB and the relative error beyond white."""

    def toned(light: NDArray[np.float32]) -> NDArray[np.float64]:
        exposed = np.clip(light, 0, None) * exposure
        return encode_light(exposed / (1 + exposed))

    psnr = -10 * math.log10(float(np.mean((toned(found) - toned(reference)) ** 2)))
    bright = reference.max(axis=-1) * exposure > 1
    error = float(np.mean((found[bright] / reference[bright].clip(1e-3) - 1) ** 2)) if bright.any() else math.nan
    return f"{psnr:.2f}/{error:.3f}"


def main() -> None:
    """Print a line a model and rendering."""
    print("model", "rendering", "noisy", *CURVES, sep="\t")
    for model in sys.argv[2:]:
        denoiser = load_denoiser(model)
        for rendering in find_renderings(Path(sys.argv[1])):
            noisy, reference = (read_exr(path)[:SIDE, :SIDE] for path in (rendering.noisy, rendering.reference))
            view = view_of_light(noisy)
            row = [score(noisy, reference, view.exposure)]
            for changes in CURVES.values():
                one: DisplayView = replace(view, **changes)
                seen = one.show(noisy)
                light = one.take_back(denoiser(seen), float(np.abs(seen).max()))
                row.append(score(light, reference, view.exposure))
            print(
                Path(model).parent.name,
                rendering.relative.parent.name,
                rendering.noisy.stem,
                *row,
                sep="\t",
                flush=True,
            )


if __name__ == "__main__":
    main()
