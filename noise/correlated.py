"""Noise of a finished photograph, drawn at random: correlated in space and between channels, and following the level.

A camera's own pipeline, its noise reduction and resizing included, is rarely known. What arrives in the files is noise
whose luminance and colour parts are blurred differently and whose strength depends on the level. This recipe draws
those three facts instead of the pipeline that made them:

    n_c = sqrt(s) * (k_b * w_0) + sqrt(1 - s) * (k_d * w_c),    y_c = x_c + sigma_c(x_c) * n_c

with w white and normal, k_b and k_d Gaussian kernels that leave the variance 1, b <= d, s the luminance's share.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from noise.corruption import Corruption, Parameters, draw_seed, generator_from
from noise.display import rounded_to_8_bit, unit_float
from noise.ranges import check_range, draw_log_uniform, draw_uniform
from raw.jpeg import Subsampling, jpeg


@dataclass(frozen=True, kw_only=True, slots=True)
class Correlated:
    """Coloured noise of a random blur, mixed from luminance and chroma, of a strength that follows the level."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["correlated"] = "correlated"
    """Tag of this recipe."""

    sigma: tuple[float, float] = (2.0, 30.0)
    """(lowest, highest) standard deviation at mid-grey in units of 1/255, drawn evenly by factors; lowest above 0."""

    blur: tuple[float, float] = (0.0, 1.0)
    """(lowest, highest) standard deviation in pixels of the blur of the luminance noise, at most 4."""

    chroma_blur: tuple[float, float] = (0.0, 1.5)
    """The same of what the blur of the colour noise has more, in pixels, at most 8."""

    luminance: tuple[float, float] = (0.0, 0.9)
    """(lowest, highest) share of the variance that all channels have in common, at most 1."""

    gain: float = 0.4
    """Largest natural logarithm, up or down, by which a channel's sigma differs from the drawn one; at most 2."""

    tilt: tuple[float, float] = (0.0, 0.8)
    """(lowest, highest) share by which sigma falls towards white and rises towards black, at most 1."""

    ends: tuple[float, float] = (0.0, 0.6)
    """(lowest, highest) share of sigma that a tone curve takes at black and white, at most 1."""

    jpeg: tuple[float, float] | None = None
    """(lowest, highest) JPEG quality, 1 to 100, of half of the noisy images; None writes none."""

    subsampling: Subsampling = "4:2:0"
    """Chroma subsampling of the JPEG."""

    def __post_init__(self) -> None:
        check_range("sigma", self.sigma, above_zero=True)
        check_range("blur", self.blur, highest=4.0)
        check_range("chroma_blur", self.chroma_blur, highest=8.0)
        check_range("luminance", self.luminance, highest=1.0)
        check_range("gain", (0.0, self.gain), highest=2.0)
        check_range("tilt", self.tilt, highest=1.0)
        check_range("ends", self.ends, highest=1.0)
        if self.jpeg is not None:
            check_range("jpeg", self.jpeg, least=1, highest=100)
        if self.subsampling not in get_args(Subsampling):
            raise ValueError(f"subsampling must be one of {', '.join(get_args(Subsampling))}; got {self.subsampling!r}")

    def draw(self, generator: torch.Generator) -> Parameters:
        """Draw one image's noise as JSON values: ``sigma`` per channel in 1/255, blurs, shares, and the ``seed``."""
        sigma = draw_log_uniform(self.sigma, generator)
        blur = draw_uniform(self.blur, generator)
        quality = None
        if self.jpeg is not None and draw_uniform((0.0, 1.0), generator) < 0.5:
            quality = round(draw_uniform(self.jpeg, generator))
        return {
            "kind": self.kind,
            "sigma": [sigma * math.exp(draw_uniform((-self.gain, self.gain), generator)) for _ in range(3)],
            "blur": blur,
            "chroma_blur": blur + draw_uniform(self.chroma_blur, generator),
            "luminance": draw_uniform(self.luminance, generator),
            "tilt": draw_uniform(self.tilt, generator),
            "ends": draw_uniform(self.ends, generator),
            "jpeg": quality,
            "subsampling": self.subsampling,
            "seed": draw_seed(generator),
        }


def add_correlated(clean: Tensor, parameters: Parameters) -> Corruption:
    """Add the noise that ``parameters`` (of ``Correlated.draw``) describe.

    Args:
        clean: (3, H, W) float in [0, 1], or uint8.
        parameters: as drawn.

    Returns:
        ``noisy`` clipped to [0, 1] and rounded to 8 bits, through JPEG where that was drawn; ``clean`` is the input.

    Raises:
        ValueError: ``clean`` does not have three channels.
    """
    clean = unit_float(clean)
    if clean.ndim != 3 or clean.shape[0] != 3:
        raise ValueError(f"correlated noise needs an image of shape (3, H, W), got {tuple(clean.shape)}")
    height, width = clean.shape[-2:]
    generator = generator_from(parameters)
    share = parameters["luminance"]
    common = _blurred(1, height, width, parameters["blur"], generator)
    own = _blurred(3, height, width, parameters["chroma_blur"], generator)
    noise = math.sqrt(share) * common + math.sqrt(1.0 - share) * own
    noise = noise.to(clean.device, clean.dtype)
    sigma = torch.tensor(parameters["sigma"], dtype=clean.dtype, device=clean.device).view(3, 1, 1) / 255.0
    noisy = rounded_to_8_bit(clean + sigma * _by_level(clean, parameters["tilt"], parameters["ends"]) * noise)
    if parameters["jpeg"] is not None:
        noisy = jpeg(noisy, parameters["jpeg"], parameters["subsampling"])
    return Corruption(noisy=noisy, clean=clean, parameters=parameters)


def _by_level(level: Tensor, tilt: float, ends: float) -> Tensor:
    """Factor on sigma, 1 at mid-grey: a line in the level, less what a tone curve takes at its flat ends."""
    return (1.0 + tilt * (1.0 - 2.0 * level)) * (1.0 - ends * (2.0 * level - 1.0).square())


def _blurred(channels: int, height: int, width: int, blur: float, generator: torch.Generator) -> Tensor:
    """White noise (channels, H, W) under a Gaussian of ``blur`` pixels: variance 1, at the border as inside."""
    radius = math.ceil(3.0 * blur)
    white = torch.randn(channels, 1, height + 2 * radius, width + 2 * radius, generator=generator)
    if radius:
        positions = torch.arange(-radius, radius + 1, dtype=torch.float32)
        kernel = torch.exp(-0.5 * (positions / blur).square())
        kernel = kernel / kernel.square().sum().sqrt()
        white = F.conv2d(F.conv2d(white, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return white[:, 0]
