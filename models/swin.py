"""Swin blocks and residual groups of them (RSTB).

Liu et al., SwinIR, arXiv 2108.10257, section 3.2, equations 5 to 8, in the variant of masked training
(arXiv 2303.13132): hidden tokens are zeroed between the first LayerNorm and the attention, the residual is
not.
"""

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import WindowAttention
from .token_map import TokenMap
from .visible import visible_windows
from .visible_block import Plan, visible_block
from .visible_pass import Chunk, OutOfRangeError
from .visible_weights import block_weights
from .windows import shift_masks, window_kinds, window_merge, window_partition, window_tokens

# Windows computed at once on a CPU without gradients: keeps the logits in the cache and memory small.
_CHUNK = 64

# Fraction of hidden tokens from which the visible-token form is the faster one (docs/results/masked-swin-speed.md).
_VISIBLE_PAYS = 0.4


class FeedForward(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        output: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return output


def visible_pays(hidden: Tensor) -> bool:
    """Whether to compute visible tokens only: on a CPU, outside of tracing, if enough tokens are hidden.

    The number of visible tokens decides shapes, which would stop a GPU and cannot be traced.
    """
    if hidden.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return int(hidden.sum()) >= _VISIBLE_PAYS * hidden.numel()


class SwinBlock(nn.Module):
    """Window attention and a feed-forward layer, each with LayerNorm in front and a residual.

    Apart from the cyclic shift all steps act inside windows, so the whole block runs window by window.
    """

    shift_masks: Tensor

    def __init__(self, dim: int, heads: int, window: int, shift: int, hidden: int) -> None:
        super().__init__()
        self.window = window
        self.shift = shift
        self.norm1 = nn.LayerNorm(dim)
        self.attention = WindowAttention(dim, heads, window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = FeedForward(dim, hidden)
        self.register_buffer("shift_masks", shift_masks(window, shift), persistent=False)

    def forward(self, tokens: TokenMap, *, hidden: Tensor | None = None, keep: Tensor | None = None) -> TokenMap:
        """Run the block.

        Args:
            tokens: a map of (B, H, W, D), H and W multiples of the window.
            hidden: (B, H / window, W / window, T) bool, True = hidden, on the rolled map; None hides nothing.
            keep: (B, 2) stochastic-depth factors of the two branches; None for 1.

        Returns:
            A map of the same shape, its rows in any order.
        """
        if hidden is not None and tokens.rows.dtype == torch.float32 and visible_pays(hidden):
            with contextlib.suppress(OutOfRangeError):
                return self._run_visible(tokens, hidden.flatten(0, 2), keep)
        return TokenMap.of(self._run_plain(tokens.map(), hidden, keep))

    def _run_visible(self, tokens: TokenMap, hidden: Tensor, keep: Tensor | None) -> TokenMap:
        batch, height, width = tokens.shape
        token_of = window_tokens(height, width, self.window, self.shift)
        count, length = token_of.shape
        image = torch.arange(batch)[:, None]
        chunks, places = [], []
        for kind, numbers in window_kinds(height // self.window, width // self.window, self.shift):
            windows = (image * count + numbers).view(-1)
            for part in visible_windows(hidden[windows]):
                chosen = windows[part.windows]
                of_image = chosen // count
                places.append((token_of[chosen % count] + (of_image * (height * width))[:, None]).view(-1))
                factors = None if keep is None else keep[of_image].repeat_interleave(length, dim=0)
                chunks.append(Chunk(place=tokens.find(places[-1]), windows=part, kind=kind, keep=factors))
        autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if autocast else tokens.rows.dtype
        plan = Plan(chunks=chunks, length=length, allowed=(self.shift_masks == 0).to(tokens.rows.dtype), dtype=dtype)
        weights = block_weights(
            self.norm1, self.attention.qkv, self.attention.proj, self.norm2, self.mlp.fc1, self.mlp.fc2,
            self.attention.position_bias(),
        )  # fmt: skip
        return tokens.reordered(visible_block(tokens.rows, plan, weights), torch.cat(places))

    def _run_plain(self, tokens: Tensor, hidden: Tensor | None, keep: Tensor | None) -> Tensor:
        windows = window_partition(self.roll(tokens), self.window)
        position_bias = self.attention.position_bias()
        bands = []
        for rows, parts in self._groups(*windows.shape[1:3]):
            band = [
                self._run_group(
                    windows[:, rows, columns],
                    position_bias + self.shift_masks[kind],
                    None if hidden is None else hidden[:, rows, columns],
                    keep,
                )
                for columns, kind in parts
            ]
            bands.append(torch.cat(band, dim=2))
        merged = window_merge(torch.cat(bands, dim=1), self.window)
        return merged.roll((self.shift, self.shift), (1, 2)) if self.shift else merged

    def roll(self, tokens: Tensor) -> Tensor:
        """Cyclic shift of (B, H, W, ...) towards the top left, if this block shifts."""
        return tokens.roll((-self.shift, -self.shift), (1, 2)) if self.shift else tokens

    def _groups(self, rows: int, columns: int) -> Iterator[tuple[slice, list[tuple[slice, int]]]]:
        """Rectangles of windows that share one shift mask, with the number of the mask."""
        if not self.shift:
            yield slice(0, rows), [(slice(0, columns), 0)]
            return
        for band, last_row in ((slice(0, rows - 1), 0), (slice(rows - 1, rows), 1)):
            if band.stop > band.start:
                parts = [
                    (slice(0, columns - 1), 2 * last_row),
                    (slice(columns - 1, columns), 2 * last_row + 1),
                ]
                yield band, [(part, kind) for part, kind in parts if part.stop > part.start]

    def _run_group(self, windows: Tensor, bias: Tensor, hidden: Tensor | None, keep: Tensor | None) -> Tensor:
        batch, rows, columns, length, _ = windows.shape
        tokens = windows.flatten(0, 2)
        if hidden is not None:
            hidden = hidden.reshape(-1, length)
        if keep is not None:
            keep = keep.to(tokens.dtype).repeat_interleave(rows * columns, dim=0)
        whole = torch.is_grad_enabled() or torch.compiler.is_compiling() or tokens.device.type != "cpu"
        chunk = max(1, len(tokens)) if whole else _CHUNK
        outputs = [
            self._run_windows(
                tokens[start : start + chunk],
                bias,
                None if hidden is None else hidden[start : start + chunk],
                None if keep is None else keep[start : start + chunk],
            )
            for start in range(0, len(tokens), chunk)
        ]
        return torch.cat(outputs).view(batch, rows, columns, length, -1)

    def _run_windows(self, tokens: Tensor, bias: Tensor, hidden: Tensor | None, keep: Tensor | None) -> Tensor:
        branch = self._attend(tokens, bias, hidden)
        return self._add(tokens, branch, None if keep is None else keep[:, None])

    def _attend(self, tokens: Tensor, bias: Tensor, hidden: Tensor | None) -> Tensor:
        """Attention branch of windows (N, T, D)."""
        normalised = self.norm1(tokens)
        if hidden is not None:
            normalised = normalised.masked_fill(hidden[..., None], 0.0)
        branch: Tensor = self.attention(normalised, bias)
        return branch

    def _add(self, tokens: Tensor, branch: Tensor, keep: Tensor | None) -> Tensor:
        """Add the attention branch, then the MLP branch, to tokens (..., D); ``keep`` broadcasts to (..., 2)."""
        tokens = tokens + (branch if keep is None else branch * keep[..., :1])
        branch = self.mlp(self.norm2(tokens))
        return tokens + (branch if keep is None else branch * keep[..., 1:])


class ResidualGroup(nn.Module):
    """Swin blocks, alternately shifted, and a convolution, with a residual around all (RSTB)."""

    def __init__(
        self, dim: int, depth: int, heads: int, window: int, hidden: int, kind: Literal["3conv", "1conv"]
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(dim, heads, window, window // 2 if index % 2 else 0, hidden) for index in range(depth)
        )
        self.conv = end_conv(dim, kind)

    def finish(self, tokens: Tensor, entry: Tensor) -> Tensor:
        """Convolve the output (B, H, W, D) of the blocks and add the input ``entry`` of the group."""
        convolved: Tensor = self.conv(tokens.permute(0, 3, 1, 2)).to(entry.dtype)
        return convolved.add_(entry.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def end_conv(dim: int, kind: Literal["3conv", "1conv"]) -> nn.Module:
    """SwinIR's convolution at the end of a group, on (B, D, H, W).

    "1conv" is one 3x3; "3conv" is 3x3 to D/4, 1x1, 3x3 back to D, with LeakyReLU 0.2 between.
    """
    if kind == "1conv":
        return nn.Conv2d(dim, dim, 3, padding=1)
    narrow = dim // 4
    return nn.Sequential(
        nn.Conv2d(dim, narrow, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(narrow, narrow, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(narrow, dim, 3, padding=1),
    )
