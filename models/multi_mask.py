"""Multi-mask inference of the asymmetric mask scheme (arXiv 2407.06514, section 3): every pixel predicted blind.

D_M(I) = sum_i M_i D(hide(I, M_i)) over complementary masks M_i; ``MMDB``, the multi-mask denoising branches of the
official code, with one network. Departures: several draws of the partition are averaged, masks may hide a hole
around each target (``holes``), they are seeded, and any image size works.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .fill import Fill, fill_hidden
from .holes import HoleShape, Layout, Partition
from .masks import fold_seeds
from .padding import pad_to_multiple
from .pixel_shuffle import pd_down, pd_up
from .tiling import passes


def sub_image_seeds(seeds: Tensor, stride: int) -> Tensor:
    """Seeds (B * s**2,) of the sub-images of ``pd_down``, from the seeds (B,) of their images."""
    phases = torch.arange(stride * stride, device=seeds.device)
    return fold_seeds(seeds[:, None], phases).reshape(-1)


def sub_image_noise(noise: Tensor | None, stride: int) -> Tensor | None:
    """Noise parameters (B * s**2, 2) of the sub-images of ``pd_down``, from those (B, 2) of their images."""
    return None if noise is None else noise.repeat_interleave(stride * stride, dim=0)


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
    hole: tuple[int, int] = (1, 1),
    hole_shape: HoleShape = "box",
    layout: Layout = "random",
    noise: Tensor | None = None,
) -> Tensor:
    """Predict every pixel blind with complementary masks, averaged over draws of the partition.

    Args:
        network: a network of this package.
        image: (B, C, H, W) float in [0, 1], any H and W >= 1; padded to a multiple of ``pd_stride`` inside.
        pd_stride: stride of pixel-shuffle downsampling at inference; 1 for none.
        mask_count: k >= 2, one over the share of the pixels that a mask hides; k masks, and so k passes a draw, for
            the hole of one pixel, k times its pixels for a larger one.
        draws: number K >= 1 of partitions to average; of lattices no more than there are different ones.
        fill: what hidden pixels show, as in training.
        seed: decides all masks; every image of the batch gets the same ones.
        origin: absolute (row, column) of the top-left pixel, multiples of ``pd_stride``.
        attention: whether the network draws its seeded attention masks (if it has any).
        hole: rows and columns, odd, of what is hidden around each predicted pixel, in the PD domain.
        hole_shape: its shape.
        layout: where the masks of single pixels have their targets.
        noise: (B, 2) shot and read variance of each image, for a network with a level map only.

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
    seeds = torch.full((image.shape[0],), seed, dtype=torch.int64, device=image.device)
    partition = Partition(mask_count=mask_count, hole=hole, hole_shape=hole_shape, layout=layout)
    mean = mean_of_draws(
        network,
        lambda _: sub_images,
        partition.draws(draws, stochastic=attention and bool(getattr(network, "stochastic", True))),
        partition,
        fill=fill,
        seeds=sub_image_seeds(seeds, pd_stride),
        origin=(origin[0] // pd_stride, origin[1] // pd_stride),
        attention=attention,
        noise=sub_image_noise(noise, pd_stride),
    )
    return pd_up(mean, pd_stride)[..., : image.shape[-2], : image.shape[-1]]


def mean_of_draws(
    network: nn.Module,
    image: Callable[[int], Tensor],
    draws: int,
    partition: Partition,
    *,
    fill: Fill,
    seeds: Tensor,
    origin: tuple[int, int],
    attention: bool,
    noise: Tensor | None,
) -> Tensor:
    """Blind predictions of all pixels, averaged over draws, in passes of bounded size.

    Args:
        network: a network of this package.
        image: gives the images (B, C, H, W) of a draw.
        draws: number of draws >= 1.
        partition: how the pixels are divided among masks.
        fill: what hidden pixels show.
        seeds: (B,) int64, one an image.
        origin: absolute (row, column) of the top-left pixel.
        attention: whether the network draws its seeded attention masks.
        noise: (B, 2) or None.

    Returns:
        (B, C, H, W) float32.
    """
    first = image(0)
    batch, _, height, width = first.shape
    total = torch.zeros(first.shape, dtype=torch.float32, device=first.device)
    every = [(draw, index) for draw in range(draws) for index in range(partition.count)]
    drawn: dict[int, tuple[Tensor, Tensor]] = {}
    for part in passes(every, batch * height * width):
        # Of the draws of this pass alone: each is drawn once and held no longer than it is needed.
        drawn = {
            draw: drawn.get(draw) or (image(draw), partition.numbers(seeds, height, width, draw=draw, origin=origin))
            for draw in dict.fromkeys(draw for draw, _ in part)
        }
        masks = [partition.mask(drawn[draw][1], index) for draw, index in part]
        shown = torch.cat([drawn[draw][0] for draw, _ in part])
        filled = fill_hidden(shown, torch.cat([hidden for _, hidden in masks]), fill)
        pass_seeds = torch.cat([fold_seeds(seeds, draw, index) for draw, index in part])
        named = {} if noise is None else {"noise": noise.repeat(len(part), 1)}
        output = network(filled, seeds=pass_seeds if attention else None, origin=origin, **named)
        predicted = torch.where(torch.cat([targets for targets, _ in masks]), output.float(), 0.0)
        # One after the other, so that the sum does not depend on how many there are in a pass.
        for one in predicted.reshape(len(part), *total.shape):
            total = total + one
    return total / draws
