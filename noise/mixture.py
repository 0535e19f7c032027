"""Mixture noise of five levels: photon noise, white noise and lost samples together.

Chen et al. (CVPR 2023, arXiv 2303.13132) test on mixtures "of the above types with different levels" and name
the levels 1 to 5, but neither the paper nor its code says what they are made of. So the recipe here is *our
choice*, made so that it agrees with everything that can be seen from outside:

- The parts. The mixture image that a later paper (IDF, ICCV 2025) shows has white noise, about 0.1 % of its
  samples black and as many white, and a variance of 0.003 + 0.023 I - 0.0155 I^2. Poisson noise and Gaussian
  noise clipped to [0, 1] give such a curve (within 8 % at alpha 1.6 and sigma 18.5), speckle does not. Hence
  Poisson, then Gaussian with a sigma of ten times alpha, then salt and pepper of density 0.002.
- The levels. The paper's figure 11 has the scores of two networks on Kodak24 under the mixtures and under
  Poisson noise. The mixtures score like Poisson noise of alpha 2.04, 2.24, 2.66, 3.01 and 3.34 (mean of the
  two networks, which agree within 0.11), whose input PSNRs there are 22.0, 21.2, 19.8, 18.7 and 17.9 dB.
  The levels below have these input PSNRs within 0.15 dB, and level 3 is closest to the image shown.
"""

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import torch
from torch import Tensor

from noise.corruption import Apply, Corruption, Parameters, in_turn
from noise.poisson import Poisson, add_poisson
from noise.salt_pepper import SaltPepper, add_salt_pepper
from noise.srgb import Gaussian, add_gaussian

ALPHAS: Final = (1.35, 1.5, 1.85, 2.1, 2.35)
"""Gain of the Poisson noise at levels 1 to 5."""

SIGMA_PER_ALPHA: Final = 10.0
"""Sigma of the Gaussian noise, in 1/255, over that gain."""

DENSITY: Final = 0.002
"""Of salt and pepper, at every level."""

_PARTS: Final[dict[str, Apply]] = {"poisson": add_poisson, "gaussian": add_gaussian, "salt_pepper": add_salt_pepper}


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """Poisson, then Gaussian, then salt-and-pepper noise, in five levels; the composition is our choice."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["mixture"] = "mixture"
    """Tag of this recipe."""

    level: tuple[int, int] = (3, 3)
    """(lowest, highest) level from 1 to 5, drawn uniformly."""

    eight_bit: bool = True
    """Clip to [0, 1] and round to 8 bits as the paper's files; else leave what the last step gives."""

    def __post_init__(self) -> None:
        low, high = self.level
        if not (1 <= low <= high <= len(ALPHAS) and int(low) == low and int(high) == high):
            raise ValueError(
                f"level must be a range of whole numbers 1 <= lowest <= highest <= {len(ALPHAS)}, got {self.level}"
            )

    def draw(self, generator: torch.Generator) -> Parameters:
        """Draw one image's parameters: ``level``, and those of the three ``steps``."""
        low, high = (int(end) for end in self.level)
        level = int(torch.randint(low, high + 1, (), generator=generator, device=generator.device).item())
        alpha = ALPHAS[level - 1]
        sigma = SIGMA_PER_ALPHA * alpha
        steps = (
            Poisson(alpha=(alpha, alpha), eight_bit=False),
            Gaussian(sigma=(sigma, sigma), clip=False),
            SaltPepper(density=(DENSITY, DENSITY), eight_bit=self.eight_bit),
        )
        return {"kind": self.kind, "level": level, "steps": [step.draw(generator) for step in steps]}


def add_mixture(clean: Tensor, parameters: Parameters) -> Corruption:
    """Apply the recorded steps in turn.

    Args:
        clean: (C, H, W) float in [0, 1], or uint8. The Poisson step works on it rounded to 8 bits.
        parameters: of ``Mixture.draw``; the ``steps`` decide, ``level`` is their name.

    Returns:
        ``noisy`` (C, H, W); ``clean`` is the input.
    """
    return in_turn(clean, parameters, _PARTS)
