"""Key maps between our state dicts and those of the official code (haoyuc/MaskedDenoising, SwinIR naming)."""

import math
import re
from collections.abc import Mapping

from torch import Tensor

from .windows import relative_position_index

# Recomputed from the window and the size of the image here, stored in the official state dicts.
BUFFERS = ("relative_position_index", "attn_mask")

_PAIRS = (
    ("patch_embed.norm.", "embed_norm."),
    ("conv_after_body.", "conv_body."),
    ("layers.", "groups."),
    (".residual_group.blocks.", ".blocks."),
    (".attn.relative_position_bias_table", ".attention.bias_table"),
    (".attn.", ".attention."),
)


def official_state_dict(mapping: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of a ``MaskedSwin`` from one with official names.

    Args:
        mapping: official names to tensors; a wrapper's "module." prefix is removed. Buffers are left out, after
            a look at the one that says in which order the rows of the bias tables are.

    Returns:
        Our names to the same tensors.

    Raises:
        ValueError: not a state dict of this architecture, or bias tables in an order that is not Swin's.
    """
    if "conv_first.weight" not in {key.removeprefix("module.") for key in mapping}:
        raise ValueError(f"not a SwinIR-like state dict: no 'conv_first.weight' among {len(mapping)} keys")
    state = {}
    for key, tensor in mapping.items():
        name = key.removeprefix("module.")
        if name.rsplit(".", 1)[-1] in BUFFERS:
            if name.endswith(".relative_position_index"):
                _check_index(name, tensor)
            continue
        for official, ours in _PAIRS:
            name = name.replace(official, ours)
        state[name] = tensor
    return state


def to_official_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict with official names, without their buffers, from that of a ``MaskedSwin``."""
    converted = {}
    for key, tensor in state.items():
        name = re.sub(r"^embed_norm\.", "patch_embed.norm.", key)
        name = re.sub(r"^conv_body\.", "conv_after_body.", name)
        name = re.sub(r"^groups\.(\d+)\.blocks\.", r"layers.\1.residual_group.blocks.", name)
        name = re.sub(r"^groups\.", "layers.", name)
        name = name.replace(".attention.bias_table", ".attn.relative_position_bias_table")
        converted[name.replace(".attention.", ".attn.")] = tensor
    return converted


def _check_index(name: str, index: Tensor) -> None:
    window = math.isqrt(math.isqrt(index.numel()))
    expected = relative_position_index(window)
    if index.shape != expected.shape or not bool((index == expected).all()):
        raise ValueError(f"{name}: its bias table has rows in another order than Swin's")
