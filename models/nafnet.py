"""NAFNet: a U-shaped network without activation functions (Chen et al., ECCV 2022, arXiv 2204.04676, section 4).

* SimpleGate, the product of two halves of the channels, is the only nonlinearity besides LayerNorm;
* simplified channel attention scales every channel by a linear map of the channel means;
* both branches of a block are residual, with learnt scales beta and gamma that start at 0.

The channel means make a pixel depend on all of the image: on a large image they are other numbers than on the crops of
training, and on a tile others than on the image. So the mean is taken over a window around each pixel, the test-time
local converter of Chu et al. (ECCV 2022, arXiv 2112.04491); here it holds in training as well, where crops no larger
than the window are averaged whole, as in the paper. The cut edge of a tile then shifts only the windows beside it: with
a halo as large as the window the rest is invisible (``docs/networks.md``), though ``nafnet_reach``, the halo that
makes it 0, grows by half a window with every block.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .network import Network, start_at_zero
from .padding import pad_to_multiple

# LayerNorm's epsilon in the released code.
_EPSILON = 1e-6

# A window is 8x8 cells; its mean is computed at the corners of cells and interpolated between them.
_CELLS = 8
# Powers of two, so that cells are whole pixels of every level and lie on whole pixels of the coarser ones.
_WINDOWS = tuple(_CELLS << power for power in range(10))

# A tile with a larger halo computes more pixels to throw away than it is worth.
_LARGEST_HALO = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class NafnetSpec:
    """Shape of a ``NAFNet``. The default is small enough for a CPU.

    The paper's width 32 for SIDD is ``width=32, encoder=(2, 2, 4, 8), middle=12, decoder=(2, 2, 2, 2)``: 29.16 M
    parameters.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["nafnet"] = "nafnet"
    """Selects this network."""

    channels: int = 3
    """Channels of the images: 3 for sRGB, 4 for packed raw, 1 for grey."""

    width: int = 24
    """Channels at full resolution; each coarser level has twice as many as the one before."""

    encoder: tuple[int, ...] = (1, 1, 1)
    """Blocks of each level on the way down, finest first; each level halves the resolution."""

    middle: int = 1
    """Blocks at the coarsest resolution."""

    decoder: tuple[int, ...] = (1, 1, 1)
    """Blocks of each level on the way up, finest first; as many levels as ``encoder``."""

    window: int = 64
    """Side, in pixels of the image, of the window that channel attention averages over; 0 = the whole image, as in
    the paper; a power of two from 8 to 4096, which coarse levels round up to 8x8 of their pixels. A training crop
    no larger than the window is averaged whole. Tiles need a halo about as large as the window."""

    residual: bool = True
    """Whether the network predicts a correction that is added to its input, as in the paper. False is for a fill
    that says nothing about the image (masked training, asymmetric masks with fill "zero")."""

    def __post_init__(self) -> None:
        for name, low, high in (("channels", 1, 64), ("width", 1, 1024), ("middle", 1, 64)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be {low} to {high}, got {value}")
        for name in ("encoder", "decoder"):
            blocks = getattr(self, name)
            if not 1 <= len(blocks) <= 6 or not all(1 <= count <= 64 for count in blocks):
                raise ValueError(f"{name} must be 1 to 6 numbers from 1 to 64, got {blocks}")
        if len(self.decoder) != len(self.encoder):
            count = len(self.encoder)
            raise ValueError(f"decoder must be {count} numbers, one for each of encoder, got {self.decoder}")
        if self.window != 0 and self.window not in _WINDOWS:
            raise ValueError(f"window must be 0 or one of {', '.join(map(str, _WINDOWS))}, got {self.window}")


class NAFNet(Network):
    """The network of a ``NafnetSpec``. Deterministic: ``seeds`` and ``origin`` change nothing."""

    def __init__(self, spec: NafnetSpec) -> None:
        super().__init__()
        self.spec = spec
        levels = len(spec.encoder)
        widths = [spec.width << level for level in range(levels + 1)]
        self.channels = spec.channels
        self.multiple = _multiple(spec)
        bound = nafnet_reach(spec)
        self.reach = bound if bound is not None and bound <= _LARGEST_HALO else None
        self.stochastic = False
        self.intro = nn.Conv2d(spec.channels, spec.width, 3, padding=1)
        self.encoders = nn.ModuleList(_blocks(spec, level, count) for level, count in enumerate(spec.encoder))
        self.downs = nn.ModuleList(nn.Conv2d(width, 2 * width, 2, stride=2) for width in widths[:-1])
        self.middle = _blocks(spec, levels, spec.middle)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * width, 4 * width, 1, bias=False), nn.PixelShuffle(2)) for width in widths[:-1]
        )
        self.decoders = nn.ModuleList(_blocks(spec, level, count) for level, count in enumerate(spec.decoder))
        self.head = nn.Conv2d(spec.width, spec.channels, 3, padding=1)
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
        # Channels last: the LayerNorms need no transposition, and depthwise convolutions are five times faster.
        features = self.intro(padded.contiguous(memory_format=torch.channels_last))
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            features = encoder(features)
            skips.append(features)
            features = down(features)
        features = self.middle(features)
        for decoder, up in reversed(list(zip(self.decoders, self.ups, strict=True))):
            features = decoder(up(features) + skips.pop())
        output: Tensor = self.head(features)
        output = output + (padded if self.spec.residual else 0.5)
        return output[..., :height, :width]


