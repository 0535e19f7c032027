"""Masked training on noisy/clean pairs (Chen et al., CVPR 2023, arXiv 2303.13132, sections 3.2 and 4.1).

The network sees the noisy image with most pixels hidden and reconstructs the whole clean image. The paper replaces
feature tokens behind the 1x1 embedding; replacing pixels by a constant in front of it gives one constant token,
which training turns into the mask token. That is what the released code does, and what works with every network;
both are here.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from .losses import l1, log_mse
from .masks import hide, input_mask, uniform_ratio


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedTraining:
    """Settings of masked training."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["masked"] = "masked"
    """Selects this training."""

    input_ratio: tuple[float, float] = (0.8, 0.9)
    """Range of the fraction of hidden pixels, drawn uniformly for each sample; (0, 0) hides nothing."""

    site: Literal["pixel", "token"] = "pixel"
    """Where the input mask is: "pixel" replaces pixels by ``fill``; "token" replaces tokens by the network's mask
    token, which only a masked Swin with ``mask_token`` has."""

    fill: float = -0.1
    """Value of a hidden pixel. Outside [0, 1], so that no image pixel is mistaken for a hidden one."""

    error: Literal["l1", "log_mse"] = "l1"
    """What is minimised: "l1" as in the paper, or "log_mse", the mean PSNR of a batch (`models.losses.log_mse`)."""

    def __post_init__(self) -> None:
        low, high = self.input_ratio
        if not 0 <= low <= high <= 1:
            raise ValueError(f"input_ratio must be a range inside [0, 1], got {self.input_ratio}")
        if self.site not in ("pixel", "token"):
            raise ValueError(f"site must be 'pixel' or 'token', got {self.site!r}")
        if self.error not in ("l1", "log_mse"):
            raise ValueError(f"error must be 'l1' or 'log_mse', got {self.error!r}")
        if not -10 <= self.fill <= 10:  # also catches NaN
            raise ValueError(f"fill must be -10 to 10, got {self.fill}")

    def loss(
        self, network: nn.Module, noisy: Tensor, clean: Tensor, seeds: Tensor, *, noise: Tensor | None = None
    ) -> Tensor:
        """Error between the network's reconstruction from visible pixels and the clean image, over all pixels.

        Args:
            network: any network of this package, possibly wrapped.
            noisy: (B, C, H, W) float in [0, 1].
            clean: (B, C, H, W) float in [0, 1].
            seeds: (B,) int64, one a sample, new ones at every step.
            noise: (B, 2) float, shot and read variance of each sample, for a network with a level map only.

        Returns:
            Scalar float32.
        """
        measure = l1 if self.error == "l1" else log_mse
        low, high = self.input_ratio
        named = {} if noise is None else {"noise": noise}
        if high == 0:
            return measure(network(noisy, seeds=seeds, **named), clean)
        mask = input_mask(seeds, uniform_ratio(seeds, low, high), *noisy.shape[-2:])
        if self.site == "token":
            return measure(network(noisy, seeds=seeds, input_mask=mask, **named), clean)
        return measure(network(hide(noisy, mask, self.fill), seeds=seeds, **named), clean)
