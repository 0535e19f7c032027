"""Distillation: a plain network learns, in one pass, what a self-supervised teacher found out in many.

The teacher's output is the clean side of the pairs. The noisy side is one of two, in parts that can be set:

- the photograph itself, so that the student meets the noise as it is, compression and all, and can come as close as
  the teacher did. It cannot come closer: where the teacher erred because of the noise, that can be learnt too.
- the teacher's output with new noise of the kind that was measured on the photograph. Then input and target are exact
  partners, whatever the teacher smoothed away, and no network can learn to return noise that differs every time
  ("Noisier2Noise", Moran et al., CVPR 2020, and "IDR", Zhang et al., CVPR 2022, train on such pairs too). But it is
  only as good as the measurement. Pairs made from the photograph shrunk to a fraction of its size bring sharp edges
  back: shrinking averages noise away and keeps detail.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from .losses import l1


@dataclass(frozen=True, kw_only=True, slots=True)
class Distillation:
    """Settings of a student that learns from the outputs of a teacher."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["distilled"] = "distilled"
    """Selects this training."""

    photo_share: float = 0.5
    """Share of the samples whose noisy side is the photograph itself. What follows is of the others."""

    scale: tuple[float, float] = (0.7, 1.4)
    """Range of the factor on the measured noise, drawn for each sample (evenly on a logarithmic scale): other
    exposures than those measured."""

    shrink: float = 3.0
    """Largest factor by which a photograph is shrunk before a crop is cut; 1 never shrinks."""

    shrink_share: float = 0.6
    """Share of the samples that are cut from a shrunk photograph."""

    tone: float = 0.25
    """How much the noise darkens the picture, as the factor in tone * sigma^2 / level. Noise that is put through a
    display curve u^(1/g) gives (g - 1) / 2; later smoothing and clipping leave less. 0 for none."""

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high <= 10:
            raise ValueError(f"scale must be a range inside (0, 10], got {self.scale}")
        for name, least, most in (("photo_share", 0, 1), ("shrink", 1, 16), ("shrink_share", 0, 1), ("tone", 0, 2)):
            if not least <= getattr(self, name) <= most:  # also catches NaN
                raise ValueError(f"{name} must be {least} to {most}, got {getattr(self, name)}")

    def loss(self, network: nn.Module, noisy: Tensor, clean: Tensor, seeds: Tensor) -> Tensor:
        """L1 between the network's output and the target, over all pixels.

        Args:
            network: any network of this package, possibly wrapped.
            noisy: (B, C, H, W) float in [0, 1]: the photograph, or the target with new noise.
            clean: (B, C, H, W) float in [0, 1]: the target, a teacher's output.
            seeds: (B,) int64, one a sample.

        Returns:
            Scalar float32.
        """
        return l1(network(noisy, seeds=seeds), clean)
