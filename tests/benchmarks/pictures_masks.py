"""The pictures of docs/masked-training.md: the masks, and what masked training does on noise it never saw.

    .venv/bin/python tests/benchmarks/pictures_masks.py docs/pictures
    .venv/bin/python tests/benchmarks/pictures_masks.py docs/pictures --runs runs/masked --photo kodim07

The photograph of the masks is scikit-image's `astronaut` (NASA, public domain).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from models.masks import attention_mask, complementary_masks, hide, input_mask
from noise import Gaussian, corrupt
from pipeline.data.images import from_float

Pixels = NDArray[np.uint8]

PANEL, GAP, CAPTION, TEXT = 320, 12, 46, 16
CROP, WINDOW = 64, 8
ZOOM = 32
"""Tokens across the panels of the attention masks."""

SIDE = 112
"""Of the part that is shown of results."""

HIDDEN = (0.16, 0.22, 0.42)
LINE, THICK = (255, 170, 0), (255, 60, 60)
PARTS = ((0.90, 0.62, 0.0), (0.34, 0.71, 0.91), (0.0, 0.62, 0.45), (0.8, 0.47, 0.65))


def enlarged(image: Tensor) -> Pixels:
    """(PANEL, PANEL, 3) of a small (3, H, H) picture, nearest neighbour."""
    pixels = from_float(image.clamp(0, 1).permute(1, 2, 0).numpy(), np.uint8)
    times = PANEL // pixels.shape[0]
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def painted(image: Tensor, mask: Tensor, colour: Sequence[float] = HIDDEN) -> Tensor:
    """(3, H, W) with the hidden pixels of (H, W) in a colour."""
    return torch.where(mask, torch.tensor(colour)[:, None, None], image)


def gridded(panel: Pixels, tokens: int, shift: int, marked: tuple[int, int]) -> Pixels:
    """Lines around the windows, whose corners lie at multiples of the window plus ``shift``, and one in red."""
    picture = Image.fromarray(panel)
    draw = ImageDraw.Draw(picture)
    scale = PANEL // tokens
    for at in range(shift, tokens, WINDOW):
        draw.line([(at * scale, 0), (at * scale, PANEL)], LINE, 2)
        draw.line([(0, at * scale), (PANEL, at * scale)], LINE, 2)
    top, left = (at * scale for at in marked)
    draw.rectangle([left, top, left + WINDOW * scale, top + WINDOW * scale], outline=THICK, width=4)
    return np.asarray(picture)


def sheet(panels: Sequence[Sequence[tuple[str, Pixels]]], caption: int = CAPTION) -> Image.Image:
    """Panels in rows, each with a caption above."""
    height = max(panel.shape[0] for row in panels for _, panel in row)
    width = max(panel.shape[1] for row in panels for _, panel in row)
    columns = max(map(len, panels))
    size = (columns * (width + GAP) - GAP, len(panels) * (height + caption + GAP) - GAP)
    picture = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(TEXT)
    for row, cells in enumerate(panels):
        for column, (text, panel) in enumerate(cells):
            left, top = column * (width + GAP), row * (height + caption + GAP)
            draw.multiline_text((left, top + 2), text, fill="black", font=font, spacing=3)
            picture.paste(Image.fromarray(panel), (left, top + caption))
    return picture


def draw_masks(path: Path) -> None:
    """What is hidden where."""
    from skimage import data

    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[:, 70 : 70 + 2 * CROP, 164 : 164 + 2 * CROP].float()
    clean = torch.nn.functional.avg_pool2d(photo, 2) / 255
    noisy = corrupt(clean, Gaussian(), torch.Generator().manual_seed(1)).noisy
    seeds = torch.tensor([7])
    hidden = input_mask(seeds, 0.8, CROP, CROP)
    seen = hide(noisy[None], hidden, -0.1)[0]
    pixels = [
        ("a noisy crop, 64x64 pixels\n(Gaussian noise of sigma 15)", noisy),
        ("input mask: 80 % of the pixels\nhidden (blue), new for every crop", painted(noisy.new_ones(1), hidden[0, 0])),
        ("what the network sees: hidden pixels\nare -0.1 (blue); target: the clean crop", painted(seen, hidden[0, 0])),
    ]
    attention = []
    for layer, shift, text in (
        (0, 0, "attention mask of block 1 (a quarter of it):\n75 % of tokens hidden; windows of 8x8"),
        (1, WINDOW // 2, "block 2: a mask of its own; windows\nshifted by 4 across the old borders"),
    ):
        mask = attention_mask(seeds, 0.75, layer, CROP, CROP)[0, :ZOOM, :ZOOM]
        # The top left tokens: there a shifted map has the windows that the border cuts.
        panel = enlarged(painted(0.55 + 0.45 * clean[:, :ZOOM, :ZOOM], mask))
        attention.append((text, gridded(panel, ZOOM, shift, (WINDOW + shift, WINDOW + shift))))
    masks = complementary_masks(seeds, len(PARTS), ZOOM, ZOOM)[:, 0, 0]
    parts = torch.stack([torch.tensor(colour) for colour in PARTS])
    colours = (masks[:, None].float() * parts[:, :, None, None]).sum(0)
    text = "for contrast, complementary masks (here 4):\neach pixel is hidden in one, its colour"
    attention.append((text, enlarged(colours)))
    sheet([[(text, enlarged(image)) for text, image in pixels], attention]).save(path, optimize=True)


def draw_results(path: Path, runs: Path, photo: str, noises: Sequence[str]) -> None:
    """A part of one photograph under several noises: noisy, and as networks without and with masks leave it."""
    from masked_experiment import MODES, NOISES, Network

    from pipeline.data.images import read_image, to_float
    from pipeline.evaluation.metrics import psnr_rgb_u8

    who = {
        "without masks": Network(runs / "runs" / "none-0" / "weights", MODES["off"]),
        "both masks": Network(runs / "runs" / "both-0" / "weights", MODES["seeded"]),
    }
    rows = []
    for noise in noises:
        kind, level = NOISES[noise]
        noisy, clean = (
            to_float(read_image(runs / "test" / f"{kind}-{level}" / part / f"{photo}.png").pixels)
            for part in ("noisy", "clean")
        )
        results = {noise: noisy, **{name: network(noisy) for name, network in who.items()}}
        cells = [(f"{name}\n{psnr_rgb_u8(image, clean):.1f} dB", image) for name, image in results.items()]
        top, left = ((size - SIDE) // 2 for size in clean.shape[:2])
        rows.append(
            [
                (text, from_float(image[top : top + SIDE, left : left + SIDE], np.uint8).repeat(2, 0).repeat(2, 1))
                for text, image in [*cells, ("clean", clean)]
            ]
        )
    sheet(rows).save(path, optimize=True)


def main() -> None:
    """Write masks.png, and with --runs masked-vs-none.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=Path, help="--out of masked_experiment.py")
    parser.add_argument("--photo", default="kodim07")
    parser.add_argument("--noises", nargs="+", default=["Gaussian 15", "Poisson 3.5"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    draw_masks(options.folder / "masks.png")
    if options.runs is not None:
        draw_results(options.folder / "masked-vs-none.png", options.runs, options.photo, options.noises)


if __name__ == "__main__":
    main()
