"""Noise added straight to a display image: white Gaussian."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from noise.corruption import Corruption, Parameters, draw_seed, generator_from


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

    def __post_init__(self) -> None:
        low, high = self.sigma
        if not 0 <= low <= high < math.inf:
            raise ValueError(f"sigma must be a range 0 <= lowest <= highest, got {self.sigma}")

    def draw(self, generator: torch.Generator) -> Parameters:
        """Draw one image's parameters: ``sigma`` in 1/255, ``clip``, and the ``seed`` of its noise."""
        low, high = self.sigma
        uniform = torch.rand((), generator=generator, dtype=torch.float64, device=generator.device).item()
        sigma = low + (high - low) * uniform
        return {"kind": self.kind, "sigma": sigma, "clip": self.clip, "seed": draw_seed(generator)}


def add_gaussian(clean: Tensor, parameters: Parameters) -> Corruption:
    """Add the white Gaussian noise that ``parameters`` (of ``Gaussian.draw``) describe.

    Args:
        clean: (C, H, W) float in [0, 1].
        parameters: ``sigma``, ``clip``, ``seed``.

    Returns:
        ``noisy = clean + sigma/255 * n``, clipped to [0, 1] if ``clip``; ``clean`` is the input.
    """
    normal = torch.randn(clean.shape, generator=generator_from(parameters), dtype=clean.dtype).to(clean.device)
    noisy = clean + parameters["sigma"] / 255.0 * normal
    if parameters["clip"]:
        noisy = noisy.clamp_(0.0, 1.0)
    return Corruption(noisy=noisy, clean=clean, parameters=parameters)
