"""Speckle: noise that multiplies the image, as MATLAB's ``imnoise(I, 'speckle', v)`` makes it.

One of the test noises of Chen et al. (CVPR 2023, arXiv 2303.13132, section 4.1).
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
class Speckle:
    """Multiplicative noise ``J = I + n I`` of one variance per image; black stays black."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["speckle"] = "speckle"
    """Tag of this recipe."""

    variance: tuple[float, float] = (0.03, 0.03)
    """(lowest, highest) variance of n, drawn uniformly. The paper: 0.018, 0.024, 0.03, 0.036 and 0.04."""

    distribution: Literal["uniform", "normal"] = "uniform"
    """Of n: ``imnoise`` draws it uniformly; later papers that say speckle often draw a normal."""

    eight_bit: bool = True
    """Clip to [0, 1] and round to 8 bits as the paper's files; else leave what the formula gives."""

    def __post_init__(self) -> None:
        check_range("variance", self.variance)

    def draw(self, generator: torch.Generator) -> Parameters:
        """Draw one image's parameters: ``variance``, and the ``seed`` of its noise."""
        return {
            "kind": self.kind,
            "variance": draw_uniform(self.variance, generator),
            "distribution": self.distribution,
            "eight_bit": self.eight_bit,
            "seed": draw_seed(generator),
        }


def add_speckle(clean: Tensor, parameters: Parameters) -> Corruption:
    """Add ``n I`` with n of mean 0 and the recorded variance, independent in every RGB sample.

    Args:
        clean: (C, H, W) float in [0, 1], or uint8.
        parameters: of ``Speckle.draw``.

    Returns:
        ``noisy`` with Var[J | I] = variance * I^2 before clipping; ``clean`` is the input.
    """
    clean = unit_float(clean)
    generator = generator_from(parameters)
    if parameters["distribution"] == "normal":
        standard = torch.randn(clean.shape, generator=generator, dtype=clean.dtype)
    else:
        # The variance of a uniform of width w is w^2 / 12.
        standard = (torch.rand(clean.shape, generator=generator, dtype=clean.dtype) - 0.5) * math.sqrt(12.0)
    noisy = clean + math.sqrt(parameters["variance"]) * standard.to(clean.device) * clean
    return Corruption(
        noisy=rounded_to_8_bit(noisy) if parameters["eight_bit"] else noisy, clean=clean, parameters=parameters
    )
