"""Masks and per-sample randomness as pure functions of (seed, position).

* input mask: hidden pixels of "Masked Image Training for Generalizable Deep Image Denoising"
  (Chen et al., CVPR 2023, arXiv 2303.13132), section 3.2;
* attention mask: hidden tokens in front of self-attention, same paper, section 3.3 and figure 4b;
* complementary masks: partitions of the pixels of "Asymmetric Mask Scheme for Self-Supervised Real Image
  Denoising" (ECCV 2024, arXiv 2407.06514), one mask for training, all of them for inference.

Every draw is an integer hash of the sample's seed, a stream number and the absolute position, never the state
of a generator. So a sample's mask does not depend on the batch it is in, on the tile it is cut from, on the
device or on the number of threads. Masks are boolean, True = hidden.
"""

from typing import overload

import torch
from torch import Tensor

_MASK32 = 0xFFFFFFFF
# Multipliers below 2**31 keep every 32-bit x 31-bit product inside int64, so nothing relies on overflow.
_MULTIPLIER_1 = 0x2C1B3C6D
_MULTIPLIER_2 = 0x297A2D39
_OFFSET = 0x1E3779B9  # moves 0 away from the fixed point of the mixer
_LANES = (0x3C6EF372, 0x243F6A88)  # start states; two of them make a 63-bit child seed

_INPUT_STREAM = 1
_ATTENTION_STREAM = 2
_COMPLEMENTARY_STREAM = 3
_RATIO_STREAM = 4
_DROP_PATH_STREAM = 5
_REPLACEMENT_STREAM = 6
HOLE_STREAM = 7


@overload
def _mix(state: int) -> int: ...
@overload
def _mix(state: Tensor) -> Tensor: ...
def _mix(state: int | Tensor) -> int | Tensor:
    """Bijective xor-shift-multiply mixer of 32-bit words held in int64."""
    state = state ^ (state >> 15)
    state = (state * _MULTIPLIER_1) & _MASK32
    state = state ^ (state >> 12)
    state = (state * _MULTIPLIER_2) & _MASK32
    return state ^ (state >> 15)


def _absorb(state: int | Tensor, word: int | Tensor) -> int | Tensor:
    """Mix the low 32 bits of ``word`` into ``state``; the two broadcast."""
    return _mix(state ^ _mix(((word & _MASK32) + _OFFSET) & _MASK32))


def _absorb_seed(state: int | Tensor, seed: int | Tensor) -> int | Tensor:
    """Mix both halves of a 63-bit ``seed`` into ``state``."""
    return _absorb(_absorb(state, seed), seed >> 32)


def _hash_bits(seeds: Tensor, *coordinates: Tensor | int) -> Tensor:
    """Hash of seeds and coordinates, int64 in [0, 2**32), of their broadcast shape."""
    state = _absorb_seed(_LANES[0], seeds)
    for coordinate in coordinates:
        state = _absorb(state, coordinate)
    assert isinstance(state, Tensor)  # for the type checker: seeds are a tensor
    return state


def fold(seed: int, *values: int) -> int:
    """Child seed of ``seed`` for ``values``, in [0, 2**63); equals ``fold_seeds`` of the same numbers."""
    high, low = _LANES
    for value in (seed, *values):
        high, low = int(_absorb_seed(high, value)), int(_absorb_seed(low, value))
    return (high & 0x7FFFFFFF) << 32 | low


def fold_seeds(seeds: Tensor, *values: Tensor | int) -> Tensor:
    """Child seeds of int64 ``seeds`` for ``values`` (which broadcast), int64 in [0, 2**63)."""
    high: int | Tensor
    low: int | Tensor
    high, low = _LANES
    for value in (seeds, *values):
        high, low = _absorb_seed(high, value), _absorb_seed(low, value)
    folded = (high & 0x7FFFFFFF) << 32 | low
    assert isinstance(folded, Tensor)  # for the type checker: seeds are a tensor
    return folded


def hash_uniform(seeds: Tensor, *coordinates: Tensor | int) -> Tensor:
    """Uniform numbers that are a function of seeds and coordinates alone.

    Args:
        seeds: int64, any shape; 63 bits are used.
        coordinates: int64 tensors or ints that broadcast with ``seeds``; their low 32 bits are used. Put
            small shapes first: a coordinate costs one pass over the broadcast shape so far.

    Returns:
        float32 in [0, 1), multiples of 2**-24, of the broadcast shape. The same bits on every device.
    """
    return (_hash_bits(seeds, *coordinates) >> 8).to(torch.float32) * 2.0**-24


def uniform_ratio(seeds: Tensor, low: float, high: float) -> Tensor:
    """One mask ratio a sample, uniform in [low, high]: (B,) float32 from (B,) int64 seeds."""
    return low + (high - low) * hash_uniform(seeds, _RATIO_STREAM)


def drop_path_keep(seeds: Tensor, layer: int, rate: float) -> Tensor:
    """Stochastic-depth factors of one block (Huang et al., "Deep Networks with Stochastic Depth", 2016).

    Args:
        seeds: (B,) int64, one a sample.
        layer: number of the block in the network.
        rate: probability in [0, 1) that a branch is dropped.

    Returns:
        (B, 2) float32, 0 or 1 / (1 - rate), for the attention branch and the MLP branch.
    """
    branch = torch.arange(2, device=seeds.device)
    kept = hash_uniform(seeds[:, None], _DROP_PATH_STREAM, layer, branch) >= rate
    return kept.to(torch.float32) / (1.0 - rate)


