"""The masked Swin as its papers write it, for timing and for equality: nothing fused, nothing skipped.

Liu et al., SwinIR (arXiv 2108.10257, section 3) with the masks of Chen et al. (arXiv 2303.13132, section 3.3), step
by step as the released network computes them: roll, cut, LayerNorm first, multiply by the mask, project all tokens,
Q K^T, add the position bias, add the shift mask, softmax, times V. The shift mask is computed anew for every block
at sizes other than the training crop, and masks are drawn on the host for every block, as there.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models import MaskedSwinSpec
from models.padding import pad_to_multiple
from models.windows import relative_position_index

DrawMask = Callable[[int, int, int], Tensor]
"""(block, windows, tokens) to (windows, tokens) bool, True = hidden; windows of the rolled map."""


def host_masks(ratio: float, seed: int) -> DrawMask:
    """Masks drawn with numpy and copied, block by block."""
    generator = np.random.default_rng(seed)
    return lambda _, windows, tokens: torch.from_numpy(generator.random((windows, tokens)) < ratio)


def reference_forward(
    weights: Mapping[str, Tensor],
    spec: MaskedSwinSpec,
    image: Tensor,
    draw: DrawMask | None,
    *,
    keep: Callable[[int], Tensor | None] = lambda _: None,
    crop: int = 64,
) -> Tensor:
    """Output of the network; ``weights`` by the names of ``MaskedSwin.state_dict``, ``keep`` gives DropPath factors."""
    height, width = image.shape[-2:]
    mean = torch.tensor([0.4488, 0.4371, 0.4040] if spec.channels == 3 else [0.0] * spec.channels)
    mean = mean.to(image.device).view(1, -1, 1, 1)
    padded = pad_to_multiple(image, spec.window) - mean
    rows, columns = padded.shape[-2:]
    embedded = F.conv2d(padded, weights["conv_first.weight"], weights["conv_first.bias"])
    tokens = _norm(weights, "embed_norm", embedded.flatten(2).transpose(1, 2))
    trained = (rows, columns) == (crop, crop)
    stored = _shift_mask(rows, columns, spec.window) if trained else None
    layer = 0
    for group, depth in enumerate(spec.depths):
        entry = tokens
        for block in range(depth):
            shift = spec.window // 2 if block % 2 else 0
            shift_mask = stored if trained else _shift_mask(rows, columns, spec.window)
            tokens = _block(
                weights,
                f"groups.{group}.blocks.{block}",
                tokens,
                (rows, columns),
                spec,
                spec.heads[group],
                shift,
                shift_mask if shift else None,
                None if draw is None else lambda n, t, layer=layer: draw(layer, n, t),
                keep(layer),
            )
            layer += 1
        convolved = _bottleneck(weights, f"groups.{group}.conv", _to_map(tokens, rows, columns))
        tokens = convolved.flatten(2).transpose(1, 2) + entry
    tokens = _norm(weights, "norm", tokens)
    body = _bottleneck(weights, "conv_body", _to_map(tokens, rows, columns))
    output = F.conv2d(body, weights["conv_last.weight"], weights["conv_last.bias"], padding=1) + mean
    return output[..., :height, :width]


def _block(
    weights: Mapping[str, Tensor],
    name: str,
    tokens: Tensor,
    size: tuple[int, int],
    spec: MaskedSwinSpec,
    heads: int,
    shift: int,
    shift_mask: Tensor | None,
    draw: Callable[[int, int], Tensor] | None,
    keep: Tensor | None,
) -> Tensor:
    (rows, columns), window = size, spec.window
    batch, _, dim = tokens.shape
    shortcut = tokens
    grid = _norm(weights, f"{name}.norm1", tokens).view(batch, rows, columns, dim)
    if shift:
        grid = torch.roll(grid, (-shift, -shift), (1, 2))
    windows = grid.view(batch, rows // window, window, columns // window, window, dim)
    windows = windows.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, window * window, dim)
    if draw is not None:
        windows = windows * (~draw(*windows.shape[:2])).to(windows)[..., None]
    attended = _attention(weights, f"{name}.attention", windows, heads, window, shift_mask)
    grid = attended.view(batch, rows // window, columns // window, window, window, dim)
    grid = grid.permute(0, 1, 3, 2, 4, 5).contiguous().view(batch, rows, columns, dim)
    if shift:
        grid = torch.roll(grid, (shift, shift), (1, 2))
    attention, mlp = (None, None) if keep is None else (keep[:, 0, None, None], keep[:, 1, None, None])
    branch = grid.view(batch, rows * columns, dim)
    tokens = shortcut + (branch if attention is None else branch * attention)
    hidden = F.gelu(_linear(weights, f"{name}.mlp.fc1", _norm(weights, f"{name}.norm2", tokens)))
    branch = _linear(weights, f"{name}.mlp.fc2", hidden)
    return tokens + (branch if mlp is None else branch * mlp)


def _attention(
    weights: Mapping[str, Tensor], name: str, windows: Tensor, heads: int, window: int, shift_mask: Tensor | None
) -> Tensor:
    count, length, dim = windows.shape
    qkv = _linear(weights, f"{name}.qkv", windows).reshape(count, length, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
    query, key, value = qkv[0] * (dim // heads) ** -0.5, qkv[1], qkv[2]
    logits = query @ key.transpose(-2, -1)
    index = relative_position_index(window).view(-1).to(windows.device)
    bias = weights[f"{name}.bias_table"][index].view(length, length, heads).permute(2, 0, 1).contiguous()
    logits = logits + bias.unsqueeze(0)
    if shift_mask is not None:
        several = shift_mask.shape[0]
        logits = (
            logits.view(count // several, several, heads, length, length) + shift_mask.to(logits.device)[None, :, None]
        )
        logits = logits.view(-1, heads, length, length)
    attended = (logits.softmax(-1) @ value).transpose(1, 2).reshape(count, length, dim)
    return _linear(weights, f"{name}.proj", attended)


def _shift_mask(rows: int, columns: int, window: int) -> Tensor:
    """(windows, T, T), 0 or -100, by numbering the regions of the rolled map (Swin, figure 4)."""
    regions = torch.zeros(rows, columns)
    shift = window // 2
    parts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for number, (row, column) in enumerate((row, column) for row in parts for column in parts):
        regions[row, column] = number
    cut = regions.view(rows // window, window, columns // window, window).permute(0, 2, 1, 3)
    flat = cut.reshape(-1, window * window)
    difference = flat.unsqueeze(1) - flat.unsqueeze(2)
    return difference.masked_fill(difference != 0, -100.0).masked_fill(difference == 0, 0.0)


def _norm(weights: Mapping[str, Tensor], name: str, tokens: Tensor) -> Tensor:
    return F.layer_norm(tokens, tokens.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def _linear(weights: Mapping[str, Tensor], name: str, tokens: Tensor) -> Tensor:
    return F.linear(tokens, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _bottleneck(weights: Mapping[str, Tensor], name: str, maps: Tensor) -> Tensor:
    maps = F.conv2d(maps, weights[f"{name}.0.weight"], weights[f"{name}.0.bias"], padding=1)
    maps = F.conv2d(F.leaky_relu(maps, 0.2), weights[f"{name}.2.weight"], weights[f"{name}.2.bias"])
    return F.conv2d(F.leaky_relu(maps, 0.2), weights[f"{name}.4.weight"], weights[f"{name}.4.bias"], padding=1)


def _to_map(tokens: Tensor, rows: int, columns: int) -> Tensor:
    return tokens.transpose(1, 2).reshape(len(tokens), -1, rows, columns)
