"""Asymmetric masks: learning to denoise from noisy images alone (ECCV 2024, arXiv 2407.06514).

* Training (section 3, loss L_m): pixel-shuffle downsampling, one random mask, one pass, L1 at hidden pixels.
* Inference (section 3, D_M(I) = sum_i M_i D(hide(I, M_i))): complementary masks, so that every pixel is
  predicted without its own noisy value; ``MMDB``, the multi-mask denoising branches of the official code,
  with one network.

Departures: hidden pixels may be filled with the mean of their visible neighbours, several draws of the
partition are averaged, masks are seeded, and any image size works.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from .fill import Fill, fill_hidden
from .losses import masked_l1
from .masks import complementary_mask, fold_seeds
from .padding import pad_to_multiple
from .pixel_shuffle import pd_down, pd_up
from .tiling import passes


@dataclass(frozen=True, kw_only=True, slots=True)
class AsymmetricMasks:
    """Settings of self-supervised training with asymmetric masks."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["asymmetric"] = "asymmetric"
    """Selects this training."""

    pd_stride: int = 5
    """Stride of pixel-shuffle downsampling in training; larger breaks longer noise correlation."""

    mask_count: int = 2
    """Number k of complementary masks; the one used in training hides 1/k of the pixels."""

    fill: Fill = "mean"
    """What hidden pixels show: "mean" of the visible neighbours, or "zero" as in the paper."""

    def __post_init__(self) -> None:
        if not 1 <= self.pd_stride <= 16:
            raise ValueError(f"pd_stride must be 1 to 16, got {self.pd_stride}")
        if not 2 <= self.mask_count <= 16:
            raise ValueError(f"mask_count must be 2 to 16, got {self.mask_count}")
        if self.fill not in ("zero", "mean"):
            raise ValueError(f"fill must be 'zero' or 'mean', got {self.fill!r}")

    def loss(self, network: nn.Module, noisy: Tensor, seeds: Tensor) -> Tensor:
        """L1 at the hidden pixels of the first mask, in the PD domain.

        Args:
            network: any network of this package, possibly wrapped.
            noisy: (B, C, H, W) float in [0, 1], H and W >= ``pd_stride``. Rows and columns beyond the last
                multiple of ``pd_stride``, at the bottom and on the right, are not used.
            seeds: (B,) int64, one a sample, new ones at every step.

        Returns:
            Scalar float32.
        """
        height, width = (size // self.pd_stride * self.pd_stride for size in noisy.shape[-2:])
        if not height or not width:
            raise ValueError(f"pd_stride {self.pd_stride} is larger than the crop {tuple(noisy.shape[-2:])}")
        sub_images = pd_down(noisy[..., :height, :width], self.pd_stride)
        sub_seeds = sub_image_seeds(seeds, self.pd_stride)
        mask = complementary_mask(sub_seeds, 0, self.mask_count, *sub_images.shape[-2:])
        prediction = network(fill_hidden(sub_images, mask, self.fill), seeds=sub_seeds)
        return masked_l1(prediction, sub_images, mask)


def sub_image_seeds(seeds: Tensor, stride: int) -> Tensor:
    """Seeds (B * s**2,) of the sub-images of ``pd_down``, from the seeds (B,) of their images."""
    phases = torch.arange(stride * stride, device=seeds.device)
    return fold_seeds(seeds[:, None], phases).reshape(-1)


def multi_mask_denoise(
    network: nn.Module,
    image: Tensor,
    *,
    pd_stride: int,
    mask_count: int,
    draws: int,
    fill: Fill,
    seed: int,
    origin: tuple[int, int] = (0, 0),
    attention: bool = True,
) -> Tensor:
    """Predict every pixel blind with complementary masks, averaged over draws of the partition.

    Args:
        network: a network of this package.
        image: (B, C, H, W) float in [0, 1], any H and W >= 1; padded to a multiple of ``pd_stride`` inside.
        pd_stride: stride of pixel-shuffle downsampling at inference; 1 for none.
        mask_count: number k >= 2 of complementary masks; costs k passes a draw.
        draws: number K >= 1 of partitions to average.
        fill: what hidden pixels show, as in training.
        seed: decides all masks; every image of the batch gets the same ones.
        origin: absolute (row, column) of the top-left pixel, multiples of ``pd_stride``.
        attention: whether the network draws its seeded attention masks (if it has any).

    Returns:
        (B, C, H, W) float32, not clipped.

    Raises:
        ValueError: an origin that is no multiple of ``pd_stride``, ``draws`` < 1 or ``mask_count`` < 2.
    """
    if draws < 1 or mask_count < 2:
        raise ValueError(f"draws must be at least 1 and mask_count 2, got {draws} and {mask_count}")
    if origin[0] % pd_stride or origin[1] % pd_stride:
        raise ValueError(f"origin must be a multiple of pd_stride {pd_stride}, got {origin}")
    sub_images = pd_down(pad_to_multiple(image, pd_stride), pd_stride)
    batch, _, height, width = sub_images.shape
    sub_origin = (origin[0] // pd_stride, origin[1] // pd_stride)
    seeds = torch.full((image.shape[0],), seed, dtype=torch.int64, device=image.device)
    seeds = sub_image_seeds(seeds, pd_stride)
    total = torch.zeros(sub_images.shape, dtype=torch.float32, device=image.device)
    every = [(draw, index) for draw in range(draws) for index in range(mask_count)]
    for part in passes(every, batch * height * width):
        masks = torch.cat(
            [
                complementary_mask(seeds, index, mask_count, height, width, draw=draw, origin=sub_origin)
                for draw, index in part
            ]
        )
        filled = fill_hidden(sub_images.repeat(len(part), 1, 1, 1), masks, fill)
        pass_seeds = torch.cat([fold_seeds(seeds, draw, index) for draw, index in part])
        output = network(filled, seeds=pass_seeds if attention else None, origin=sub_origin)
        # One after the other, so that the sum does not depend on how many there are in a pass.
        for hidden in torch.where(masks, output.float(), 0.0).reshape(len(part), *total.shape):
            total = total + hidden
    return pd_up(total / draws, pd_stride)[..., : image.shape[-2], : image.shape[-1]]
