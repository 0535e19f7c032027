"""Asymmetric masks: learning to denoise from noisy images alone (ECCV 2024, arXiv 2407.06514).

* Training (section 3, loss L_m): pixel-shuffle downsampling, one random mask, one pass, L1 at hidden pixels.
* Fine-tuning of the variants -P (loss L_t): L1 of the multi-mask output, plus a prior that smooths it.
* Inference (``multi_mask``): complementary masks, so that every pixel is predicted without its own noisy value.

Departures: hidden pixels may be filled from their visible neighbours, masks may hide a hole around each target
(``holes``) and are seeded, and any image size works.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from .fill import FILLS, Fill, fill_hidden
from .holes import HoleShape, Layout, Partition, check_hole
from .losses import l1, masked_l1, total_variation
from .masks import fold_seeds
from .multi_mask import sub_image_noise, sub_image_seeds
from .pixel_shuffle import pd_down, pd_up


@dataclass(frozen=True, kw_only=True, slots=True)
class AsymmetricMasks:
    """Settings of self-supervised training with asymmetric masks."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["asymmetric"] = "asymmetric"
    """Selects this training."""

    pd_stride: int = 5
    """Stride of pixel-shuffle downsampling in training; larger breaks longer noise correlation."""

    mask_count: int = 2
    """One over the share of the pixels that a mask hides. With the hole of one pixel this is the number k of
    complementary masks."""

    fill: Fill = "mean"
    """What hidden pixels show: "mean" of the visible neighbours, "smooth", a mean of more of them with weights that
    fall with distance, or "zero" as in the paper."""

    hole: tuple[int, int] = (1, 1)
    """Rows and columns, odd, of what is hidden around each pixel that is to be predicted, after pixel-shuffle
    downsampling; [1, 1] is the pixel itself. Where noise is correlated, a hole as large as the correlation at
    ``pd_stride`` 1 is the alternative to downsampling."""

    hole_shape: HoleShape = "box"
    """Shape of the hole: all of the box, or the diamond inside it."""

    layout: Layout = "random"
    """Which pixels a mask with the hole of one pixel hides: "random", as in the paper, or "lattice", the regular
    pattern that keeps them farthest apart (with ``mask_count`` 2 the squares of one colour of a chessboard). Larger
    holes always lie on a lattice."""

    smoothing: float = 0.0
    """Weight lambda of the smoothing prior, the total variation of the full multi-mask output. Above 0, the loss is
    that of the fine-tune of the paper's variants -P (0.01 there), and a step costs one pass for each mask."""

    def __post_init__(self) -> None:
        if not 1 <= self.pd_stride <= 16:
            raise ValueError(f"pd_stride must be 1 to 16, got {self.pd_stride}")
        if not 2 <= self.mask_count <= 16:
            raise ValueError(f"mask_count must be 2 to 16, got {self.mask_count}")
        if self.fill not in FILLS:
            raise ValueError(f"fill must be one of {FILLS}, got {self.fill!r}")
        check_hole(self.hole, self.hole_shape, self.layout)
        if not 0 <= self.smoothing <= 100:
            raise ValueError(f"smoothing must be 0 to 100, got {self.smoothing}")

    def loss(self, network: nn.Module, noisy: Tensor, seeds: Tensor, *, noise: Tensor | None = None) -> Tensor:
        """L1 at the targets of the first mask, in the PD domain; with ``smoothing``, the loss of the fine-tune.

        Args:
            network: any network of this package, possibly wrapped.
            noisy: (B, C, H, W) float in [0, 1], H and W >= ``pd_stride``. Rows and columns beyond the last
                multiple of ``pd_stride``, at the bottom and on the right, are not used.
            seeds: (B,) int64, one a sample, new ones at every step.
            noise: (B, 2) float, shot and read variance of each sample, for a network with a level map only.

        Returns:
            Scalar float32.
        """
        height, width = (size // self.pd_stride * self.pd_stride for size in noisy.shape[-2:])
        if not height or not width:
            raise ValueError(f"pd_stride {self.pd_stride} is larger than the crop {tuple(noisy.shape[-2:])}")
        sub_images = pd_down(noisy[..., :height, :width], self.pd_stride)
        sub_seeds = sub_image_seeds(seeds, self.pd_stride)
        sub_noise = sub_image_noise(noise, self.pd_stride)
        partition = Partition.of(self)
        numbers = partition.numbers(sub_seeds, *sub_images.shape[-2:])
        if self.smoothing > 0:
            output = _multi_mask_output(network, sub_images, partition, numbers, self.fill, sub_seeds, sub_noise)
            prior = self.smoothing * total_variation(pd_up(output, self.pd_stride))
            return prior + l1(output, sub_images)
        targets, hidden = partition.mask(numbers, 0)
        named = {} if sub_noise is None else {"noise": sub_noise}
        prediction = network(fill_hidden(sub_images, hidden, self.fill), seeds=sub_seeds, **named)
        return masked_l1(prediction, sub_images, targets)


def _multi_mask_output(
    network: nn.Module,
    sub_images: Tensor,
    partition: Partition,
    numbers: Tensor,
    fill: Fill,
    seeds: Tensor,
    noise: Tensor | None,
) -> Tensor:
    """Blind predictions (B, C, H, W) float32 of all pixels, in one pass of all masks that gradients go back through.

    One call, not one a mask: a distributed wrapper takes one forward pass for each backward pass.
    """
    masks = [partition.mask(numbers, index) for index in range(partition.count)]
    hidden = torch.cat([mask for _, mask in masks])
    filled = fill_hidden(sub_images.repeat(partition.count, 1, 1, 1), hidden, fill)
    pass_seeds = torch.cat([fold_seeds(seeds, index) for index in range(partition.count)])
    named = {} if noise is None else {"noise": noise.repeat(partition.count, 1)}
    output: Tensor = network(filled, seeds=pass_seeds, **named)
    predicted = output.float().reshape(partition.count, *sub_images.shape)
    targets = torch.stack([mask for mask, _ in masks])
    return torch.where(targets, predicted, 0.0).sum(0)
