"""Restormer: attention between channels instead of pixels (Zamir et al., CVPR 2022, arXiv 2111.09881).

* multi-Dconv head transposed attention (MDTA, section 3.1, equation 1): the attention map is D x D, the similarity
  of channels over all pixels, so the cost grows linearly with the image;
* gated-Dconv feed-forward network (GDFN, section 3.2, equation 2): one half of the channels, through GELU, gates the
  other;
* a U of pixel-unshuffled levels with concatenated skips, then refinement blocks at full resolution (figure 2).

The similarity of channels is a statistic of everything the network sees, so every pixel depends on all others:
``reach`` is None, and a tile is computed with the statistics of the tile and its halo. Larger tiles are nearer to the
whole image, and no halo makes them equal; ``docs/networks.md`` says by how much they differ.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .network import Network, start_at_zero
from .padding import pad_to_multiple

# LayerNorm's epsilon.
_EPSILON = 1e-5

# A black image has q and k of length 0, whose direction is set to 0.
_SHORTEST = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class RestormerSpec:
    """Shape of a ``Restormer``. The default is small enough for a CPU.

    The paper's for denoising is ``dim=48, blocks=(4, 6, 6, 8), refinement=4``: 26.1 M parameters.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["restormer"] = "restormer"
    """Selects this network."""

    channels: int = 3
    """Channels of the images: 3 for sRGB, 4 for packed raw, 1 for grey."""

    dim: int = 16
    """Channels at full resolution, even; each coarser level has twice as many as the one before."""

    blocks: tuple[int, ...] = (1, 1, 1, 2)
    """Transformer blocks of each level, finest first, on the way down and again on the way up; the last number
    counts those at the coarsest resolution."""

    heads: tuple[int, ...] = (1, 2, 4, 8)
    """Attention heads of each level."""

    refinement: int = 1
    """Blocks at full resolution after the U; 0 for none."""

    expansion: float = 2.66
    """Hidden channels of the feed-forward networks, as a multiple of the level's channels."""

    norm: Literal["bias_free", "with_bias"] = "bias_free"
    """LayerNorm: "bias_free" divides by the standard deviation of a pixel's channels, without subtracting their mean
    or adding anything, as in the paper for denoising; "with_bias" is the usual one."""

    bias: bool = False
    """Whether the convolutions have a bias."""

    residual: bool = True
    """Whether the network predicts a correction that is added to its input, as in the paper. False is for a fill
    that says nothing about the image (masked training, asymmetric masks with fill "zero")."""

    def __post_init__(self) -> None:
        for name, low, high in (("channels", 1, 64), ("dim", 2, 1024), ("refinement", 0, 64), ("expansion", 0.5, 16)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be {low} to {high}, got {value}")
        if self.dim % 2:
            raise ValueError(f"dim must be even, got {self.dim}")
        if self.norm not in ("bias_free", "with_bias"):
            raise ValueError(f"norm must be one of ('bias_free', 'with_bias'), got {self.norm!r}")
        if not 2 <= len(self.blocks) <= 6 or not all(1 <= count <= 64 for count in self.blocks):
            raise ValueError(f"blocks must be 2 to 6 numbers from 1 to 64, got {self.blocks}")
        if len(self.heads) != len(self.blocks):
            raise ValueError(f"heads must be {len(self.blocks)} numbers, one for each of blocks, got {self.heads}")
        widths = [self.dim << level for level in range(len(self.blocks))]
        if not all(heads >= 1 and width % heads == 0 for heads, width in zip(self.heads, widths, strict=True)):
            raise ValueError(f"heads must divide the channels of their levels {widths}, got {self.heads}")


class Restormer(Network):
    """The network of a ``RestormerSpec``. Deterministic: ``seeds`` and ``origin`` change nothing."""

    def __init__(self, spec: RestormerSpec) -> None:
        super().__init__()
        self.spec = spec
        levels = len(spec.blocks)
        widths = [spec.dim << level for level in range(levels)]
        finer, bias = widths[:-1], spec.bias
        self.channels = spec.channels
        self.multiple = 2 ** (levels - 1)
        self.reach = None
        self.stochastic = False
        self.embed = nn.Conv2d(spec.channels, spec.dim, 3, padding=1, bias=bias)
        self.encoders = nn.ModuleList(_stage(spec, level, width) for level, width in enumerate(widths))
        self.downs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))
            for width in finer
        )
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * width, 4 * width, 3, padding=1, bias=False), nn.PixelShuffle(2))
            for width in finer
        )
        # The finest level keeps both halves of its concatenation.
        self.reduces = nn.ModuleList(nn.Conv2d(2 * width, width, 1, bias=bias) for width in finer[1:])
        self.decoders = nn.ModuleList(
            _stage(spec, level, width if level else 2 * width) for level, width in enumerate(finer)
        )
        self.refinement = nn.Sequential(
            *(TransformerBlock(2 * spec.dim, spec.heads[0], spec) for _ in range(spec.refinement))
        )
        self.head = nn.Conv2d(2 * spec.dim, spec.channels, 3, padding=1, bias=bias)
        if spec.residual:
            start_at_zero(self.head)

    def forward(
        self,
        image: Tensor,
        *,
        seeds: Tensor | None = None,  # noqa: ARG002  every network has this signature
        origin: tuple[int, int] = (0, 0),  # noqa: ARG002
    ) -> Tensor:
        """Denoise (B, C, H, W) float in [0, 1] to the same shape, not clipped."""
        self.check(image)
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.multiple)
        # Channels last: LayerNorm and attention need no transposition, and depthwise convolutions are faster.
        features = self.embed(padded.contiguous(memory_format=torch.channels_last))
        *encoders, coarsest = self.encoders
        skips = []
        for encoder, down in zip(encoders, self.downs, strict=True):
            features = encoder(features)
            skips.append(features)
            features = down(features)
        features = coarsest(features)
        for level in reversed(range(len(encoders))):
            features = torch.cat([self.ups[level](features), skips.pop()], 1)
            if level:
                features = self.reduces[level - 1](features)
            features = self.decoders[level](features)
        output: Tensor = self.head(self.refinement(features))
        output = output + (padded if self.spec.residual else 0.5)
        return output[..., :height, :width]


