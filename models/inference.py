"""Denoising of whole images with a trained network: mode, attention masks, draws, tiles and offset.

* mode "direct": the network's output, as in arXiv 2303.13132, which keeps its attention masks on in the test
  phase; several draws of them, averaged, gain about 0.3 dB (authors, issue 1 of the official repository);
* mode "multi_mask": every pixel predicted blind, arXiv 2407.06514, section 3, and refined (R3) on request.

The output is a function of the image, the weights and the seed: masks follow from the seed and the absolute
position of a token, so neither tiles nor batches, threads or processes change them.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .bands import InParts, Read, band_rows
from .fill import fill_reach
from .inference_spec import InferenceSpec
from .level_map import check_noise
from .level_offset import correct_offset
from .masks import fold
from .multi_mask import multi_mask_denoise, sub_image_noise, sub_image_seeds
from .network import Network
from .padding import pad_to_multiple
from .pixel_shuffle import pd_down, pd_up
from .refine import refine
from .tiling import HALF_RAMP, passes

_TILE = 512
# For networks without a finite receptive field; beyond it a change of one pixel is invisible in 8 bits.
_HALO = 32


@torch.inference_mode()
def denoise(
    network: Network,
    image: Tensor,
    spec: InferenceSpec,
    *,
    noise: Tensor | None = None,
    tile: int | tuple[int, int] | None = None,
) -> Tensor:
    """Denoise images of any size.

    Images of a batch are computed one by one, so that an image's result never depends on its companions.

    Args:
        network: a network in evaluation mode, on any device.
        image: (B, C, H, W) float in [0, 1].
        spec: how to denoise.
        noise: (B, 2) float, shot and read variance of each image (`models.level_map`); given exactly if the network
            has a level map.
        tile: side, or rows and columns, of the tiles, in place of ``spec.tile``.

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
    output = torch.empty(image.shape, dtype=torch.float32, device=image.device)
    for index in range(image.shape[0]):

        def read(top: int, bottom: int, left: int, right: int, index: int = index) -> Tensor:
            return image[index : index + 1, :, top:bottom, left:right]

        told = None if noise is None else noise[index : index + 1]
        row = 0
        for band in _bands(network, read, (image.shape[2], image.shape[3]), spec, told, tile, image.device):
            output[index : index + 1, :, row : row + band.shape[2]] = band
            row += band.shape[2]
        # Of the whole image: an offset measured tile by tile would show as steps.
        output[index] = correct_offset(image[index], output[index], spec.offset)
    return output


@torch.inference_mode()
def denoise_bands(
    network: Network,
    read: Read,
    height: int,
    width: int,
    spec: InferenceSpec,
    *,
    tile: int | tuple[int, int] | None = None,
    on_halved: Callable[[], None] | None = None,
) -> Iterator[Tensor]:
    """Denoise images that need not lie in memory whole, band by band; the same numbers as `denoise` gives.

    The offset is kept, whatever ``spec`` says: it is known when the last band is. Networks with a level map are not
    for this.

    Args:
        network: a network in evaluation mode, on any device.
        read: gives (B, C, rows, columns) float in [0, 1] of the rows [top, bottom) and columns [left, right); the rows
            asked for never go back above those of an earlier band's first. The images are computed one by one.
        height: rows of the images.
        width: columns of the images.
        spec: how to denoise.
        tile: side, or rows and columns, of the tiles, in place of ``spec.tile``.
        on_halved: called when memory does not suffice for a tile, which is then computed in halves.

    Yields:
        (B, C, rows, W) float32 on the CPU, not clipped: the next rows.

    Raises:
        ValueError: the network is in training mode or needs to be told the noise.
    """
    if network.training:
        raise ValueError("network is in training mode; call network.eval() first")
    network.check_noise(None)
    yield from _bands(network, read, (height, width), spec, None, tile, torch.device("cpu"), on_halved)


def tile_halo(network: Network, spec: InferenceSpec) -> int:
    """Pixels of the image that a tile reads around what it keeps."""
    return _tile_halo(spec.halo or network.reach or _HALO, spec)


def tile_ramp(network: Network, spec: InferenceSpec) -> int:
    """Pixels that a tile keeps of each neighbour: none where a halo makes them equal."""
    return 0 if network.reach is not None and not spec.halo and spec.mode == "direct" else HALF_RAMP


def tile_multiple(network: Network, spec: InferenceSpec) -> int:
    """What the origins of tiles are multiples of."""
    # A tile starts on a window (or pooling cell) of the sub-images, whose coordinates are 1/stride.
    return network.multiple * spec.pd_stride


def default_tile(network: Network, spec: InferenceSpec) -> int:
    """Side of the tiles where nobody has chosen another."""
    # A tile not much larger than its halo spends its time on pixels that are thrown away.
    return spec.tile or max(_TILE, 12 * (spec.halo or network.reach or _HALO))


def _bands(
    network: Network,
    read: Read,
    size: tuple[int, int],
    spec: InferenceSpec,
    noise: Tensor | None,
    tile: int | tuple[int, int] | None,
    device: torch.device,
    on_halved: Callable[[], None] | None = None,
) -> Iterator[Tensor]:
    own = next(network.parameters()).device
    told = None if noise is None else noise.to(own, torch.float32)

    def compute(part: Tensor, origin: tuple[int, int]) -> Tensor:
        # One by one, so that an image's result never depends on its companions.
        results = [
            _denoise_tile(network, one.to(own, torch.float32), spec, origin, told) for one in torch.split(part, 1)
        ]
        return results[0] if len(results) == 1 else torch.cat(results)

    halo, multiple = tile_halo(network, spec), tile_multiple(network, spec)
    in_parts = InParts(compute, halo=halo, multiple=multiple, on_halved=on_halved)
    side = tile or default_tile(network, spec)
    half_ramp = tile_ramp(network, spec)
    return band_rows(read, *size, in_parts, tile=side, halo=halo, multiple=multiple, half_ramp=half_ramp, device=device)


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
