"""SwinIR without an upsampler, restated in NumPy and float64 from the equations of arXiv 2108.10257 and 2103.14030.

Written for tests, from the papers and the published names of the weights; it shares no line with `models/`.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
MEAN = (0.4488, 0.4371, 0.4040)


def random_weights(
    *,
    channels: int,
    dim: int,
    depths: tuple[int, ...],
    heads: int,
    window: int,
    hidden: int,
    kernel: int,
    conv: str,
    seed: int = 0,
) -> dict[str, NDArray[np.float32]]:
    """Weights with SwinIR's names, drawn at random."""
    shapes: dict[str, tuple[int, ...]] = {
        "conv_first.weight": (dim, channels, kernel, kernel),
        "conv_first.bias": (dim,),
        "conv_last.weight": (channels, dim, 3, 3),
        "conv_last.bias": (channels,),
    }
    norms = ["patch_embed.norm", "norm"]
    ends = ["conv_after_body"]
    for i, depth in enumerate(depths):
        ends.append(f"layers.{i}.conv")
        for j in range(depth):
            block = f"layers.{i}.residual_group.blocks.{j}"
            norms += [f"{block}.norm1", f"{block}.norm2"]
            shapes[f"{block}.attn.relative_position_bias_table"] = ((2 * window - 1) ** 2, heads)
            for name, outputs, inputs in (
                ("attn.qkv", 3 * dim, dim),
                ("attn.proj", dim, dim),
                ("mlp.fc1", hidden, dim),
                ("mlp.fc2", dim, hidden),
            ):
                shapes |= {f"{block}.{name}.weight": (outputs, inputs), f"{block}.{name}.bias": (outputs,)}
    for end in ends:
        sizes = [(end, dim, dim, 3)]
        if conv == "3conv":
            sizes = [
                (f"{end}.0", dim // 4, dim, 3),
                (f"{end}.2", dim // 4, dim // 4, 1),
                (f"{end}.4", dim, dim // 4, 3),
            ]
        for name, outputs, inputs, side in sizes:
            shapes |= {f"{name}.weight": (outputs, inputs, side, side), f"{name}.bias": (outputs,)}
    for norm in norms:
        shapes |= {f"{norm}.weight": (dim,), f"{norm}.bias": (dim,)}
    generator = np.random.default_rng(seed)
    weights = {}
    for name, shape in shapes.items():
        fan = math.prod(shape[1:]) if len(shape) > 1 else 25
        values = generator.normal(size=shape) / math.sqrt(fan)
        weights[name] = (values + (1 if "norm" in name and name.endswith("weight") else 0)).astype(np.float32)
    return weights


def swinir(weights: Mapping[str, NDArray[np.float32]], image: Array, *, window: int, skips: bool) -> Array:
    """Denoise one image (C, H, W)."""
    state = {name: value.astype(np.float64) for name, value in weights.items()}
    channels, height, width = image.shape
    mean = np.array(MEAN if channels == 3 else [0.0] * channels)[:, None, None]
    pads = ((0, 0), (0, -height % window), (0, -width % window))
    x = np.pad(image, pads, mode="reflect") - mean
    first = convolve(x, state, "conv_first")
    tokens = layer_norm(first.transpose(1, 2, 0), state, "patch_embed.norm")
    i = 0
    while f"layers.{i}.residual_group.blocks.0.norm1.weight" in state:
        entry, j = tokens, 0
        while f"layers.{i}.residual_group.blocks.{j}.norm1.weight" in state:
            shift = window // 2 if j % 2 else 0
            tokens = swin_layer(tokens, state, f"layers.{i}.residual_group.blocks.{j}", window, shift)
            j += 1
        tokens = end(tokens.transpose(2, 0, 1), state, f"layers.{i}.conv").transpose(1, 2, 0) + entry
        i += 1
    body = end(layer_norm(tokens, state, "norm").transpose(2, 0, 1), state, "conv_after_body")
    output = x + convolve(body + first, state, "conv_last") if skips else convolve(body, state, "conv_last")
    result: Array = (output + mean)[:, :height, :width]
    return result


def swin_layer(tokens: Array, state: Mapping[str, Array], name: str, window: int, shift: int) -> Array:
    """Equations of section 3.2 on a map (H, W, D): X = MSA(LN(X)) + X, X = MLP(LN(X)) + X."""
    height, width, dim = tokens.shape
    table = state[f"{name}.attn.relative_position_bias_table"]
    heads = table.shape[1]
    depth = dim // heads
    rolled = np.roll(layer_norm(tokens, state, f"{name}.norm1"), (-shift, -shift), (0, 1))
    attended = np.zeros_like(rolled)
    for top in range(0, height, window):
        for left in range(0, width, window):
            places = [(top + y, left + x) for y in range(window) for x in range(window)]
            qkv = linear(np.array([rolled[place] for place in places]), state, f"{name}.attn.qkv")
            out = np.zeros((len(places), dim))
            for head in range(heads):
                part = slice(head * depth, (head + 1) * depth)
                query, key, value = (qkv[:, block * dim : (block + 1) * dim][:, part] for block in range(3))
                logits = query @ key.T / math.sqrt(depth)
                for a, (ya, xa) in enumerate(places):
                    for b, (yb, xb) in enumerate(places):
                        row = (ya - yb + window - 1) * (2 * window - 1) + (xa - xb + window - 1)
                        logits[a, b] += table[row, head]
                        # A token that came round the border is no neighbour of one that did not.
                        if (ya >= height - shift) != (yb >= height - shift) or (xa >= width - shift) != (
                            xb >= width - shift
                        ):
                            logits[a, b] -= 100.0
                weight = np.exp(logits - logits.max(1, keepdims=True))
                out[:, part] = weight / weight.sum(1, keepdims=True) @ value
            for place, result in zip(places, linear(out, state, f"{name}.attn.proj"), strict=True):
                attended[place] = result
    tokens = tokens + np.roll(attended, (shift, shift), (0, 1))
    hidden = linear(layer_norm(tokens, state, f"{name}.norm2"), state, f"{name}.mlp.fc1")
    hidden = 0.5 * hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    result: Array = tokens + linear(hidden, state, f"{name}.mlp.fc2")
    return result


def linear(x: Array, state: Mapping[str, Array], name: str) -> Array:
    """X W^T + b."""
    result: Array = x @ state[f"{name}.weight"].T + state[f"{name}.bias"]
    return result


def layer_norm(x: Array, state: Mapping[str, Array], name: str) -> Array:
    """Over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    normalised = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    result: Array = normalised * state[f"{name}.weight"] + state[f"{name}.bias"]
    return result


def convolve(x: Array, state: Mapping[str, Array], name: str) -> Array:
    """Convolution of (C, H, W) with zeros around it."""
    kernel = state[f"{name}.weight"]
    side = kernel.shape[-1]
    around = side // 2
    padded = np.pad(x, ((0, 0), (around, around), (around, around)))
    total = np.zeros((kernel.shape[0], *x.shape[1:]))
    for dy in range(side):
        for dx in range(side):
            total += np.einsum(
                "oc,chw->ohw", kernel[:, :, dy, dx], padded[:, dy : dy + x.shape[1], dx : dx + x.shape[2]]
            )
    result: Array = total + state[f"{name}.bias"][:, None, None]
    return result


def end(x: Array, state: Mapping[str, Array], name: str) -> Array:
    """The convolution at the end of a group: one, or three with LeakyReLU 0.2 between."""
    if f"{name}.weight" in state:
        return convolve(x, state, name)
    for index in (0, 2, 4):
        x = convolve(x if index == 0 else np.where(x > 0, x, 0.2 * x), state, f"{name}.{index}")
    return x