class TransformerBlock(nn.Module):
    """MDTA and GDFN, each with LayerNorm in front and a residual."""

    def __init__(self, dim: int, heads: int, spec: RestormerSpec) -> None:
        super().__init__()
        self.norm1 = PixelNorm(dim, bias_free=spec.norm == "bias_free")
        self.attention = TransposedAttention(dim, heads, bias=spec.bias)
        self.norm2 = PixelNorm(dim, bias_free=spec.norm == "bias_free")
        self.mlp = GatedFeedForward(dim, int(dim * spec.expansion), bias=spec.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, D, H, W) to (B, D, H, W)."""
        features = features + self.attention(self.norm1(features))
        output: Tensor = features + self.mlp(self.norm2(features))
        return output


class TransposedAttention(nn.Module):
    """MDTA, equation 1: V softmax(t K Q) with Q and K of length 1 over the pixels and a learnt t for each head."""

    def __init__(self, dim: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=bias)
        self.depthwise = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=bias)
        self.project = nn.Conv2d(dim, dim, 1, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, D, H, W) to (B, D, H, W)."""
        batch, dim, height, width = features.shape
        heads = len(self.temperature)
        pixels = self.depthwise(self.qkv(features)).permute(0, 2, 3, 1)
        pixels = pixels.reshape(batch, height * width, 3, heads, dim // heads)
        # (B, heads, D / heads, H * W), without a copy where channels lie last.
        query, key, value = pixels.permute(2, 0, 3, 4, 1).unbind(0)
        # Dividing the products by the lengths equals normalising q and k first, and is several times faster.
        squares = pixels[:, :, :2].square().sum(1).clamp_min(_SHORTEST**2)
        lengths_q, lengths_k = squares.sqrt().unbind(1)
        similarity = query @ key.transpose(-2, -1) / (lengths_q[..., :, None] * lengths_k[..., None, :])
        weights = (similarity * self.temperature).softmax(-1)
        attended = value.transpose(-2, -1) @ weights.to(value.dtype).transpose(-2, -1)
        merged = attended.transpose(1, 2).reshape(batch, height, width, dim).permute(0, 3, 1, 2)
        output: Tensor = self.project(merged)
        return output


class GatedFeedForward(nn.Module):
    """GDFN, equation 2: W (GELU(first half) * second half) of a 1x1 and a depthwise 3x3 convolution."""

    def __init__(self, dim: int, hidden: int, *, bias: bool) -> None:
        super().__init__()
        self.expand = nn.Conv2d(dim, 2 * hidden, 1, bias=bias)
        self.depthwise = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=bias)
        self.project = nn.Conv2d(hidden, dim, 1, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, D, H, W) to (B, D, H, W)."""
        gate, content = self.depthwise(self.expand(features)).chunk(2, dim=1)
        output: Tensor = self.project(F.gelu(gate) * content)
        return output


class PixelNorm(nn.Module):
    """LayerNorm over the channels of each pixel, with or without a bias."""

    def __init__(self, dim: int, *, bias_free: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = None if bias_free else nn.Parameter(torch.zeros(dim))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, D, H, W) to (B, D, H, W)."""
        pixels = features.permute(0, 2, 3, 1)
        if self.bias is not None:
            normalised = F.layer_norm(pixels, self.weight.shape, self.weight, self.bias, _EPSILON)
        else:
            centred = pixels - pixels.mean(-1, keepdim=True)
            # Five times faster than var() on a CPU.
            variance = torch.linalg.vecdot(centred, centred)[..., None] / pixels.shape[-1]
            normalised = pixels * (variance + _EPSILON).rsqrt() * self.weight
        return normalised.permute(0, 3, 1, 2)


def _stage(spec: RestormerSpec, level: int, width: int) -> nn.Sequential:
    return nn.Sequential(*(TransformerBlock(width, spec.heads[level], spec) for _ in range(spec.blocks[level])))
