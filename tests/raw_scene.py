"""Raw files that tests make: a photograph taken back to raw, with known noise, as a DNG of any Bayer pattern."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from noise.shot_read import NoiseLevel
from raw.camera import sample_camera
from raw.cfa import CFAPattern
from raw.dng import write_dng
from raw.isp import unprocess
from raw.levels import Levels, denormalise
from raw.raw_file import Shot

BLACK = (2048.0, 2049.0, 2050.0, 2051.0)
WHITE = 15000


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A written raw and what it would be without noise."""

    path: Path
    noisy: NDArray[np.uint16]
    clean: NDArray[np.uint16]

    def psnr(self, mosaic: NDArray[np.uint16]) -> float:
        """PSNR of a mosaic against the clean one; black 0, white 1."""
        error = (mosaic.astype(np.float64) - self.clean) / (WHITE - np.mean(BLACK))
        return float(-10 * np.log10(np.mean(error**2)))


def write_scene(
    path: Path,
    photo: NDArray[np.uint8],
    level: NoiseLevel,
    *,
    pattern: CFAPattern = "RGGB",
    size: tuple[int, int] | None = None,
    profile: bool = True,
    model: str = "Camera X",
    seed: int = 0,
) -> Scene:
    """Write a DNG of a photograph; ``size`` cuts the mosaic, also to odd sides."""
    camera = replace(sample_camera(torch.Generator().manual_seed(1)), pattern=pattern)
    packed = unprocess(torch.from_numpy(photo.transpose(2, 0, 1) / 255.0).float(), camera)
    levels = Levels(pattern=pattern, black_levels=BLACK, white_level=WHITE)
    height, width = size or photo.shape[:2]
    clean, noisy = (
        denormalise(planes.numpy(), levels)[:height, :width]
        for planes in (packed, level.add(packed, torch.Generator().manual_seed(seed)))
    )
    write_dng(
        path,
        noisy,
        pattern=pattern,
        black_levels=BLACK,
        white_level=WHITE,
        white_balance=(camera.red_gain.item(), 1.0, camera.blue_gain.item()),
        rgb_cam=camera.cam2rgb.numpy(),
        noise=[(level.shot, level.read)] if profile else None,
        make="Made",
        model=model,
        flip=6,
        shot=Shot(iso=1600, exposure_time=1 / 60, aperture=2.8, taken="2024:02:29 23:59:58"),
    )
    return Scene(path=path, noisy=noisy, clean=clean)
