"""Photon noise on a display image, with a gain: the Poisson noise of Chen et al. (CVPR 2023, arXiv 2303.13132).

Not what a camera does (that acts on linear raw, see ``noise.camera_noise``), but what denoisers are tested on.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from noise.corruption import Corruption, Parameters, draw_seed, generator_from
from noise.display import rounded_to_8_bit, unit_float
from noise.ranges import check_range, draw_uniform


@dataclass(frozen=True, kw_only=True, slots=True)
class Poisson:
    """``J = I + alpha (Poisson(I V) / V - I)``: Poisson noise at V photons for white, its noise times alpha."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["poisson"] = "poisson"
    """Tag of this recipe."""

    alpha: tuple[float, float] = (2.5, 2.5)
    """(lowest, highest) gain on the noise, drawn uniformly. The paper: 2, 2.5, 3 and 3.5."""

    white: int | None = None
    """Photons at white, V. Left out: the paper's rule, the number of distinct 8-bit values of the image rounded up
    to a power of two, so 256 for nearly every photo but less for small crops."""

    eight_bit: bool = True
    """Clip to [0, 1] and round to 8 bits as the paper's files; else leave what the formula gives."""

    def __post_init__(self) -> None:
        check_range("alpha", self.alpha)
        if self.white is not None and not 1 <= self.white <= 2**20:
            raise ValueError(f"white must be a number of photons from 1 to {2**20}, got {self.white}")

    def draw(self, generator: torch.Generator) -> Parameters:
        """Draw one image's parameters: ``alpha``, and the ``seed`` of its noise."""
        return {
            "kind": self.kind,
            "alpha": draw_uniform(self.alpha, generator),
            "white": self.white,
            "eight_bit": self.eight_bit,
            "seed": draw_seed(generator),
        }


def add_poisson(clean: Tensor, parameters: Parameters) -> Corruption:
    """Draw photon counts of the image and give their deviation the gain alpha.

    Args:
        clean: (C, H, W) float in [0, 1], or uint8. The formula works on it rounded to 8 bits.
        parameters: of ``Poisson.draw``.

    Returns:
        ``noisy`` with Var[J | I] = alpha^2 I / V before clipping; ``clean`` is the input; the parameters hold
        the V that was used as ``white``.
    """
    clean = unit_float(clean)
    image = rounded_to_8_bit(clean)
    white = parameters["white"] or photons_at_white(image)
    counts = torch.poisson((image * white).cpu(), generator=generator_from(parameters)).to(clean.device)
    noisy = amplified(image, counts, parameters["alpha"], white)
    return Corruption(
        noisy=rounded_to_8_bit(noisy) if parameters["eight_bit"] else noisy,
        clean=clean,
        parameters={**parameters, "white": white},
    )


def amplified(image: Tensor, counts: Tensor, alpha: float, white: int) -> Tensor:
    """``I + alpha (counts / V - I)``: the image of the photons that were counted, its noise times alpha."""
    return image + alpha * (counts / white - image)


def photons_at_white(image: Tensor) -> int:
    """The paper's V: the number of distinct 8-bit values of the whole image, rounded up to a power of two."""
    counts = torch.bincount((image * 255.0).round().int().flatten(), minlength=256)
    return int(2 ** math.ceil(math.log2(int(counts.count_nonzero()))))
