"""Spatially correlated noise: white noise under a 3x3 mean filter (Chen et al., CVPR 2023, arXiv 2303.13132)."""

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from noise.corruption import Corruption, Parameters, draw_seed, generator_from
from noise.display import rounded_to_8_bit, unit_float
from noise.ranges import check_range, draw_uniform

WINDOW: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Spatial:
    """White Gaussian noise, averaged over 3x3 pixels and added: correlated over two pixels each way."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["spatial"] = "spatial"
    """Tag of this recipe."""

    sigma: tuple[float, float] = (50.0, 50.0)
    """(lowest, highest) standard deviation *before* the filter in units of 1/255, drawn uniformly; what is added
    has a third of it. The paper: 40, 45, 50, 55 and 60."""

    eight_bit: bool = True
    """Clip to [0, 1] and round to 8 bits as the paper's files; else leave what the formula gives."""

    def __post_init__(self) -> None:
        check_range("sigma", self.sigma)

    def draw(self, generator: torch.Generator) -> Parameters:
        """Draw one image's parameters: ``sigma`` in 1/255 before the filter, and the ``seed`` of its noise."""
        return {
            "kind": self.kind,
            "sigma": draw_uniform(self.sigma, generator),
            "eight_bit": self.eight_bit,
            "seed": draw_seed(generator),
        }


def add_spatial(clean: Tensor, parameters: Parameters) -> Corruption:
    """Add white noise of ``sigma`` under a 3x3 mean filter, each channel for itself.

    The noise is drawn one pixel wider on every side, so the filter needs no border rule and the noise is the
    same at the border as inside. The paper does not say what it did there; scipy's default would mirror.

    Args:
        clean: (C, H, W) float in [0, 1], or uint8.
        parameters: of ``Spatial.draw``.

    Returns:
        ``noisy`` with standard deviation sigma / 3 and autocorrelation (3-|dy|)(3-|dx|)/9 before clipping;
        ``clean`` is the input.
    """
    clean = unit_float(clean)
    *channels, height, width = clean.shape
    shape = (*channels, height + WINDOW - 1, width + WINDOW - 1)
    white = torch.randn(shape, generator=generator_from(parameters), dtype=clean.dtype)
    noise = avg_pool2d(white, WINDOW, stride=1).to(clean.device)
    noisy = clean + parameters["sigma"] / 255.0 * noise
    return Corruption(
        noisy=rounded_to_8_bit(noisy) if parameters["eight_bit"] else noisy, clean=clean, parameters=parameters
    )
