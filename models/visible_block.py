"""A Swin block in the visible-token form of ``visible``, differentiable: chunk after chunk of windows."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .visible_pass import Chunk, Pass
from .visible_weights import BlockLayers, BlockWeights


@dataclass(frozen=True, slots=True)
class Plan:
    """What a block computes, apart from tokens and weights."""

    chunks: list[Chunk]
    """All windows of the batch."""

    length: int
    """Tokens T of a window."""

    allowed: Tensor
    """(kinds, T, T) float, 0 where the shift mask forbids, else 1."""

    dtype: torch.dtype
    """Precision of the large products."""


class _VisibleBlock(torch.autograd.Function):
    """Tokens (P, D) to tokens (P, D), for the weights of ``BlockWeights.all``."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, plan: Plan, *weights: Tensor) -> Tensor:
        ctx.plan = plan
        ctx.save_for_backward(flat, *weights)
        return _run(flat, plan, BlockWeights(*weights))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        flat, *tensors = ctx.saved_tensors
        plan: Plan = ctx.plan
        weights = BlockWeights(*tensors)
        totals = BlockWeights(*(torch.zeros_like(tensor, dtype=torch.float32) for tensor in tensors))
        result = torch.empty_like(flat)
        with torch.autocast("cpu", enabled=False):
            layer = BlockLayers(weights, plan.allowed, plan.dtype)
            for chunk, part in zip(plan.chunks, _parts(gradient, plan), strict=True):
                part = Pass(layer, chunk, plan.length).backward(flat, part, totals)
                result.index_copy_(0, chunk.place, part)
        return result, None, *totals.all()


def visible_block(flat: Tensor, plan: Plan, weights: BlockWeights) -> Tensor:
    """Run a Swin block under an attention mask.

    Args:
        flat: (P, D) float32, the tokens of the batch.
        plan: windows, visible tokens, stochastic depth.
        weights: rearranged layers.

    Returns:
        (P, D), a new tensor, the tokens of one chunk behind those of the other.

    Raises:
        OutOfRangeError: a sum of weights out of range.
    """
    if torch.is_grad_enabled():
        output: Tensor = _VisibleBlock.apply(flat, plan, *weights.all())  # type: ignore[no-untyped-call]
        return output
    return _run(flat, plan, weights)


def _run(flat: Tensor, plan: Plan, weights: BlockWeights) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        layer = BlockLayers(weights, plan.allowed, plan.dtype)
        output = torch.empty_like(flat)
        for chunk, part in zip(plan.chunks, _parts(output, plan), strict=True):
            Pass(layer, chunk, plan.length).forward(flat, part)
    return output


def _parts(rows: Tensor, plan: Plan) -> tuple[Tensor, ...]:
    parts: tuple[Tensor, ...] = torch.split(rows, [len(chunk.place) for chunk in plan.chunks])
    return parts
