"""The weights of a Swin block as the visible-token form of ``visible`` uses them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


@dataclass(frozen=True, slots=True)
class BlockWeights:
    """Weights of a block as this form uses them, in the order in which gradients are returned."""

    norm1: Tensor
    """(D,) scale of the first LayerNorm."""

    shift1: Tensor
    """(D,) its shift."""

    projection: Tensor
    """(3 * D + 2 * h, D): for each head query; key; value and a row of zeros; exponent of a hidden query."""

    projection_bias: Tensor
    """(3 * D + 2 * h,): that of the query, and 1 behind each value, to sum weights."""

    output: Tensor
    """(D, D) output projection."""

    output_bias: Tensor
    """(D,) its bias, with the bias of the values passed through it."""

    norm2: Tensor
    """(D,) scale of the second LayerNorm."""

    shift2: Tensor
    """(D,) its shift."""

    fc1: Tensor
    """(H, D) first layer of the MLP."""

    fc1_bias: Tensor
    """(H,)"""

    fc2: Tensor
    """(D, H) second layer of the MLP."""

    fc2_bias: Tensor
    """(D,)"""

    position_bias: Tensor
    """(h, T, T) from query to key."""

    def all(self) -> tuple[Tensor, ...]:
        """The tensors in their order."""
        return tuple(getattr(self, name) for name in self.__slots__)


def block_weights(
    norm1: nn.LayerNorm,
    qkv: nn.Linear,
    proj: nn.Linear,
    norm2: nn.LayerNorm,
    fc1: nn.Linear,
    fc2: nn.Linear,
    position_bias: Tensor,
) -> BlockWeights:
    """Rearrange the layers of a block; differentiable."""
    heads, dim = len(position_bias), proj.out_features
    depth = dim // heads
    query, key, value = qkv.weight.view(3, heads, depth, dim).unbind()
    query_bias, _, value_bias = qkv.bias.view(3, heads, depth).unbind()
    query, query_bias = query * depth**-0.5, query_bias * depth**-0.5
    parts = (query, key, pad(value, (0, 0, 0, 1)), query_bias[:, None] @ key)
    one = pad(torch.ones_like(value_bias[:, :1]), (depth, 0))
    return BlockWeights(
        norm1=norm1.weight,
        shift1=norm1.bias,
        projection=torch.cat([part.reshape(-1, dim) for part in parts]),
        projection_bias=torch.cat([query_bias.reshape(-1), pad(one.reshape(-1), (dim, heads))]),
        output=proj.weight,
        output_bias=proj.bias + proj.weight @ value_bias.reshape(-1),
        norm2=norm2.weight,
        shift2=norm2.bias,
        fc1=fc1.weight,
        fc1_bias=fc1.bias,
        fc2=fc2.weight,
        fc2_bias=fc2.bias,
        position_bias=position_bias,
    )


class BlockLayers:
    """Weights of a block in the precision of its products, and E = exp(position bias) for each shift mask."""

    def __init__(self, weights: BlockWeights, allowed: Tensor, dtype: torch.dtype) -> None:
        """Prepare.

        Args:
            weights: float32.
            allowed: (kinds, T, T) float, 0 where a shift mask forbids, else 1.
            dtype: of the large products.
        """
        self.weights = weights
        self.dtype = dtype
        self.heads = len(weights.position_bias)
        self.output, self.output_bias, self.fc1, self.fc1_bias, self.fc2, self.fc2_bias = (
            weight.to(dtype)
            for weight in (
                weights.output, weights.output_bias,
                weights.fc1, weights.fc1_bias, weights.fc2, weights.fc2_bias,
            )
        )  # fmt: skip
        # (kinds, h, T, T). Forbidden pairs are 0, not exp(-100): that is a denormal number, and those are slow.
        self.pairs = weights.position_bias.exp() * allowed[:, None]
        self.products = self.pairs.transpose(2, 3).contiguous().to(dtype)
        # Padding has a row and a column of zeros.
        self.padded = pad(self.pairs, (0, 1, 0, 1)).flatten(2).transpose(1, 2).contiguous()
