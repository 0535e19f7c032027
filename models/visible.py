"""Window attention that computes visible tokens only: exact, and several times cheaper where most are hidden.

A token hidden by the attention mask (arXiv 2303.13132, section 3.3) enters attention as zeros, so its query, key
and value are the biases of the projection. Write k' = W_k x and v' = W_v x for key and value without their bias.
In the row of query q the bias b_k adds the same number q.b_k to every logit, which softmax cancels, and b_v is
added to every output. With E = exp(B) for the position bias B (and shift mask), row i of attention is

    b_v + sum_j p_ij v'_j / sum_j p_ij,    p_ij = E_ij exp(q_i.k'_j)

and a hidden key has p_ij = E_ij and v' = 0. That leaves two cheap cases:

* a hidden query is the same b_q in every window, so its weights exp(b_q.k'_j) are one number a key and head, and
  all hidden rows are products of a constant matrix, E, with (weight, weight * v');
* a visible query (a quarter of them) meets visible keys (a quarter of them) and the sum of E over hidden keys,
  which is one more column of that product.

This file plans which windows are computed together: chunks that stay in the cache, ordered by their number of
visible tokens, so that padding them to the most visible of a chunk adds little. ``visible_block`` computes them.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Windows in a chunk. Odd: an even number of windows of 64 tokens puts the rows of the products a multiple of 4 KiB
# apart, where they evict each other from the first-level cache.
CHUNK = 63


@dataclass(frozen=True, slots=True)
class VisibleWindows:
    """Which tokens are visible in a chunk of n windows of T tokens each. All tensors are int64."""

    windows: Tensor
    """(n,) numbers of the windows, by number of visible tokens."""

    visible: Tensor
    """(V,) places of the visible tokens among the n * T of the chunk, ascending."""

    slots: Tensor
    """(n * S,) the visible tokens (numbers into ``visible``) of each window, padded to the largest number S."""

    pairs: Tensor
    """(n * S * S,) for a query and a key slot of a window, their entry in the padded (T + 1, T + 1) bias."""

    filled: Tensor
    """(V,) the slots that hold a token; the others are padding."""


def visible_windows(hidden: Tensor) -> list[VisibleWindows]:
    """Chunks of windows, ordered and cut so that those of a chunk have similar numbers of visible tokens.

    Args:
        hidden: (N, T) bool, True = hidden.
    """
    windows, length = hidden.shape
    counts, order = (length - hidden.sum(1)).sort(stable=True)
    places = (~hidden[order]).view(-1).nonzero()[:, 0]
    positions = F.pad(places % length, (0, 1), value=length)  # padding has a position of its own
    starts = F.pad(counts.cumsum(0), (1, 0))
    size = -(-windows // -(-windows // CHUNK)) | 1
    chunks = []
    for first in range(0, windows, size):
        part = slice(first, min(first + size, windows))
        start, stop = int(starts[part.start]), int(starts[part.stop])
        slot = torch.arange(max(1, int(counts[part.stop - 1])))
        is_padding = slot >= counts[part, None]
        token = starts[part, None] + slot
        position = positions[token.masked_fill(is_padding, len(places))]
        chunks.append(
            VisibleWindows(
                windows=order[part],
                visible=places[start:stop] - first * length,
                slots=(token - start).masked_fill_(is_padding, 0).view(-1),
                pairs=(position[:, :, None] * (length + 1) + position[:, None, :]).view(-1),
                filled=(~is_padding).view(-1).nonzero()[:, 0],
            )
        )
    return chunks
