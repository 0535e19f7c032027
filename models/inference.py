"""Denoising of whole images with a trained network: mode, attention masks, draws, tiles and offset.

* mode "direct": the network's output, as in arXiv 2303.13132, which keeps its attention masks on in the test
  phase; several draws of them, averaged, gain about 0.3 dB (authors, issue 1 of the official repository);
* mode "multi_mask": every pixel predicted blind, arXiv 2407.06514, section 3, and refined (R3) on request.

The output is a function of the image, the weights and the seed: masks follow from the seed and the absolute
position of a token, so neither tiles nor batches, threads or processes change them.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from .fill import FILLS, Fill, fill_reach
from .holes import HoleShape, Layout, Partition, check_hole, masks_of
from .level_map import check_noise
from .level_offset import Offset, correct_offset
from .masks import fold
from .multi_mask import multi_mask_denoise, sub_image_noise, sub_image_seeds
from .network import Network
from .padding import pad_to_multiple
from .pixel_shuffle import pd_down, pd_up
from .refine import refine
from .tiling import passes, tiles

_TILE = 512
# For networks without a finite receptive field; beyond it a change of one pixel is invisible in 8 bits.
_HALO = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class InferenceSpec:
    """How a network turns a noisy image into a denoised one. Stored with the weights."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    mode: Literal["direct", "multi_mask"] = "direct"
    """"direct" runs the network on the image, "multi_mask" predicts every pixel without its own value."""

    pd_stride: int = 1
    """Stride of pixel-shuffle downsampling at inference; 1 for none."""

    mask_count: int = 2
    """One over the share of the pixels that a mask of "multi_mask" hides: the number of complementary masks, and of
    passes a draw, where the hole is one pixel; for a larger hole they are as many times more as it has pixels."""

    draws: int = 1
    """Number K of random draws to average, of attention masks and, in "multi_mask", of complementary masks;
    costs K times as much."""

    fill: Fill = "mean"
    """What hidden pixels show in "multi_mask"; the same as in training."""

    hole: tuple[int, int] = (1, 1)
    """Rows and columns, odd, of what is hidden around each predicted pixel in "multi_mask"; [1, 1] is the pixel
    itself."""

    hole_shape: HoleShape = "box"
    """Shape of the hole: all of the box, or the diamond inside it."""

    layout: Layout = "random"
    """Which pixels a mask with the hole of one pixel hides: "random", as in the paper, or "lattice", the regular
    pattern that keeps them farthest apart (with ``mask_count`` 2 the squares of one colour of a chessboard). Larger
    holes always lie on a lattice."""

    refine_draws: int = 0
    """Copies T of random-replacing refinement (R3) of "multi_mask"; 0 for none. Costs T * ``mask_count`` passes."""

    refine_share: float = 0.16
    """Share p of the pixels of each copy that are noisy again in refinement."""

    attention: Literal["seeded", "ensemble", "off"] = "seeded"
    """Attention masks: "seeded" draws them from the seed, as in training; "ensemble" is the same with at least
    two ``draws``, averaged ("seeded" averages its draws too); "off" hides nothing."""

    seed: int = 0
    """Decides all masks."""

    offset: Offset = "keep"
    """What is done about a brightness or colour offset of the network: "keep" nothing; "level" fits a tone and
    colour curve that brings the levels of the output to those of the noisy image, where they differ visibly."""

    tile: int = 0
    """Side in pixels of the tiles of a larger image; 0 = choose."""

    halo: int = 0
    """Pixels around a tile that are computed and thrown away, counted in the image that the network sees
    (after pixel-shuffle downsampling); 0 = choose: the receptive field where it is finite, else 32."""

    def __post_init__(self) -> None:
        for name, choices in (
            ("mode", ("direct", "multi_mask")),
            ("fill", FILLS),
            ("attention", ("seeded", "ensemble", "off")),
            ("offset", ("keep", "level")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
        for name, low, high in (
            ("pd_stride", 1, 16),
            ("mask_count", 2, 16),
            ("draws", 1, 1024),
            ("refine_draws", 0, 1024),
            ("refine_share", 0, 1),
            ("seed", 0, 2**63 - 1),
            ("tile", 0, 1 << 16),
            ("halo", 0, 1 << 12),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be {low} to {high}, got {value}")
        check_hole(self.hole, self.hole_shape, self.layout)
        if self.attention == "ensemble" and self.draws < 2:
            raise ValueError(f"draws must be at least 2 for attention 'ensemble', got {self.draws}")


def describe_inference(spec: InferenceSpec, *, stochastic: bool) -> dict[str, Any]:
    """What ``spec`` means for a network, as JSON values.

    Args:
        spec: how to denoise.
        stochastic: whether the network has attention masks to draw (``Network.stochastic``).

    Returns:
        ``mode``; ``attention``: "none" (the network has no such masks), "off", "seeded" or "ensemble"; ``draws``
        that are averaged; ``passes`` of the network over the image, which is what it costs; ``seed``; ``offset``.
    """
    attention = "off" if spec.attention == "off" else "seeded" if spec.draws == 1 else "ensemble"
    blind = spec.mode == "multi_mask"
    draws = spec.draws if blind or (stochastic and attention != "off") else 1
    if blind:
        draws = Partition.of(spec).draws(draws, stochastic=stochastic and attention != "off")
    passes_a_draw = masks_of(spec) if blind else 1
    refinement = spec.refine_draws * spec.mask_count if blind else 0
    return {
        "mode": spec.mode,
        "attention": attention if stochastic else "none",
        "draws": draws,
        "passes": draws * passes_a_draw + refinement,
        "seed": spec.seed,
        "offset": spec.offset,
    }


@torch.inference_mode()
def denoise(
    network: Network, image: Tensor, spec: InferenceSpec, *, noise: Tensor | None = None, tile: int | None = None
) -> Tensor:
    """Denoise images of any size.

    Images of a batch are computed one by one, so that an image's result never depends on its companions.

    Args:
        network: a network in evaluation mode, on any device.
        image: (B, C, H, W) float in [0, 1].
        spec: how to denoise.
        noise: (B, 2) float, shot and read variance of each image (`models.level_map`); given exactly if the network
            has a level map.
        tile: side of the tiles, in place of ``spec.tile``.

    Returns:
        (B, C, H, W) float32 on the device of ``image``, not clipped.

    Raises:
        ValueError: the network is in training mode, or the image or ``noise`` does not suit it.
    """
    if network.training:
        raise ValueError("network is in training mode; call network.eval() first")
    network.check(image)
    network.check_noise(noise)
    if noise is not None:
        check_noise(noise, image.shape[0])
    halo = spec.halo or network.reach or _HALO
    # A tile not much larger than its halo spends its time on pixels that are thrown away.
    side = (spec.tile if tile is None else tile) or max(_TILE, 12 * halo)
    plan = list(
        tiles(
            *image.shape[-2:],
            tile=side,
            halo=_tile_halo(halo, spec),
            # A tile starts on a window (or pooling cell) of the sub-images, whose coordinates are 1/stride.
            multiple=network.multiple * spec.pd_stride,
        )
    )
    device = next(network.parameters()).device
    output = torch.zeros(image.shape, dtype=torch.float32, device=image.device)
    for index in range(image.shape[0]):
        for area in plan:
            part = area.read(image[index : index + 1]).to(device, torch.float32)
            told = None if noise is None else noise[index : index + 1].to(device, torch.float32)
            area.add(output[index : index + 1], _denoise_tile(network, part, spec, area.origin, told))
        # Of the whole image: an offset measured tile by tile would show as steps.
        output[index] = correct_offset(image[index], output[index], spec.offset)
    return output


def _tile_halo(halo: int, spec: InferenceSpec) -> int:
    """Pixels of the image that a tile reads around itself: for one run of the network and a second on its result."""
    if spec.mode == "direct":
        return halo * spec.pd_stride
    if not spec.refine_draws and spec.fill == "mean" and tuple(spec.hole) == (1, 1):
        # As it always was: the rim of a receptive field, where the fill of a tile may differ, hardly counts.
        return halo * spec.pd_stride
    filled = halo + fill_reach(spec.fill, spec.hole)
    return filled * (spec.pd_stride + bool(spec.refine_draws))


def _denoise_tile(
    network: Network, image: Tensor, spec: InferenceSpec, origin: tuple[int, int], noise: Tensor | None
) -> Tensor:
    if spec.mode == "multi_mask":
        attention = spec.attention != "off"
        denoised = multi_mask_denoise(
            network,
            image,
            pd_stride=spec.pd_stride,
            mask_count=spec.mask_count,
            draws=spec.draws,
            fill=spec.fill,
            seed=spec.seed,
            origin=origin,
            attention=attention,
            hole=spec.hole,
            hole_shape=spec.hole_shape,
            layout=spec.layout,
            noise=noise,
        )
        if not spec.refine_draws:
            return denoised
        return refine(
            network,
            denoised,
            image,
            draws=spec.refine_draws,
            share=spec.refine_share,
            mask_count=spec.mask_count,
            layout=spec.layout,
            fill=spec.fill,
            seed=spec.seed,
            origin=origin,
            attention=attention,
            noise=noise,
        )
    return _direct(network, image, spec, origin, noise)


def _direct(
    network: Network, image: Tensor, spec: InferenceSpec, origin: tuple[int, int], noise: Tensor | None
) -> Tensor:
    sub_images = pd_down(pad_to_multiple(image, spec.pd_stride), spec.pd_stride)
    sub_origin = (origin[0] // spec.pd_stride, origin[1] // spec.pd_stride)
    sub_noise = sub_image_noise(noise, spec.pd_stride)
    random = network.stochastic and spec.attention != "off"
    draws = range(spec.draws if random else 1)
    total = torch.zeros_like(sub_images)
    for part in passes(draws, sub_images[:, 0].numel()):
        seeds = None
        if random:
            children = [torch.full((image.shape[0],), fold(spec.seed, draw), device=image.device) for draw in part]
            seeds = torch.cat([sub_image_seeds(child, spec.pd_stride) for child in children])
        named = {} if sub_noise is None else {"noise": sub_noise.repeat(len(part), 1)}
        output = network(sub_images.repeat(len(part), 1, 1, 1), seeds=seeds, origin=sub_origin, **named)
        # One after the other, so that the sum does not depend on how many there are in a pass.
        for one in output.float().reshape(len(part), *sub_images.shape):
            total += one
    return pd_up(total / len(draws), spec.pd_stride)[..., : image.shape[-2], : image.shape[-1]]
