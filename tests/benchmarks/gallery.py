"""A sheet of the hardest pictures of a model, chosen by rule: nobody picks the nice ones.

    .venv/bin/python tests/benchmarks/gallery.py docs/pictures/gallery.jpg [--model default] [--pairs FOLDER]

Without ``--pairs``: 256x256 pixels of scikit-image's `astronaut` (NASA, public domain), `chelsea`, `coffee` and
`rocket` (CC0), which no shipped model was trained on, each under eight noises with seeds: camera noise at three
levels, in a camera JPEG, correlated noise, and the three strongest white noises of the masked-training paper. With
``--pairs`` the noisy and clean pictures of a folder, as `unveil evaluate --data` finds them.

The rule: of all pictures the three of lowest PSNR after denoising, the three of smallest gain (worse ones, if any,
come first), the three of largest mean error of a colour, and three in the middle of the gains; none twice. Shown is
the square of 160 pixels in which most error is left. Error is denoised less clean, eight times, on grey.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy.ndimage import uniform_filter

from noise import Choice, Correlated, Gaussian, Poisson, Spatial, corrupt
from noise.camera_noise import CameraNoise
from noise.levels import LevelLine
from pipeline.data.images import from_float
from pipeline.evaluation.case_sets import data_set
from pipeline.evaluation.cases import checked
from pipeline.evaluation.contact_sheet import lay_out, level_text
from pipeline.evaluation.metrics import psnr_rgb_u8
from pipeline.inference.denoiser import NetworkDenoiser, load_denoiser
from raw.rendering import Rendering

Floats = NDArray[np.float32]
SIDE, WINDOW = 256, 160
_PHONE = Rendering(demosaic="malvar", clip_black=False)
NOISES = (
    CameraNoise(levels=LevelLine(shot=(0.001, 0.001)), rendering=_PHONE),
    CameraNoise(levels=LevelLine(shot=(0.006, 0.006)), rendering=_PHONE),
    CameraNoise(levels=LevelLine(shot=(0.02, 0.02)), rendering=_PHONE, exposure=(0.3, 0.3)),
    CameraNoise(levels=LevelLine(shot=(0.004, 0.004)), rendering=_PHONE, jpeg=(80.0, 80.0), resize=(0.7, 0.7)),
    Correlated(sigma=(15.0, 15.0), blur=(0.8, 0.8), chroma_blur=(1.0, 1.0)),
    Gaussian(sigma=(50.0, 50.0), eight_bit=True),
    Poisson(alpha=(3.5, 3.5)),
    Spatial(sigma=(60.0, 60.0)),
)


class Shown(NamedTuple):
    """One picture, before and after."""

    name: str
    noisy: Floats
    clean: Floats
    denoised: Floats

    def psnr(self) -> float:
        return psnr_rgb_u8(self.denoised, self.clean)

    def gain(self) -> float:
        return self.psnr() - psnr_rgb_u8(self.noisy, self.clean)

    def drift(self) -> float:
        return float(np.abs((self.denoised - self.clean).mean(axis=(0, 1))).max())


def synthetic() -> list[tuple[str, Floats, Floats]]:
    """The pairs made of scikit-image's photographs."""
    import skimage.data

    pairs = []
    for place, name in enumerate(("astronaut", "chelsea", "coffee", "rocket")):
        photo = getattr(skimage.data, name)()
        top, left = ((length - SIDE) // 2 for length in photo.shape[:2])
        image = torch.from_numpy(photo[top : top + SIDE, left : left + SIDE].copy()).permute(2, 0, 1)
        for number, recipe in enumerate(NOISES):
            made = corrupt(image, Choice(recipes=(recipe,)), torch.Generator().manual_seed(100 * place + number))
            noisy, clean = (np.clip(side.permute(1, 2, 0).numpy(), 0, 1) for side in (made.noisy, made.clean))
            pairs.append((f"{name}, {level_text(made.parameters)}", noisy, clean))
    return pairs


def real(folder: Path) -> list[tuple[str, Floats, Floats]]:
    """The pairs of a folder."""
    pairs = []
    for case in data_set(folder).cases:
        noisy, clean = checked(case, 11)
        assert clean is not None
        pairs.append((case.name, noisy, clean))
    return pairs


def denoise_all(denoiser: NetworkDenoiser, pairs: list[tuple[str, Floats, Floats]]) -> list[Shown]:
    """Denoise every noisy picture."""
    return [Shown(name, noisy, clean, np.clip(denoiser(noisy), 0, 1)) for name, noisy, clean in pairs]


def hardest(pictures: list[Shown], each: int = 3) -> list[tuple[str, Shown]]:
    """The pictures that the rule chooses, with the reason."""
    by_gain = sorted(pictures, key=Shown.gain)
    middle = max(0, len(by_gain) // 2 - each // 2)
    orders = {
        "lowest PSNR": sorted(pictures, key=Shown.psnr),
        "smallest gain": by_gain,
        "largest drift": sorted(pictures, key=Shown.drift, reverse=True),
        "middle": by_gain[middle:],
    }
    chosen: list[tuple[str, Shown]] = []
    for reason, order in orders.items():
        fresh = [one for one in order if all(one is not other for _, other in chosen)]
        chosen += [(reason, one) for one in fresh[:each]]
    return chosen


def row(one: Shown) -> list[NDArray[np.uint8]]:
    """Noisy, denoised, clean and error of the square with most error."""
    error = np.square(one.denoised - one.clean).mean(axis=2)
    side = min(WINDOW, *error.shape)
    half = side // 2
    mean = uniform_filter(error, side)[half : error.shape[0] - side + half + 1, half : error.shape[1] - side + half + 1]
    top, left = np.unravel_index(int(mean.argmax()), mean.shape)
    window = np.s_[top : top + side, left : left + side]
    crops = (one.noisy, one.denoised, one.clean, 0.5 + 8 * (one.denoised - one.clean))
    return [from_float(np.clip(crop[window], 0, 1), np.uint8) for crop in crops]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--pairs", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs = synthetic() if options.pairs is None else real(options.pairs)
    pictures = denoise_all(load_denoiser(options.model, "cpu"), pairs)
    gains = [one.gain() for one in pictures]
    print(f"{len(pictures)} pictures, gain {np.mean(gains):.2f} dB on average, {min(gains):.2f} at least")
    chosen = hardest(pictures)
    captions = [
        f"{reason}: {one.name}   {one.psnr() - one.gain():.1f} -> {one.psnr():.1f} dB, drift {255 * one.drift():.1f}"
        for reason, one in chosen
    ]
    for caption in captions:
        print(caption)
    sheet = lay_out([row(one) for _, one in chosen], captions, ("noisy", "denoised", "clean", "error x 8"))
    Picture.fromarray(sheet).save(options.out, quality=85)


if __name__ == "__main__":
    main()
