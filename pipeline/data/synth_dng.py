"""The raw of a made-up camera as a DNG, so that any raw converter can open it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.data.images import replacing

if TYPE_CHECKING:
    from torch import Tensor

    from noise.raw_pair import RawPair
    from noise.shot_read import NoiseLevel


def write_raw(path: Path, packed: Tensor, pair: RawPair, noise: NoiseLevel | None) -> None:
    """Write a CFA DNG with the levels, colours and white balance of the pair's camera, whole or not at all.

    Args:
        path: the file.
        packed: (4, H/2, W/2), black 0, white 1; rounded to the sensor's integers and clipped to its range.
        pair: camera and levels.
        noise: goes into NoiseProfile; None writes none.
    """
    from raw.dng import write_dng
    from raw.levels import Levels, denormalise

    camera, black = pair.camera, float(pair.black)
    levels = Levels(pattern=camera.pattern, black_levels=(black,) * 4, white_level=pair.white)
    with replacing(path) as temporary:
        write_dng(
            temporary,
            denormalise(packed.numpy(), levels),
            pattern=camera.pattern,
            black_levels=levels.black_levels,
            white_level=levels.white_level,
            white_balance=(camera.red_gain.item(), 1.0, camera.blue_gain.item()),
            rgb_cam=camera.cam2rgb.numpy(),
            noise=None if noise is None else [(noise.shot, noise.read)],
            make="unveil",
            model="unveil synthetic camera",
        )