def input_mask(
    seeds: Tensor, ratio: float | Tensor, height: int, width: int, *, origin: tuple[int, int] = (0, 0)
) -> Tensor:
    """Pixels to hide from the network, independent of each other, shared by the channels.

    Args:
        seeds: (B,) int64, one a sample.
        ratio: expected fraction hidden in [0, 1]; a number or (B,), one a sample.
        height: rows of the mask.
        width: columns of the mask.
        origin: absolute (row, column) of the top-left pixel.

    Returns:
        (B, 1, H, W) bool, True = hidden.
    """
    rows, columns = _grid(height, width, origin, seeds.device)
    return _hidden(hash_uniform(seeds[:, None, None], _INPUT_STREAM, rows, columns), ratio)[:, None]


def replaced_pixels(
    seeds: Tensor, share: float, draw: int, height: int, width: int, *, origin: tuple[int, int] = (0, 0)
) -> Tensor:
    """Pixels that one copy of random-replacing refinement takes from the noisy image.

    Args:
        seeds: (B,) int64, one a sample.
        share: expected fraction in [0, 1].
        draw: number of the copy.
        height: rows of the image.
        width: columns of the image.
        origin: absolute (row, column) of the top-left pixel.

    Returns:
        (B, 1, H, W) bool.
    """
    rows, columns = _grid(height, width, origin, seeds.device)
    uniform = hash_uniform(seeds[:, None, None], _REPLACEMENT_STREAM, draw, rows, columns)
    return _hidden(uniform, share)[:, None]


def attention_mask(
    seeds: Tensor,
    ratio: float | Tensor,
    layer: int,
    height: int,
    width: int,
    *,
    origin: tuple[int, int] = (0, 0),
) -> Tensor:
    """Tokens to hide from the self-attention of one block, on the map before any cyclic shift.

    Args:
        seeds: (B,) int64, one a sample.
        ratio: expected fraction hidden in [0, 1]; a number or (B,), one a sample.
        layer: number of the block in the network; every block draws its own mask.
        height: rows of the token map.
        width: columns of the token map.
        origin: absolute (row, column) of the top-left token.

    Returns:
        (B, H, W) bool, True = hidden.
    """
    rows, columns = _grid(height, width, origin, seeds.device)
    return _hidden(hash_uniform(seeds[:, None, None], _ATTENTION_STREAM, layer, rows, columns), ratio)


def complementary_mask(
    seeds: Tensor,
    index: int,
    count: int,
    height: int,
    width: int,
    *,
    draw: int = 0,
    origin: tuple[int, int] = (0, 0),
) -> Tensor:
    """Mask number ``index`` of ``complementary_masks``, (B, 1, H, W) bool, without drawing the others."""
    return partition_numbers(seeds, count, height, width, draw=draw, origin=origin) == index


def complementary_masks(
    seeds: Tensor, count: int, height: int, width: int, *, draw: int = 0, origin: tuple[int, int] = (0, 0)
) -> Tensor:
    """Random partition of the pixels into ``count`` masks: every pixel is hidden in exactly one.

    Args:
        seeds: (B,) int64, one a sample.
        count: number of masks k >= 2; each hides 1/k of the pixels in expectation.
        height: rows of the masks.
        width: columns of the masks.
        draw: number of the partition; partitions of different draws are independent.
        origin: absolute (row, column) of the top-left pixel.

    Returns:
        (count, B, 1, H, W) bool, True = hidden.
    """
    part = partition_numbers(seeds, count, height, width, draw=draw, origin=origin)
    return torch.stack([part == index for index in range(count)])


def hide(image: Tensor, mask: Tensor, fill: float) -> Tensor:
    """Copy of ``image`` (B, C, H, W) with the pixels of ``mask`` (B, 1, H, W) set to ``fill``."""
    return image.masked_fill(mask, fill)


def partition_numbers(
    seeds: Tensor, count: int, height: int, width: int, *, draw: int = 0, origin: tuple[int, int] = (0, 0)
) -> Tensor:
    """Number of the one of ``complementary_masks`` that hides each pixel, (B, 1, H, W) int64 in [0, ``count``)."""
    if count < 2:
        raise ValueError(f"mask_count must be at least 2, got {count}")
    rows, columns = _grid(height, width, origin, seeds.device)
    bits = _hash_bits(seeds[:, None, None], _COMPLEMENTARY_STREAM, draw, rows, columns)
    return ((bits * count) >> 32)[:, None]


def _hidden(uniform: Tensor, ratio: float | Tensor) -> Tensor:
    if isinstance(ratio, Tensor):
        ratio = ratio.to(uniform).reshape(-1, 1, 1)
    return uniform < ratio


def _grid(height: int, width: int, origin: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    rows = torch.arange(origin[0], origin[0] + height, device=device)[:, None]
    columns = torch.arange(origin[1], origin[1] + width, device=device)
    return rows, columns
