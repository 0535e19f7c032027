"""The shape of a Swin network, read from the names and shapes of a state dict with official names.

Two codes share the names: SwinIR (arXiv 2108.10257, github JingyunLiang/SwinIR) and masked training
(arXiv 2303.13132, github haoyuc/MaskedDenoising), which copied it. What shapes cannot tell, the skips around body
and network, follows from the embedding: 3x3 is SwinIR's, with skips, and 1x1 that of masked training, without.
"""

import math
import re
from collections.abc import Mapping
from typing import Literal

import torch

from .masked_swin import MaskedSwin, MaskedSwinSpec
from .network import MAX_TABLE_BYTES, table_bytes
from .official import to_official_state_dict

Layout = Literal["masked-training", "swinir"]

Shapes = Mapping[str, tuple[int, ...]]

_BLOCK = re.compile(r"layers\.(\d{1,3})\.residual_group\.blocks\.(\d{1,3})\.")
_UPSAMPLERS = ("upsample.", "conv_before_upsample.", "conv_up1.", "conv_up2.", "conv_hr.")


def spec_from_shapes(shapes: Shapes, *, layout: Layout | None = None, attention_ratio: float = 0.75) -> MaskedSwinSpec:
    """Spec of the network that has these weights.

    Args:
        shapes: official names, without prefixes and buffers, to shapes; numbers of any size.
        layout: whose code made the weights; None tells it from the embedding.
        attention_ratio: fraction of tokens hidden from self-attention that a network of masked training was
            trained with; it leaves no trace in the weights. SwinIR hides none.

    Returns:
        The spec; every name and shape of its network is in ``shapes``, and there is no other.

    Raises:
        ValueError: another architecture, or one that this package does not have; names the weight.
    """
    # An iterable of more names than a network has could keep the expressions below busy.
    if len(shapes) > 1 << 16 or any(len(name) > 200 for name in shapes):
        raise ValueError(f"not a SwinIR-like state dict: {len(shapes)} weights, or names without end")
    for name in sorted(shapes):
        if name.startswith(_UPSAMPLERS):
            raise ValueError(f"{name} belongs to a SwinIR that enlarges; only those without an upsampler denoise")
    dim, channels, kernel, _ = _shape(shapes, "conv_first.weight", 4)
    depths = _depths(shapes)
    tables = [
        _shape(shapes, f"layers.{index}.residual_group.blocks.0.attn.relative_position_bias_table", 2)
        for index in range(len(depths))
    ]
    side = math.isqrt(tables[0][0])
    if side * side != tables[0][0] or side % 2 == 0:
        raise ValueError(f"the bias table must have (2 * window - 1)**2 rows, got {tables[0][0]}")
    spec = MaskedSwinSpec(
        channels=channels,
        dim=dim,
        depths=depths,
        heads=tuple(heads for _, heads in tables),
        window=(side + 1) // 2,
        embed_kernel=kernel,
        group_conv="1conv" if "layers.0.conv.weight" in shapes else "3conv",
        skips=layout == "swinir" if layout else kernel == 3,
        mlp_ratio=_mlp_ratio(_shape(shapes, "layers.0.residual_group.blocks.0.mlp.fc1.weight", 2)[0], dim),
        attention_ratio=attention_ratio if (layout or _layout(kernel)) == "masked-training" else 0.0,
    )
    _check(shapes, spec)
    return spec


def layout_of(spec: MaskedSwinSpec) -> Layout:
    """Whose network a spec of ``spec_from_shapes`` is."""
    return "swinir" if spec.skips else "masked-training"


def _layout(kernel: int) -> Layout:
    return "swinir" if kernel == 3 else "masked-training"


def _shape(shapes: Shapes, name: str, dimensions: int) -> tuple[int, ...]:
    shape = shapes.get(name)
    if shape is None:
        raise ValueError(f"not a SwinIR-like state dict: no {name!r} among {len(shapes)} weights")
    if len(shape) != dimensions or 0 in shape:
        raise ValueError(f"{name} must have {dimensions} dimensions, got shape {shape}")
    return shape


def _depths(shapes: Shapes) -> tuple[int, ...]:
    found: dict[int, set[int]] = {}
    for name in shapes:
        if match := _BLOCK.match(name):
            found.setdefault(int(match[1]), set()).add(int(match[2]))
    if not found or sorted(found) != list(range(len(found))):
        raise ValueError(f"layers must be numbered from 0 without gaps, got {sorted(found)}")
    return tuple(len(found[index]) for index in range(len(found)))


def _mlp_ratio(hidden: int, dim: int) -> float:
    ratio = hidden / dim
    # The network rounds dim * ratio down, and the quotient may have been rounded down already.
    return ratio if int(dim * ratio) == hidden else math.nextafter(ratio, math.inf)


def _check(shapes: Shapes, spec: MaskedSwinSpec) -> None:
    """Raise ValueError unless ``shapes`` are those of the network of ``spec``."""
    with torch.device("meta"):
        network = MaskedSwin(spec)
    if (tables := table_bytes(network)) > MAX_TABLE_BYTES:
        raise ValueError(f"window {spec.window} needs tables of {tables} bytes, more than {MAX_TABLE_BYTES}")
    expected = {name: tuple(value.shape) for name, value in to_official_state_dict(network.state_dict()).items()}
    missing, unknown = sorted(expected.keys() - shapes.keys()), sorted(shapes.keys() - expected.keys())
    if missing or unknown:
        raise ValueError(
            f"not the weights of a Swin network of {len(spec.depths)} groups: {len(missing)} missing "
            f"(first: {missing[:1]}), {len(unknown)} unknown (first: {unknown[:1]})"
        )
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise ValueError(f"{name} must have shape {shape}, got {shapes[name]}")
