"""Multi-head self-attention inside windows.

Swin Transformer (arXiv 2103.14030), equation 4: softmax(Q K^T / sqrt(d) + B) V with a learnt relative
position bias B. A token hidden by the attention mask of arXiv 2303.13132 (section 3.3) arrives here as zeros,
so that its query, key and value are the bias of the projection; the logits themselves are not masked.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from .windows import relative_position_index


class WindowAttention(nn.Module):
    """Attention of the tokens of each window to each other."""

    index: Tensor

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.bias_table = nn.Parameter(self.qkv.weight.new_zeros((2 * window - 1) ** 2, heads))
        nn.init.normal_(self.bias_table, std=0.02)
        self.register_buffer("index", relative_position_index(window), persistent=False)

    def position_bias(self) -> Tensor:
        """Relative position bias B, (heads, T, T)."""
        return self.bias_table[self.index].permute(2, 0, 1)

    def forward(self, tokens: Tensor, bias: Tensor) -> Tensor:
        """Attend.

        Args:
            tokens: (N, T, D), normalised; hidden tokens are 0.
            bias: (heads, T, T), added to the logits of every window.

        Returns:
            (N, T, D).
        """
        windows, length, dim = tokens.shape
        qkv = self.qkv(tokens).view(windows, length, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        bias = bias.to(query.dtype)
        if bias.requires_grad:
            # No fused kernel has a gradient for the bias; what PyTorch falls back to is three times slower.
            logits = query * (dim // self.heads) ** -0.5 @ key.transpose(-2, -1) + bias
            attended = logits.softmax(-1).to(value.dtype) @ value
        else:
            mask = bias.expand(windows, -1, -1, -1)
            attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        output: Tensor = self.proj(attended.transpose(1, 2).reshape(windows, length, dim))
        return output
