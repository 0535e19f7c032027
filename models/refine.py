"""Random-replacing refinement, R3 (AP-BSN, CVPR 2022, section 4.3), as AMSNet's variants -E use it (arXiv 2407.06514).

A first result has lost what its pixels could not tell each other. In each of T copies of it a share p of the pixels
is noisy again; each copy is denoised blind at full resolution, and the mean of all is the refined result. Noise that
was correlated is sparse in a copy, so that hiding single pixels is enough there, whatever hole the first result took.

Departures from the official code: seeded, any batch, size and number of channels, and passes of bounded size.
"""

import torch
from torch import Tensor, nn

from .fill import Fill
from .holes import Layout, Partition
from .masks import fold, replaced_pixels
from .multi_mask import mean_of_draws

# A child seed of its own, so that no mask of the first result is used again.
_REFINEMENT = 1


def refine(
    network: nn.Module,
    denoised: Tensor,
    noisy: Tensor,
    *,
    draws: int,
    share: float,
    mask_count: int,
    layout: Layout = "random",
    fill: Fill,
    seed: int,
    origin: tuple[int, int] = (0, 0),
    attention: bool = True,
    noise: Tensor | None = None,
) -> Tensor:
    """Refine a denoised image.

    Args:
        network: the network that made it.
        denoised: (B, C, H, W) float in [0, 1].
        noisy: (B, C, H, W) float in [0, 1], what it was made from.
        draws: number T >= 1 of copies.
        share: probability p in [0, 1] that a pixel of a copy is the noisy one, the same for all channels.
        mask_count: number k >= 2 of complementary masks for each copy; costs T k passes.
        layout: where they have their targets.
        fill: what hidden pixels show.
        seed: decides which pixels are replaced, and all masks; every image of the batch gets the same ones.
        origin: absolute (row, column) of the top-left pixel.
        attention: whether the network draws its seeded attention masks.
        noise: (B, 2) shot and read variance of ``noisy``, for a network with a level map only. It is told ``share``
            times as much: the mean over a copy, whose other pixels are denoised.

    Returns:
        (B, C, H, W) float32, not clipped. A pixel is predicted without its own value in ``denoised`` and ``noisy``;
        its neighbours in ``denoised`` may know it.
    """
    seeds = torch.full((noisy.shape[0],), fold(seed, _REFINEMENT), dtype=torch.int64, device=noisy.device)

    def copy(draw: int) -> Tensor:
        replaced = replaced_pixels(seeds, share, draw, *noisy.shape[-2:], origin=origin)
        return torch.where(replaced, noisy.to(denoised), denoised)

    return mean_of_draws(
        network,
        copy,
        draws,
        Partition(mask_count=mask_count, layout=layout),
        fill=fill,
        seeds=seeds,
        origin=origin,
        attention=attention,
        noise=None if noise is None else share * noise,
    )
