"""Swin blocks and residual groups of them (RSTB).

Liu et al., SwinIR, arXiv 2108.10257, section 3.2, equations 5 to 8, in the variant of masked training
(arXiv 2303.13132): hidden tokens are zeroed between the first LayerNorm and the attention, the residual is
not.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import WindowAttention
from .windows import shift_masks, window_merge, window_partition

# Windows computed at once when no gradient is needed: keeps the logits in the cache and memory small.
_CHUNK = 64


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

    def forward(self, tokens: Tensor, *, hidden: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """Run the block.

        Args:
            tokens: (B, H, W, D), H and W multiples of the window.
            hidden: (B, H / window, W / window, T) bool, True = hidden, on the rolled map; None hides nothing.
            keep: (B, 2) stochastic-depth factors of the two branches; None for 1.

        Returns:
            (B, H, W, D).
        """
        rolled = self.roll(tokens)
        windows = window_partition(rolled, self.window)
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
        chunk = max(1, len(tokens)) if torch.is_grad_enabled() else _CHUNK
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
        normalised = self.norm1(tokens)
        if hidden is not None:
            normalised = normalised.masked_fill(hidden[..., None], 0.0)
        branch: Tensor = self.attention(normalised, bias)
        tokens = tokens + (branch if keep is None else branch * keep[:, 0, None, None])
        branch = self.mlp(self.norm2(tokens))
        return tokens + (branch if keep is None else branch * keep[:, 1, None, None])


class ResidualGroup(nn.Module):
    """Swin blocks, alternately shifted, and a bottleneck convolution, with a residual around all (RSTB)."""

    def __init__(self, dim: int, depth: int, heads: int, window: int, hidden: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(dim, heads, window, window // 2 if index % 2 else 0, hidden) for index in range(depth)
        )
        self.conv = bottleneck(dim)

    def finish(self, tokens: Tensor, entry: Tensor) -> Tensor:
        """Convolve the output (B, H, W, D) of the blocks and add the input ``entry`` of the group."""
        convolved = self.conv(tokens.permute(0, 3, 1, 2))
        output: Tensor = convolved.permute(0, 2, 3, 1) + entry
        return output


def bottleneck(dim: int) -> nn.Sequential:
    """SwinIR's "3conv" on (B, D, H, W): 3x3 to D/4, 1x1, 3x3 back to D, LeakyReLU 0.2 between."""
    narrow = dim // 4
    return nn.Sequential(
        nn.Conv2d(dim, narrow, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(narrow, narrow, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(narrow, dim, 3, padding=1),
    )
