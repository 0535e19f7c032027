"""The two ends that the camera noise models share: from an image to a noise-free raw, and from two raws to a pair.

What happens to whom: the noisy and the clean raw are developed alike, with one tone curve, and resized alike, because
a denoiser must neither re-grade nor sharpen. JPEG is put on the noisy image only: its blocks and lost chroma are damage
that the camera did, like noise, and the clean image must not teach a network to make them.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from noise.corruption import Corruption, Parameters
from noise.display import unit_float
from raw.camera import Camera, sample_camera
from raw.cfa import CFA_PATTERNS, CFAPattern
from raw.isp import process, unprocess
from raw.jpeg import jpeg
from raw.rendering import Rendering
from raw.resize import resize

PatternChoice = Literal[CFAPattern, "random"]
"""One CFA pattern, or one drawn for each image."""


def check_pattern(pattern: str) -> None:
    """Refuse what is no ``PatternChoice``.

    Raises:
        ValueError: it is not.
    """
    choices = get_args(PatternChoice)
    if pattern not in choices:
        raise ValueError(f"pattern must be one of {', '.join(choices)}; got {pattern!r}")


def draw_camera(generator: torch.Generator) -> Parameters:
    """Draw a camera (``raw.camera.sample_camera``) as JSON values."""
    camera = sample_camera(generator)
    return {
        "rgb2cam": camera.rgb2cam.tolist(),
        "rgb_gain": camera.rgb_gain.item(),
        "red_gain": camera.red_gain.item(),
        "blue_gain": camera.blue_gain.item(),
        "pattern": camera.pattern,
    }


def draw_pattern(generator: torch.Generator, pattern: PatternChoice) -> CFAPattern:
    """Return ``pattern``, or draw one; a fixed one draws nothing."""
    if pattern != "random":
        return pattern
    return CFA_PATTERNS[int(torch.randint(len(CFA_PATTERNS), (), generator=generator, device=generator.device).item())]


def camera_of(parameters: Parameters, device: torch.device) -> Camera:
    """The camera that ``draw_camera`` wrote down, on ``device``."""
    camera = Camera(
        rgb2cam=torch.tensor(parameters["rgb2cam"]),
        rgb_gain=torch.tensor(parameters["rgb_gain"]),
        red_gain=torch.tensor(parameters["red_gain"]),
        blue_gain=torch.tensor(parameters["blue_gain"]),
        pattern=parameters["pattern"],
    )
    return camera.to(device)


def photograph(clean: Tensor, camera: Camera, scale: float | None = None) -> Tensor:
    """The raw without noise that ``camera`` records of a picture.

    Args:
        clean: (3, H, W) sRGB; float in [0, 1], or uint8. Odd sizes are extended by one repeated row or column.
        camera: the camera.
        scale: of the finished image, against the size it was taken at: the picture is enlarged by ``1 / scale`` first.

    Returns:
        Packed raw, linear, black 0, white 1.

    Raises:
        ValueError: ``clean`` does not have three channels.
    """
    if scale is None:
        return unprocess(_extend_to_even(clean), camera)
    height, width = (2 * max(round(side / scale / 2), 1) for side in clean.shape[-2:])
    return unprocess(resize(unit_float(clean), height, width), camera)


def develop(noisy: Tensor, clean: Tensor, camera: Camera, parameters: Parameters, size: torch.Size) -> Corruption:
    """Develop two raws into a pair of images of one size.

    Args:
        noisy: packed raw with noise.
        clean: the packed raw of ``photograph``.
        camera: the camera.
        parameters: ``rendering``, ``scale``, ``jpeg`` and ``subsampling``, each off where it is missing or None.
        size: (H, W) of the pair.
    """
    rendering = Rendering(**parameters.get("rendering", {}))
    # Not as one batch of two: it is no sooner, and a matrix product rounds differently at another size.
    noisy_image, clean_image = (_finished(process(raw, camera, rendering), parameters, size) for raw in (noisy, clean))
    if parameters.get("jpeg") is not None:
        noisy_image = jpeg(noisy_image, parameters["jpeg"], parameters["subsampling"])
    return Corruption(noisy=noisy_image, clean=clean_image, parameters=parameters)


def _finished(image: Tensor, parameters: Parameters, size: torch.Size) -> Tensor:
    if parameters.get("scale") is None:
        return image[..., : size[0], : size[1]]
    return resize(image, *size)


def _extend_to_even(image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    if height % 2 == 0 and width % 2 == 0:
        return image
    rows = torch.arange(height + height % 2, device=image.device).clamp(max=height - 1)
    columns = torch.arange(width + width % 2, device=image.device).clamp(max=width - 1)
    return image[..., rows, :][..., columns]
