"""The masked Swin transformer in a form that a tracer digests: the same sums, written for a graph.

`MaskedSwin` cuts its map into windows at every block, by rules that look at numbers of windows. To `torch.export` with
any height and width these are symbols, and reasoning about a cut map at each of 24 blocks takes it a quarter of an
hour; here tokens stay a flat list, (P, D) with P = H * W, in the order of the windows, and what a cyclic shift does is
one list of places made once. One image at a time, no stochastic depth, no input mask.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .masked_swin import MaskedSwin
from .masks import attention_mask, fold_seeds, uniform_ratio
from .swin import ResidualGroup, SwinBlock
from .windows import FORBIDDEN, inverse_permutation, relative_position_index, window_partition


class FlatSwin(nn.Module):
    """A ``MaskedSwin`` in evaluation, with its weights; masks follow from one seed.

    Args:
        network: the network; its weights are shared.
        seed: of the attention masks, as ``MaskedSwin.forward`` takes it; None for no masks.
    """

    mean: Tensor
    index: Tensor
    seeds: Tensor

    def __init__(self, network: MaskedSwin, seed: int | None) -> None:
        super().__init__()
        self.window = network.spec.window
        self.skips = network.spec.skips
        self.conv_first, self.embed_norm = network.conv_first, network.embed_norm
        self.groups = nn.ModuleList(FlatGroup(group) for group in network.groups)
        self.norm, self.conv_body, self.conv_last = network.norm, network.conv_body, network.conv_last
        self.register_buffer("mean", network.mean, persistent=False)
        self.register_buffer("index", relative_position_index(self.window), persistent=False)
        self.register_buffer("seeds", torch.tensor([seed or 0]), persistent=False)
        self.ratios = [0.0] * len(network.block_ratios)
        if seed is not None:
            # A range draws one number a block from the seed, which is a constant here.
            ranges = network.block_ratios
            drawn = (uniform_ratio(fold_seeds(self.seeds, layer), *ends) for layer, ends in enumerate(ranges))
            self.ratios = [
                low if low == high else float(ratio) for (low, high), ratio in zip(ranges, drawn, strict=True)
            ]

    def forward(self, image: Tensor) -> Tensor:
        """Denoise (1, C, H, W), H and W multiples of the window, at least two windows each."""
        window, shift = self.window, self.window // 2
        height, width = image.shape[2:]
        place = torch.arange(height * width).view(height, width)
        straight = _cut(place, window).reshape(-1)
        rolled = _cut(place.roll((-shift, -shift), (0, 1)), window).reshape(-1)
        order = inverse_permutation(straight)
        shifted, unshifted = order[rolled], inverse_permutation(rolled)[straight]
        walls = _walls(height, width, window)
        centred = image - self.mean
        embedded = self.conv_first(centred)
        tokens = self.embed_norm(embedded[0].flatten(1).t()[straight])
        layer = 0
        for group in self.groups:
            assert isinstance(group, FlatGroup)
            entry = tokens
            for block in group.blocks:
                assert isinstance(block, FlatBlock)
                hidden = self._hidden(layer, height, width, rolled if block.shifted else straight)
                if block.shifted:
                    tokens = block(tokens[shifted], self.index, walls, hidden)[unshifted]
                else:
                    tokens = block(tokens, self.index, None, hidden)
                layer += 1
            tokens = group.conv(_map(tokens[order], embedded))[0].flatten(1).t()[straight] + entry
        body = self.conv_body(_map(self.norm(tokens)[order], embedded))
        output: Tensor = self.conv_last(body + embedded) + centred if self.skips else self.conv_last(body)
        return output + self.mean

    def _hidden(self, layer: int, height: int, width: int, places: Tensor) -> Tensor | None:
        """Tokens hidden from one block, (P, 1) bool in the order ``places``."""
        if self.ratios[layer] == 0:
            return None
        return attention_mask(self.seeds, self.ratios[layer], layer, height, width).reshape(-1)[places, None]


class FlatGroup(nn.Module):
    """The blocks of a ``ResidualGroup`` and its convolution."""

    def __init__(self, group: nn.Module) -> None:
        super().__init__()
        assert isinstance(group, ResidualGroup)
        self.blocks = nn.ModuleList(FlatBlock(block) for block in group.blocks)
        self.conv = group.conv


class FlatBlock(nn.Module):
    """A ``SwinBlock`` on tokens in the order of its windows, without its tables, which are the same in all blocks."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        assert isinstance(block, SwinBlock)
        self.length, self.shifted, self.heads = block.window**2, block.shift > 0, block.attention.heads
        self.norm1, self.norm2, self.mlp = block.norm1, block.norm2, block.mlp
        self.qkv, self.proj, self.bias_table = block.attention.qkv, block.attention.proj, block.attention.bias_table

    def forward(self, tokens: Tensor, index: Tensor, walls: Tensor | None, hidden: Tensor | None) -> Tensor:
        """Run the block.

        Args:
            tokens: (P, D), window after window.
            index: (T, T), rows of the bias table.
            walls: (N, 1, T, T), added to the logits; None for nothing.
            hidden: (P, 1) bool, True = hidden; None hides nothing.

        Returns:
            (P, D).
        """
        normalised = self.norm1(tokens)
        if hidden is not None:
            normalised = normalised.masked_fill(hidden, 0.0)
        qkv = self.qkv(normalised).view(-1, self.length, 3, self.heads, tokens.shape[1] // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.bias_table[index].permute(2, 0, 1)[None]
        bias = bias if walls is None else bias + walls
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        tokens = tokens + self.proj(attended.transpose(1, 2).reshape(tokens.shape))
        output: Tensor = tokens + self.mlp(self.norm2(tokens))
        return output


def _cut(values: Tensor, window: int) -> Tensor:
    """Cut (H, W) into windows, (N, T)."""
    return window_partition(values[None], window)[0].flatten(0, 1)


def _walls(height: int, width: int, window: int) -> Tensor:
    """What is added to the logits after the cyclic shift, (N, 1, T, T): see ``windows.shift_masks``."""
    sides = []
    for size in (height, width):
        place = torch.arange(size)
        sides.append((place >= size - window).to(torch.int64) + (place >= size - window // 2).to(torch.int64))
    region = _cut(3 * sides[0][:, None] + sides[1], window)
    return ((region[:, :, None] != region[:, None]).to(torch.float32) * FORBIDDEN)[:, None]


def _map(tokens: Tensor, like: Tensor) -> Tensor:
    """Tokens (P, D) in the order of the map as an image of the shape of ``like``, (1, D, H, W)."""
    return tokens.t().reshape(like.shape)
