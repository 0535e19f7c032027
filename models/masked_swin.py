"""The Swin transformer of masked training (Chen et al., CVPR 2023, arXiv 2303.13132, section 3 and figure 4).

What is unusual, compared with SwinIR (arXiv 2108.10257):

* the embedding is a 1x1 convolution, so that a hidden pixel is a hidden token and nothing leaks into it;
* tokens are hidden again in every block, between LayerNorm and self-attention (section 3.3), in training and,
  as in the official code, in evaluation; here both from seeds, and only if seeds are given;
* no skip around the body and none around the network: the noisy input reaches the output only as tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from .masks import attention_mask, drop_path_keep
from .network import Network
from .padding import pad_to_multiple
from .swin import ResidualGroup, SwinBlock, bottleneck
from .windows import window_partition

# Mean of DIV2K, which SwinIR subtracts from RGB input.
_RGB_MEAN = (0.4488, 0.4371, 0.4040)


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

    mlp_ratio: float = 2.0
    """Hidden channels of the feed-forward layers, as a multiple of ``dim``."""

    attention_ratio: float = 0.75
    """Expected fraction of tokens hidden from self-attention in every block; 0 for no attention masks."""

    drop_path: float = 0.1
    """Stochastic depth in training: the probability that a branch of the last block is dropped, growing
    linearly from 0 at the first block. The released configuration trains with 0.1 without saying so."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("channels", 1, 64),
            ("dim", 4, 1024),
            ("window", 2, 64),
            ("mlp_ratio", 0.25, 16),
            ("attention_ratio", 0, 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be {low} to {high}, got {value}")
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
        self.stochastic = spec.attention_ratio > 0
        mean = torch.tensor(_RGB_MEAN if spec.channels == 3 else (0.0,) * spec.channels)
        self.register_buffer("mean", mean.view(1, -1, 1, 1), persistent=False)
        self.conv_first = nn.Conv2d(spec.channels, spec.dim, 1)
        self.embed_norm = nn.LayerNorm(spec.dim)
        self.groups = nn.ModuleList(
            ResidualGroup(spec.dim, depth, heads, spec.window, int(spec.dim * spec.mlp_ratio))
            for depth, heads in zip(spec.depths, spec.heads, strict=True)
        )
        self.norm = nn.LayerNorm(spec.dim)
        self.conv_body = bottleneck(spec.dim)
        self.conv_last = nn.Conv2d(spec.dim, spec.channels, 3, padding=1)
        # SwinIR's initialisation: linear layers N(0, 0.02), convolutions and LayerNorms as PyTorch has them.
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(
        self,
        image: Tensor,
        *,
        seeds: Tensor | None = None,
        origin: tuple[int, int] = (0, 0),
        attention_masks: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Denoise.

        Args:
            image: (B, C, H, W) float in [0, 1], or with hidden pixels at their fill value.
            seeds: (B,) int64, one a sample; decide attention masks and, in training, stochastic depth. None, in
                evaluation: no attention mask.
            origin: absolute (row, column) of the top-left pixel, multiples of the window.
            attention_masks: one (B * N, T) bool a block, True = hidden, in place of those drawn from
                ``seeds``: windows row by row of the padded and, for shifted blocks, already rolled map.

        Returns:
            (B, C, H, W), not clipped.

        Raises:
            ValueError: wrong shape, no seeds in training where they are needed, or an origin off the windows.
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
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, spec.window) - self.mean
        tokens = self.embed_norm(self.conv_first(padded).permute(0, 2, 3, 1))
        layer = 0
        for group in self.groups:
            assert isinstance(group, ResidualGroup)
            entry = tokens
            for block in group.blocks:
                assert isinstance(block, SwinBlock)
                explicit = None if attention_masks is None else attention_masks[layer]
                hidden = self._hidden(block, layer, tokens, seeds, origin, explicit)
                tokens = block(tokens, hidden=hidden, keep=self._keep(layer, seeds))
                layer += 1
            tokens = group.finish(tokens, entry)
        body = self.conv_body(self.norm(tokens).permute(0, 3, 1, 2))
        output: Tensor = self.conv_last(body) + self.mean
        return output[..., :height, :width]

    def _hidden(
        self,
        block: SwinBlock,
        layer: int,
        tokens: Tensor,
        seeds: Tensor | None,
        origin: tuple[int, int],
        explicit: Tensor | None,
    ) -> Tensor | None:
        """Attention mask of one block, (B, H / window, W / window, T) on the rolled map, or None."""
        batch, height, width, _ = tokens.shape
        window = self.spec.window
        if explicit is not None:
            return explicit.reshape(batch, height // window, width // window, window * window)
        if seeds is None or not self.stochastic:
            return None
        # Drawn before the shift, so that a token's fate depends on where it is in the image.
        mask = attention_mask(seeds, self.spec.attention_ratio, layer, height, width, origin=origin)
        return window_partition(block.roll(mask), window)

    def _keep(self, layer: int, seeds: Tensor | None) -> Tensor | None:
        """Stochastic-depth factors (B, 2) of one block, or None outside training."""
        rate = self.spec.drop_path * layer / max(1, sum(self.spec.depths) - 1)
        if not self.training or seeds is None or rate == 0:
            return None
        return drop_path_keep(seeds, layer, rate)
