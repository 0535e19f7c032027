"""Noise added straight to a display image: white Gaussian (Chen et al., CVPR 2023, arXiv 2303.13132)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from noise.corruption import Corruption, Parameters, draw_seed, generator_from
from noise.display import rounded_to_8_bit, unit_float
from noise.ranges import check_range, draw_uniform


@dataclass(frozen=True, kw_only=True, slots=True)
class Gaussian:
    """White Gaussian noise of one sigma per image, independent in every pixel and channel."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["gaussian"] = "gaussian"
    """Tag of this recipe."""

    sigma: tuple[float, float] = (15.0, 15.0)
    """(lowest, highest) standard deviation in units of 1/255, drawn uniformly; equal ends give one level."""

    clip: bool = True
    """Clip the noisy image to [0, 1], as an image file does."""

    eight_bit: bool = False
    """Round it to 8 bits as well. The paper trains without and tests with."""

    def __post_init__(self) -> None:
        check_range("sigma", self.sigma)

    def draw(self, generator: torch.Generator) -> Parameters:
        """Draw one image's parameters: ``sigma`` in 1/255, and the ``seed`` of its noise."""
        return {
            "kind": self.kind,
            "sigma": draw_uniform(self.sigma, generator),
            "clip": self.clip,
            "eight_bit": self.eight_bit,
            "seed": draw_seed(generator),
        }


def add_gaussian(clean: Tensor, parameters: Parameters) -> Corruption:
    """Add the white Gaussian noise that ``parameters`` (of ``Gaussian.draw``) describe.

    Args:
        clean: (C, H, W) float in [0, 1], or uint8.
        parameters: ``sigma``, ``clip``, ``eight_bit``, ``seed``.

    Returns:
        ``noisy = clean + sigma/255 * n``, clipped to [0, 1] if ``clip``; ``clean`` is the input.
    """
    clean = unit_float(clean)
    normal = torch.randn(clean.shape, generator=generator_from(parameters), dtype=clean.dtype).to(clean.device)
    noisy = clean + parameters["sigma"] / 255.0 * normal
    # Parameters recorded before version 0.2 have no eight_bit.
    if parameters.get("eight_bit", False):
        noisy = rounded_to_8_bit(noisy)
    elif parameters["clip"]:
        noisy = noisy.clamp_(0.0, 1.0)
    return Corruption(noisy=noisy, clean=clean, parameters=parameters)