class NafBlock(nn.Module):
    """A nonlinear activation free block (figure 3d)."""

    def __init__(self, dim: int, cell: int) -> None:
        super().__init__()
        self.cell = cell
        self.norm1 = nn.LayerNorm(dim, eps=_EPSILON)
        self.expand1 = nn.Conv2d(dim, 2 * dim, 1)
        self.depthwise = nn.Conv2d(2 * dim, 2 * dim, 3, padding=1, groups=2 * dim)
        self.attention = nn.Conv2d(dim, dim, 1)
        self.project1 = nn.Conv2d(dim, dim, 1)
        self.beta = nn.Parameter(torch.zeros(1, dim, 1, 1))
        self.norm2 = nn.LayerNorm(dim, eps=_EPSILON)
        self.expand2 = nn.Conv2d(dim, 2 * dim, 1)
        self.project2 = nn.Conv2d(dim, dim, 1)
        self.gamma = nn.Parameter(torch.zeros(1, dim, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, D, H, W) to (B, D, H, W)."""
        gated = simple_gate(self.depthwise(self.expand1(_over_channels(self.norm1, features))))
        features = features + self.project1(self.attend(gated)) * self.beta
        gated = simple_gate(self.expand2(_over_channels(self.norm2, features)))
        output: Tensor = features + self.project2(gated) * self.gamma
        return output

    def attend(self, features: Tensor) -> Tensor:
        """Simplified channel attention, SCA(X) = X * W pool(X), of (B, D, H, W)."""
        scale: Tensor = self.attention(local_means(features, self.cell))
        if scale.shape[-2:] != (1, 1):
            height, width = features.shape[-2:]
            # From the corners of the cells to the pixels: smooth, and far cheaper than a window for each pixel.
            scale = F.interpolate(scale, (height + 1, width + 1), mode="bilinear", align_corners=True)
            scale = scale[..., :height, :width]
        return features * scale


def simple_gate(features: Tensor) -> Tensor:
    """SimpleGate(X, Y) = X * Y of the two halves of the channels: (B, 2 * D, H, W) to (B, D, H, W)."""
    first, second = features.chunk(2, dim=1)
    return first * second


def local_means(features: Tensor, cell: int) -> Tensor:
    """Means over windows of 8x8 cells around the corners of all cells, for ``cell`` = 0 the mean of the whole map.

    A window that would leave the map is moved inside; where the map has fewer than 8 cells, it has all of them.

    Args:
        features: (B, D, H, W) float, H and W multiples of ``cell``.
        cell: side of a cell in pixels of the map.

    Returns:
        (B, D, H / cell + 1, W / cell + 1), or (B, D, 1, 1) if one window holds the map.
    """
    height, width = features.shape[-2:]
    if cell == 0 or max(height, width) <= _CELLS * cell:
        return features.mean((2, 3), keepdim=True)
    cells = F.avg_pool2d(features, cell)
    rows, columns = (min(_CELLS, size) for size in cells.shape[-2:])
    means = F.avg_pool2d(cells, (rows, columns), 1)
    margins = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    return F.pad(means, margins, mode="replicate")


def nafnet_reach(spec: NafnetSpec) -> int | None:
    """Largest distance in pixels, along one axis, at which an input pixel can change an output pixel.

    Exact: from the output to the input, the last pixel that counts is followed for all output pixels at the start of a
    large image, where windows are moved inside, and a period behind that. The end of the image is its mirror image.

    Returns:
        The distance, or None if attention averages over the whole image.
    """
    if spec.window == 0:
        return None
    levels = len(spec.encoder)
    reach = 0
    for position in range(2 * _multiple(spec) * _CELLS):
        last = position + 1  # head
        for level in range(levels):  # decoders, then the pixel of the coarser level that was shuffled
            last = _before_blocks(last, spec, level, spec.decoder[level]) // 2
        last = _before_blocks(last, spec, levels, spec.middle)
        for level in reversed(range(levels)):  # the last of the 2x2 pixels that were merged, then the encoders
            last = _before_blocks(2 * last + 1, spec, level, spec.encoder[level])
        reach = max(reach, last + 1 - position)
    return reach


def _before_blocks(last: int, spec: NafnetSpec, level: int, count: int) -> int:
    """The last pixel that the pixels up to ``last`` behind ``count`` blocks depend on."""
    cell = _cell(spec, level)
    for _ in range(count):  # the window around the farther corner of the cell, or the first one, then the 3x3
        last = (max(last // cell + _CELLS // 2, _CELLS - 1) + 1) * cell
    return last


def _cell(spec: NafnetSpec, level: int) -> int:
    """Side of the cells of windows in pixels of a level, 0 where there are no windows."""
    return max(1, spec.window // _CELLS >> level) if spec.window else 0


def _multiple(spec: NafnetSpec) -> int:
    """Images are padded to whole cells and to whole pixels of the coarsest level; both are powers of two."""
    return max(1 << len(spec.encoder), _cell(spec, 0))


def _blocks(spec: NafnetSpec, level: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(NafBlock(spec.width << level, _cell(spec, level)) for _ in range(count)))


def _over_channels(norm: nn.LayerNorm, features: Tensor) -> Tensor:
    """LayerNorm over the channels of each pixel of (B, D, H, W)."""
    normalised: Tensor = norm(features.permute(0, 2, 3, 1))
    return normalised.permute(0, 3, 1, 2)
