"""Whether the large products of a step are computed in bfloat16.

Where the hardware has instructions for it, bfloat16 pays. Where it has none, libraries emulate it, and a step takes ten
times as long or more; so a configuration that is shared between machines says `auto`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16", "auto"]

_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""Capabilities of processors, x86 and ARM, as torch names them."""


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the hardware behind ``device`` multiplies bfloat16 itself."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    # An older torch cannot tell; float32 is never wrong.
    told: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(told.get(name) for name in _INSTRUCTIONS)


def in_bfloat16(precision: Precision, device: torch.device) -> bool:
    """Return whether a step of this precision on ``device`` computes in bfloat16."""
    return precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))


def precision_note(precision: Precision, device: torch.device) -> str | None:
    """Return what a person should know of the choice: where bfloat16 is wanted and the hardware has none."""
    if precision == "float32" or has_bfloat16(device):
        return None
    if precision == "auto":
        return "computing in float32: this processor has no instructions for bfloat16"
    return (
        "optimizer.precision: 'bfloat16' is emulated on this processor, which has no instructions for it, and takes "
        "many times longer; 'auto' or 'float32' would be faster here"
    )
