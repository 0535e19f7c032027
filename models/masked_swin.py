"""The Swin transformer of masked training (Chen et al., CVPR 2023, arXiv 2303.13132, section 3 and figure 4).

What is unusual, compared with SwinIR (arXiv 2108.10257):

* the embedding is a 1x1 convolution, so that a hidden pixel is a hidden token and nothing leaks into it;
* tokens are hidden again in every block, between LayerNorm and self-attention (section 3.3), in training and,
  as in the official code, in evaluation; here both from seeds, and only if seeds are given;
* no skip around the body and none around the network: the noisy input reaches the output only as tokens.

``embed_kernel``, ``skips`` and ``group_conv`` turn it back into SwinIR.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from .masks import attention_mask, drop_path_keep, fold_seeds, uniform_ratio
from .network import Network
from .padding import pad_to_multiple
from .swin import ResidualGroup, SwinBlock, end_conv
from .token_map import TokenMap
from .windows import window_partition

# Mean of DIV2K, which SwinIR subtracts from RGB input.
_RGB_MEAN = (0.4488, 0.4371, 0.4040)

# What the released code shows the network at a hidden pixel; the learnable mask token starts as its embedding.
_HIDDEN_PIXEL = -0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedSwinSpec:
    """Shape of a ``MaskedSwin``. The default is the released configuration: 824,118 parameters."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["masked_swin"] = "masked_swin"
    """Selects this network."""

    channels: int = 3
    """Channels of the images: 3 for sRGB, 4 for packed raw, 1 for grey."""

    dim: int = 60
    """Channels D of a token; a multiple of 4 and of every number of heads."""

    depths: tuple[int, ...] = (6, 6, 6, 6)
    """Swin blocks of each residual group; every second block is shifted by half a window."""

    heads: tuple[int, ...] = (6, 6, 6, 6)
    """Attention heads of each residual group."""

    window: int = 8
    """Side of the attention windows; even."""

    embed_kernel: int = 1
    """Side of the embedding convolution. 1: nothing of a hidden pixel leaks into its neighbours' tokens. 3 is
    SwinIR's."""

    group_conv: Literal["3conv", "1conv"] = "3conv"
    """Convolution at the end of each group and of the body: "1conv" is one 3x3 convolution, "3conv" a bottleneck
    of a quarter of the channels."""

    skips: bool = False
    """SwinIR's skips around the body and around the network. Without them, as released, noise that is not
    understood cannot pass by."""

    mlp_ratio: float = 2.0
    """Hidden channels of the feed-forward layers, as a multiple of ``dim``."""

    mask_token: Literal["none", "zero", "learnable"] = "none"
    """What stands for a token hidden at the token site: a vector of zeros, which the paper finds sufficient, or a
    learnt one, which starts as the token of a pixel at -0.1. "none": pixels are hidden, as in the released code."""

    attention_ratio: float | tuple[float, float] = 0.75
    """Expected fraction of tokens hidden from self-attention in every block, or a range from which it is drawn
    for each sample and block; 0 for no attention masks."""

    attention_ratios: tuple[float, ...] = ()
    """One fraction for each block, in place of ``attention_ratio``."""

    drop_path: float = 0.1
    """Stochastic depth in training: the probability that a branch of the last block is dropped, growing
    linearly from 0 at the first block. The released configuration trains with 0.1 without saying so."""

    def __post_init__(self) -> None:
        for name, least, most in (("channels", 1, 64), ("dim", 4, 1024), ("window", 2, 64), ("mlp_ratio", 0.25, 16)):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"{name} must be {least} to {most}, got {value}")
        for name, choices in (
            ("embed_kernel", (1, 3)),
            ("group_conv", ("3conv", "1conv")),
            ("mask_token", ("none", "zero", "learnable")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
        ratio = self.attention_ratio
        low, high = ratio if isinstance(ratio, tuple | list) else (ratio, ratio)
        if not 0 <= low <= high <= 1:
            raise ValueError(f"attention_ratio must be a number or a range inside [0, 1], got {ratio}")
        if not all(0 <= ratio <= 1 for ratio in self.attention_ratios):
            raise ValueError(f"attention_ratios must be in [0, 1], got {self.attention_ratios}")
        if len(self.attention_ratios) not in (0, sum(self.depths)):
            raise ValueError(f"attention_ratios must be {sum(self.depths)} numbers, got {len(self.attention_ratios)}")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must be in [0, 1), got {self.drop_path}")
        if self.dim % 4:
            raise ValueError(f"dim must be a multiple of 4, got {self.dim}")
        if self.window % 2:
            raise ValueError(f"window must be even, got {self.window}")
        if not 1 <= len(self.depths) <= 16 or not all(1 <= depth <= 48 for depth in self.depths):
            raise ValueError(f"depths must be 1 to 16 numbers from 1 to 48, got {self.depths}")
        if len(self.heads) != len(self.depths):
            raise ValueError(f"heads must be {len(self.depths)} numbers, one for each of depths, got {self.heads}")
        if not all(heads >= 1 and self.dim % heads == 0 for heads in self.heads):
            raise ValueError(f"heads must divide dim {self.dim}, got {self.heads}")


class MaskedSwin(Network):
    """The network of a ``MaskedSwinSpec``."""

    mean: Tensor

    def __init__(self, spec: MaskedSwinSpec) -> None:
        super().__init__()
        self.spec = spec
        self.channels = spec.channels
        self.multiple = spec.window
        self.reach = None
        self.block_ratios = _block_ratios(spec)
        self.stochastic = any(high > 0 for _, high in self.block_ratios)
        mean = torch.tensor(_RGB_MEAN if spec.channels == 3 else (0.0,) * spec.channels)
        self.register_buffer("mean", mean.view(1, -1, 1, 1), persistent=False)
        self.conv_first = nn.Conv2d(spec.channels, spec.dim, spec.embed_kernel, padding=spec.embed_kernel // 2)
        self.embed_norm = nn.LayerNorm(spec.dim)
        self.groups = nn.ModuleList(
            ResidualGroup(spec.dim, depth, heads, spec.window, int(spec.dim * spec.mlp_ratio), spec.group_conv)
            for depth, heads in zip(spec.depths, spec.heads, strict=True)
        )
        self.norm = nn.LayerNorm(spec.dim)
        self.conv_body = end_conv(spec.dim, spec.group_conv)
        self.conv_last = nn.Conv2d(spec.dim, spec.channels, 3, padding=1)
        # SwinIR's initialisation: linear layers N(0, 0.02), convolutions and LayerNorms as PyTorch has them.
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        if spec.mask_token == "learnable":
            with torch.no_grad():
                pixel = torch.full((1, spec.channels, 1, 1), _HIDDEN_PIXEL) - self.mean
                token = self.embed_norm(self.conv_first(pixel)[..., 0, 0])[0]
            self.mask_token = nn.Parameter(token)

    def forward(
        self,
        image: Tensor,
        *,
        seeds: Tensor | None = None,
        origin: tuple[int, int] = (0, 0),
        attention_masks: Sequence[Tensor] | None = None,
        input_mask: Tensor | None = None,
    ) -> Tensor:
        """Denoise.

        Args:
            image: (B, C, H, W) float in [0, 1], or with hidden pixels at their fill value.
            seeds: (B,) int64, one a sample; decide attention masks and, in training, stochastic depth. None, in
                evaluation: no attention mask.
            origin: absolute (row, column) of the top-left pixel, multiples of the window.
            attention_masks: one (B * N, T) bool a block, True = hidden, in place of those drawn from
                ``seeds``: windows row by row of the padded and, for shifted blocks, already rolled map.
            input_mask: (B, 1, H, W) bool, True = hidden: tokens replaced by the mask token.

        Returns:
            (B, C, H, W), not clipped.

        Raises:
            ValueError: wrong shape, no seeds in training where they are needed, an origin off the windows, or an
                input mask without a mask token.
        """
        self.check(image)
        spec = self.spec
        needs_seeds = spec.drop_path > 0 or (self.stochastic and attention_masks is None)
        if self.training and seeds is None and needs_seeds:
            raise ValueError("seeds are required in training: they decide attention masks and stochastic depth")
        if origin[0] % spec.window or origin[1] % spec.window:
            raise ValueError(f"origin must be a multiple of the window {spec.window}, got {origin}")
        if attention_masks is not None and len(attention_masks) != sum(spec.depths):
            raise ValueError(f"attention_masks must be {sum(spec.depths)} tensors, got {len(attention_masks)}")
        if input_mask is not None and spec.mask_token == "none":
            raise ValueError('an input mask at the token site needs mask_token "zero" or "learnable", got "none"')
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, spec.window) - self.mean
        embedded = self.conv_first(padded)
        # Under autocast too tokens stay float32: sums of 48 branches would lose what a shorter type cannot hold.
        tokens = self.embed_norm(embedded.permute(0, 2, 3, 1).to(self.embed_norm.weight.dtype))
        skip = embedded if spec.skips else None
        del embedded  # of a whole image each map of tokens counts
        if input_mask is not None:
            tokens = self._hide_tokens(tokens, input_mask)
        layer = 0
        for group in self.groups:
            assert isinstance(group, ResidualGroup)
            within = TokenMap.of(tokens)
            for block in group.blocks:
                assert isinstance(block, SwinBlock)
                explicit = None if attention_masks is None else attention_masks[layer]
                hidden = self._hidden(block, layer, within.shape, seeds, origin, explicit)
                within = block(within, hidden=hidden, keep=self._keep(layer, seeds))
                layer += 1
            mapped = within.map()
            del within
            tokens = group.finish(mapped, tokens)
        body = self.conv_body(self.norm(tokens).permute(0, 3, 1, 2))
        output: Tensor = self.conv_last(body) if skip is None else self.conv_last(body + skip) + padded
        output = output + self.mean
        return output[..., :height, :width]

    def _hide_tokens(self, tokens: Tensor, input_mask: Tensor) -> Tensor:
        """Replace the tokens of hidden pixels; the padded rim is mirrored with its pixels."""
        mask = pad_to_multiple(input_mask.to(tokens.dtype), self.spec.window)[:, 0, :, :, None] > 0
        token = self.mask_token.to(tokens.dtype) if self.spec.mask_token == "learnable" else tokens.new_zeros(())
        return torch.where(mask, token, tokens)

    def _hidden(
        self,
        block: SwinBlock,
        layer: int,
        shape: tuple[int, int, int],
        seeds: Tensor | None,
        origin: tuple[int, int],
        explicit: Tensor | None,
    ) -> Tensor | None:
        """Attention mask of one block, (B, H / window, W / window, T) on the rolled map, or None."""
        batch, height, width = shape
        window = self.spec.window
        if explicit is not None:
            return explicit.reshape(batch, height // window, width // window, window * window)
        low, high = self.block_ratios[layer]
        if seeds is None or high == 0:
            return None
        ratio = low if low == high else uniform_ratio(fold_seeds(seeds, layer), low, high)
        # Drawn before the shift, so that a token's fate depends on where it is in the image.
        mask = attention_mask(seeds, ratio, layer, height, width, origin=origin)
        return window_partition(block.roll(mask), window)

    def _keep(self, layer: int, seeds: Tensor | None) -> Tensor | None:
        """Stochastic-depth factors (B, 2) of one block, or None outside training."""
        rate = self.spec.drop_path * layer / max(1, sum(self.spec.depths) - 1)
        if not self.training or seeds is None or rate == 0:
            return None
        return drop_path_keep(seeds, layer, rate)


def _block_ratios(spec: MaskedSwinSpec) -> list[tuple[float, float]]:
    """Range of the fraction of hidden tokens, for each block."""
    if spec.attention_ratios:
        return [(ratio, ratio) for ratio in spec.attention_ratios]
    ratio = spec.attention_ratio
    low, high = ratio if isinstance(ratio, tuple | list) else (ratio, ratio)
    return [(low, high)] * sum(spec.depths)
