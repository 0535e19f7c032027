"""The pictures of docs/camera-noise.md: the stages of the camera, and noise before and after it.

.venv/bin/python tests/benchmarks/pictures_camera.py docs/pictures
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from noise.shot_read import NoiseLevel
from raw.camera import Camera
from raw.color import apply_ccm
from raw.demosaic import demosaic
from raw.isp import process, unprocess
from raw.mosaic import unpack
from raw.rendering import Rendering
from raw.tone import inverse_smoothstep, linearize

LEVEL = NoiseLevel(shot=0.01, read=1.5e-4)
LAGS = 4


def camera() -> Camera:
    """A camera in the middle of the sampled range."""
    rgb2cam = torch.tensor([[0.6456, 0.2715, 0.0829], [0.0826, 0.7558, 0.1616], [0.0145, 0.2249, 0.7606]])
    return Camera(
        rgb2cam=rgb2cam / rgb2cam.sum(dim=-1, keepdim=True),
        rgb_gain=torch.tensor(1.25),
        red_gain=torch.tensor(2.1),
        blue_gain=torch.tensor(1.7),
    )


def coloured(packed: Tensor) -> Tensor:
    """(3, H, W): a mosaic with every sample in the colour of its filter."""
    flat = unpack(packed, "RGGB")
    out = torch.zeros(3, *flat.shape)
    out[0, 0::2, 0::2] = flat[0::2, 0::2]
    out[1, 0::2, 1::2] = flat[0::2, 1::2]
    out[1, 1::2, 0::2] = flat[1::2, 0::2]
    out[2, 1::2, 1::2] = flat[1::2, 1::2]
    return out


def stages() -> list[tuple[str, Tensor]]:
    """Captions and pictures (3, H, W) of the way to raw and back."""
    from skimage import data

    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[:, 20:180, 140:300].float() / 255.0
    which = camera()
    raw = unprocess(photo, which)
    noisy = LEVEL.add(raw, torch.Generator().manual_seed(1))
    balanced = (noisy * which.plane_gains[:, None, None]).clamp(0, 1)
    full = demosaic(balanced)
    return [
        ("sRGB photograph", photo),
        ("tone curve undone", inverse_smoothstep(photo)),
        ("gamma undone: linear", linearize(photo)),
        ("camera colours", apply_ccm(linearize(photo), which.rgb2cam)),
        ("gains undone, mosaic", coloured(raw)),
        ("shot and read noise", coloured(noisy)),
        ("white balance, clip", coloured(balanced)),
        ("demosaic", full),
        ("colour matrix", apply_ccm(full, which.cam2rgb)),
        ("gamma: noisy sRGB", process(noisy, which)),
        ("the target: without noise", process(raw, which)),
        ("difference, times 3", 0.5 + 3 * (process(noisy, which) - process(raw, which))),
    ]


def draw_stages(path: Path) -> None:
    """A grid of the stages."""
    figure, axes = plt.subplots(3, 4, figsize=(10, 8.1), layout="constrained")
    for (caption, image), axis in zip(stages(), axes.flat, strict=True):
        axis.imshow(image.clamp(0, 1).permute(1, 2, 0).numpy(), interpolation="nearest")
        axis.set_title(caption, fontsize=10)
        axis.axis("off")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def autocorrelation(residual: Tensor) -> np.ndarray:
    """(2 LAGS + 1, 2 LAGS + 1) of one channel (H, W), zero lag in the middle."""
    centred = (residual - residual.mean()).double()
    spectrum = torch.fft.fft2(centred).abs().square()
    full = torch.fft.fftshift(torch.fft.ifft2(spectrum).real)
    row, column = (size // 2 for size in full.shape)
    return (full / full[row, column])[row - LAGS : row + LAGS + 1, column - LAGS : column + LAGS + 1].numpy()


def draw_noise(path: Path) -> None:
    """Noise of a grey field in raw and in three renderings, with its autocorrelation and its channels'."""
    which = camera()
    grey = torch.full((3, 512, 512), 0.5)
    raw = unprocess(grey, which)
    noisy = LEVEL.add(raw, torch.Generator().manual_seed(2))
    cases = [("one plane of the raw", (noisy - raw)[1:2].expand(3, -1, -1))]
    for caption, rendering in (
        ("sRGB, bilinear", Rendering()),
        ("sRGB, Malvar", Rendering(demosaic="malvar")),
        ("sRGB, bilinear, tone curve", Rendering(tone="smoothstep", brighten=True)),
    ):
        cases.append((caption, process(noisy, which, rendering) - process(raw, which, rendering)))
    figure, axes = plt.subplots(2, len(cases), figsize=(11, 5.9), layout="constrained")
    for index, (caption, residual) in enumerate(cases):
        centre = residual[:, 200:264, 200:264]
        deviation = residual.std()
        axes[0, index].imshow((0.5 + centre / (6 * deviation)).clamp(0, 1).permute(1, 2, 0), interpolation="nearest")
        axes[0, index].set_title(f"{caption}\nsd {255 * deviation:.1f} of 255", fontsize=10)
        axes[0, index].axis("off")
        correlation = autocorrelation(residual[1])
        axes[1, index].imshow(correlation, cmap="RdBu_r", vmin=-1, vmax=1, extent=(-4.5, 4.5, 4.5, -4.5))
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                value = correlation[LAGS + dy, LAGS + dx]
                ink = "white" if abs(value) > 0.6 else "black"
                axes[1, index].text(dx, dy, f"{value:.2f}", ha="center", va="center", fontsize=7, color=ink)
        between = torch.corrcoef(residual.flatten(1))
        caption = "green against its neighbours"
        if index:
            caption += f"\nR-G {between[0, 1]:.2f}, G-B {between[1, 2]:.2f}, R-B {between[0, 2]:.2f}"
        axes[1, index].set_title(caption, fontsize=9)
        axes[1, index].set_xticks(range(-LAGS, LAGS + 1, 2))
        axes[1, index].set_yticks(range(-LAGS, LAGS + 1, 2))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Write both pictures into a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    draw_stages(folder / "camera-stages.png")
    draw_noise(folder / "camera-noise.png")


if __name__ == "__main__":
    main()
