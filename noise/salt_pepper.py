"""Salt and pepper: samples that are lost to black or white, as MATLAB's ``imnoise(I, 'salt & pepper', d)``.

One of the test noises of Chen et al. (CVPR 2023, arXiv 2303.13132, section 4.1).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from noise.corruption import Corruption, Parameters, draw_seed, generator_from
from noise.display import rounded_to_8_bit, unit_float
from noise.ranges import check_range, draw_uniform


@dataclass(frozen=True, kw_only=True, slots=True)
class SaltPepper:
    """A share of all RGB samples becomes black or white, each channel for itself: coloured dots."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["salt_pepper"] = "salt_pepper"
    """Tag of this recipe."""

    density: tuple[float, float] = (0.02, 0.02)
    """(lowest, highest) share of the samples that are lost, half to black and half to white, drawn uniformly.
    The paper shows 0.02, its code 0.002."""

    eight_bit: bool = True
    """Clip to [0, 1] and round to 8 bits as the paper's files; else leave the other samples as they are."""

    def __post_init__(self) -> None:
        check_range("density", self.density, highest=1.0)

    def draw(self, generator: torch.Generator) -> Parameters:
        """Draw one image's parameters: ``density``, and the ``seed`` of its noise."""
        return {
            "kind": self.kind,
            "density": draw_uniform(self.density, generator),
            "eight_bit": self.eight_bit,
            "seed": draw_seed(generator),
        }


def add_salt_pepper(clean: Tensor, parameters: Parameters) -> Corruption:
    """Set every RGB sample to 0 with probability density/2, and to 1 with the same.

    Args:
        clean: (C, H, W) float in [0, 1], or uint8.
        parameters: of ``SaltPepper.draw``.

    Returns:
        ``noisy`` (C, H, W); ``clean`` is the input.
    """
    clean = unit_float(clean)
    density = parameters["density"]
    uniform = torch.rand(clean.shape, generator=generator_from(parameters), dtype=clean.dtype).to(clean.device)
    noisy = clean.masked_fill(uniform < density, 1.0).masked_fill_(uniform < density / 2, 0.0)
    return Corruption(
        noisy=rounded_to_8_bit(noisy) if parameters["eight_bit"] else noisy, clean=clean, parameters=parameters
    )
