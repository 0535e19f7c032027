"""Shot and read noise: a heteroscedastic Gaussian in linear raw (Brooks et al., CVPR 2019, section 3.1)."""

import math
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor

from raw.arrays import accepts_numpy

SHOT_RANGE: Final = (1e-4, 0.012)
READ_SLOPE: Final = 2.18
READ_INTERCEPT: Final = 1.20
READ_STD: Final = 0.26


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseLevel:
    """Variance line of one exposure: ``Var[y | x] = shot * x + read``."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    shot: float
    """Slope, in normalised raw units (white level = 1)."""

    read: float
    """Intercept, in the same units squared."""

    def __post_init__(self) -> None:
        for name in ("shot", "read"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:  # also catches NaN
                raise ValueError(f"{name} must be finite and >= 0, got {value}")

    @accepts_numpy
    def variance(self, raw: Tensor) -> Tensor:
        """Noise variance at every sample of ``raw``, never negative; the shape of ``raw``."""
        return raw.mul(self.shot).add_(self.read).clamp_(min=0.0)

    @accepts_numpy
    def add(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        """``y = x + sqrt(shot * x + read) * n`` with independent standard normal n.

        Args:
            raw: any shape, linear raw, black 0, white 1.
            generator: its device is where the numbers are drawn, so a CPU generator gives one result
                everywhere.

        Returns:
            The same shape, neither clipped nor quantised: a sensor's read noise goes below black.
        """
        normal = torch.randn(raw.shape, generator=generator, dtype=raw.dtype, device=generator.device)
        return torch.addcmul(raw, self.variance(raw).sqrt_(), normal.to(raw.device))


def sample_noise_level(
    generator: torch.Generator,
    *,
    shot: tuple[float, float] = SHOT_RANGE,
    slope: float = READ_SLOPE,
    intercept: float = READ_INTERCEPT,
    std: float = READ_STD,
) -> NoiseLevel:
    """Draw a noise level: ln shot is uniform, ln read is normal around ``slope * ln shot + intercept``.

    Logarithms are *natural*, as in the paper's code; with base 10, which several ports use, read noise
    comes out five times too large. The constants were fitted to the Darmstadt Noise Dataset.

    Args:
        generator: one uniform and one normal draw.
        shot: (lowest, highest) shot coefficient.
        slope: of the line from ln shot to ln read.
        intercept: ln read at shot 1.
        std: deviation of ln read from the line.
    """
    device = generator.device
    low, high = math.log(shot[0]), math.log(shot[1])
    log_shot = low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64, device=device).item()
    deviation = torch.randn((), generator=generator, dtype=torch.float64, device=device).item()
    log_read = slope * log_shot + intercept + std * deviation
    return NoiseLevel(shot=math.exp(log_shot), read=math.exp(log_read))
