"""Windows of a token map, and the constants of window attention.

Liu et al., "Swin Transformer", ICCV 2021 (arXiv 2103.14030), section 3.2: windows, cyclic shift with a mask
(figure 4) and relative position (equation 4). Letters: B batch, N windows, T tokens of a window, D channels.
"""

import functools

import torch
from torch import Tensor

# What Swin adds to the logits of tokens that the cyclic shift made neighbours: exp(-100) is 0 in float32.
FORBIDDEN = -100.0


def window_partition(tokens: Tensor, window: int) -> Tensor:
    """Cut a map into windows.

    Args:
        tokens: (B, H, W, ...), H and W multiples of ``window``.
        window: side of a window.

    Returns:
        (B, H / window, W / window, T, ...), T = window**2, tokens of a window row by row.
    """
    batch, height, width = tokens.shape[:3]
    rest = tokens.shape[3:]
    cut = tokens.reshape(batch, height // window, window, width // window, window, *rest)
    return cut.transpose(2, 3).reshape(batch, height // window, width // window, window * window, *rest)


def window_merge(windows: Tensor, window: int) -> Tensor:
    """Put the windows of ``window_partition`` back together: (B, H, W, ...)."""
    batch, rows, columns = windows.shape[:3]
    rest = windows.shape[4:]
    cut = windows.reshape(batch, rows, columns, window, window, *rest)
    return cut.transpose(2, 3).reshape(batch, rows * window, columns * window, *rest)


def relative_position_index(window: int) -> Tensor:
    """Row of the bias table for every pair of tokens of a window.

    Returns:
        (T, T) int64: for query q and key k the number (dy + w - 1) * (2w - 1) + (dx + w - 1) of their offset
        (dy, dx) = q - k.
    """
    position = torch.arange(window)
    offset = position[:, None] - position + window - 1
    pairs = offset[:, None, :, None] * (2 * window - 1) + offset[None, :, None, :]
    return pairs.reshape(window * window, window * window)


def shift_masks(window: int, shift: int) -> Tensor:
    """What is added to the logits after the cyclic shift.

    Windows of the last row and of the last column of the rolled map hold tokens from opposite borders of the
    image, which must not attend to each other; all other windows are whole.

    Returns:
        (4, T, T) float32, 0 or -100, for the windows inside, in the last column, in the last row, in the
        corner.
    """
    wrapped = (torch.arange(window) >= window - shift).to(torch.int64)
    rows, columns = wrapped[:, None].expand(window, window), wrapped.expand(window, window)
    masks = []
    for last_row, last_column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        region = (2 * last_row * rows + last_column * columns).reshape(-1)
        masks.append((region[:, None] != region).to(torch.float32) * FORBIDDEN)
    return torch.stack(masks)


@functools.lru_cache(maxsize=16)
def window_tokens(height: int, width: int, window: int, shift: int) -> Tensor:
    """Where the tokens of each window of the rolled map are on the map.

    Returns:
        (N, T) int64, row * width + column, windows row by row. Shared between calls: not to be changed.
    """
    with torch.inference_mode(False):  # an inference tensor could not be used for gradients later
        numbers = torch.arange(height * width).view(1, height, width).roll((-shift, -shift), (1, 2))
        return window_partition(numbers, window).flatten(0, 2)


@functools.lru_cache(maxsize=16)
def window_kinds(rows: int, columns: int, shift: int) -> tuple[tuple[int, Tensor], ...]:
    """The windows that share an entry of ``shift_masks``.

    Returns:
        (entry, (M,) int64 numbers of windows, row by row) for every entry that some window needs.
    """
    with torch.inference_mode(False):
        kinds = torch.zeros(rows, columns, dtype=torch.int64)
        if shift:
            kinds[:, -1] += 1
            kinds[-1] += 2
        numbers = [(kind, (kinds.view(-1) == kind).nonzero()[:, 0]) for kind in range(4)]
    return tuple((kind, found) for kind, found in numbers if len(found))


def inverse_permutation(order: Tensor) -> Tensor:
    """Where each number is in ``order``, (P,) int64."""
    return torch.zeros_like(order).scatter(0, order, torch.arange(order.shape[0], device=order.device))
