"""Noise in the shadows of real photos beside that of camera noise recipes, at the same colour and deviation.

    OMP_NUM_THREADS=1 python tests/benchmarks/shadow_noise.py ../shared/data/dev/sidd_crops sidd_04 [--levels 40,60,90]

Of the red channel of a pair: where the clean side is within two of a level, the noise's mean, deviation, skewness,
median, 99th percentile (in 1/255) and the share of zeros. Below it the same of flat areas of the mean colour that these
pixels have, taken back to raw by eight random cameras; shot noise is set so that the deviation is that of the photo,
and read noise follows the line of Brooks et al., or a part of it.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from numpy.typing import NDArray

from noise.finish import camera_of, draw_camera
from noise.poisson_gaussian import add_poisson_gaussian
from noise.shot_read import READ_INTERCEPT, READ_SLOPE, NoiseLevel
from raw.isp import process
from raw.rendering import Rendering, displayed

CAMERAS = 8
SIDE = 40
HALVINGS = 20
RENDERINGS = {
    "gamma": Rendering(demosaic="malvar", clip_black=False),
    "and smoothstep": Rendering(demosaic="malvar", clip_black=False, tone="smoothstep"),
}
WAYS = [
    ("gamma", "gaussian", 1.0, 0.0),
    ("gamma", "poisson", 1.0, 0.0),
    ("gamma", "poisson", 0.1, 0.0),
    ("gamma", "poisson", 0.1, 0.002),
    ("gamma", "poisson", 0.01, 0.002),
    ("and smoothstep", "poisson", 0.1, 0.002),
]
Values = NDArray[np.float64]


def row(name: str, noise: Values, zeros: float) -> str:
    """One line of the table."""
    spread = noise.std()
    skew = ((noise - noise.mean()) ** 3).mean() / spread**3
    cells = [f"{noise.mean():.1f}", f"{spread:.1f}", f"{skew:.2f}", f"{np.median(noise):.0f}"]
    return f"| {name} | {' | '.join([*cells, f'{np.percentile(noise, 99):.0f}', f'{zeros:.0%}'])} |"


def flat(colour: Values, way: tuple[str, str, float, float], shot: float) -> tuple[Values, float]:
    """Noise of the red channel of flat areas, in 1/255, and its share of zeros."""
    tone, photons, part, error = way
    rendering = RENDERINGS[tone]
    light = torch.linspace(0, 1, 4097)
    linear = light[torch.searchsorted(displayed(light, rendering), torch.tensor(colour / 255).float())]
    level = NoiseLevel(shot=shot, read=part * math.exp(READ_SLOPE * math.log(shot) + READ_INTERCEPT))
    found, zeros = [], []
    for seed in range(CAMERAS):
        generator = torch.Generator().manual_seed(seed)
        camera = camera_of(draw_camera(generator), torch.device("cpu"))
        planes = (camera.rgb2cam @ linear)[[0, 1, 1, 2]] / camera.plane_gains - error
        raw = planes.clamp(min=0)[:, None, None].expand(4, SIDE, SIDE)
        noisy = add_poisson_gaussian(raw, level, generator) if photons == "poisson" else level.add(raw, generator)
        both = [(255 * process(one + error, camera, rendering)[0]).round().double().numpy() for one in (noisy, raw)]
        found.append((both[0] - both[1]).ravel())
        zeros.append((both[0] == 0).mean())
    return np.concatenate(found), float(np.mean(zeros))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("name")
    parser.add_argument("--levels", default="40,60,90")
    options = parser.parse_args()
    noisy, clean = (
        iio.imread(next((options.pairs / side).glob(f"{options.name}.*"))).astype(float) for side in ("noisy", "clean")
    )
    print("| level | mean | deviation | skewness | median | 99th percentile | zeros |\n|---|---|---|---|---|---|---|")
    for level in map(int, options.levels.split(",")):
        here = abs(clean[..., 0] - level) <= 2
        colour = clean[here].mean(0)
        noise = (noisy - clean)[..., 0][here]
        print(row(f"{level}: {options.name}", noise, float((noisy[..., 0][here] == 0).mean())))
        for way in WAYS:
            low, high = 1e-5, 1.0
            for _ in range(HALVINGS):
                shot = math.sqrt(low * high)
                made, zeros = flat(colour, way, shot)
                low, high = (shot, high) if made.std() < noise.std() else (low, shot)
            tone, photons, part, error = way
            print(row(f"{tone}, {photons}, read noise x {part:g}, black off by {error:g}", made, zeros), flush=True)


if __name__ == "__main__":
    main()
