"""Noise as a camera makes it: added to the raw, then developed with the image (Brooks et al., CVPR 2019).

After white balance, demosaicing, colour correction and gamma the noise depends on the signal, is correlated
over about two pixels and between the channels, and does not have zero mean.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from noise.corruption import Corruption, Parameters, draw_seed, generator_from
from noise.shot_read import SHOT_RANGE, NoiseLevel, sample_noise_level
from raw.camera import Camera, sample_camera
from raw.isp import process, unprocess


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraNoise:
    """Shot and read noise of a random camera at a random noise level, one draw per image."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["camera"] = "camera"
    """Tag of this recipe."""

    shot: tuple[float, float] = SHOT_RANGE
    """(lowest, highest) shot coefficient, drawn log-uniformly; read noise follows from it."""

    def __post_init__(self) -> None:
        low, high = self.shot
        if not 0 < low <= high <= 1:
            raise ValueError(f"shot must be a range 0 < lowest <= highest <= 1, got {self.shot}")

    def draw(self, generator: torch.Generator) -> Parameters:
        """Draw one image's camera, noise level and noise ``seed``, in that order, as JSON values."""
        camera = sample_camera(generator)
        level = sample_noise_level(generator, shot=self.shot)
        return {
            "kind": self.kind,
            "rgb2cam": camera.rgb2cam.tolist(),
            "rgb_gain": camera.rgb_gain.item(),
            "red_gain": camera.red_gain.item(),
            "blue_gain": camera.blue_gain.item(),
            "pattern": camera.pattern,
            "shot": level.shot,
            "read": level.read,
            "seed": draw_seed(generator),
        }


def add_camera_noise(clean: Tensor, parameters: Parameters) -> Corruption:
    """Unprocess, add shot and read noise, process: ``noisy`` with noise, ``clean`` without.

    Args:
        clean: (3, H, W) sRGB; float in [0, 1], or uint8. Odd sizes are extended by one repeated row or column
            for the mosaic and cut back afterwards.
        parameters: of ``CameraNoise.draw``.

    Returns:
        Both images (3, H, W) float32 in [0, 1]. ``clean`` is ``process(noise-free raw)``, *not* the input:
        the pipeline darkens and softens, and the only error left for a denoiser to remove must be the
        noise.

    Raises:
        ValueError: ``clean`` does not have three channels.
    """
    height, width = clean.shape[-2:]
    camera = _camera_of(parameters).to(clean.device)
    level = NoiseLevel(shot=parameters["shot"], read=parameters["read"])
    raw = unprocess(_extend_to_even(clean), camera)
    noisy = process(level.add(raw, generator_from(parameters)), camera)
    target = process(raw, camera)
    return Corruption(noisy=noisy[..., :height, :width], clean=target[..., :height, :width], parameters=parameters)


def _camera_of(parameters: Parameters) -> Camera:
    return Camera(
        rgb2cam=torch.tensor(parameters["rgb2cam"]),
        rgb_gain=torch.tensor(parameters["rgb_gain"]),
        red_gain=torch.tensor(parameters["red_gain"]),
        blue_gain=torch.tensor(parameters["blue_gain"]),
        pattern=parameters["pattern"],
    )


def _extend_to_even(image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    if height % 2 == 0 and width % 2 == 0:
        return image
    rows = torch.arange(height + height % 2, device=image.device).clamp(max=height - 1)
    columns = torch.arange(width + width % 2, device=image.device).clamp(max=width - 1)
    return image[..., rows, :][..., columns]
