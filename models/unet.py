"""A small convolutional U-Net for training on a CPU.

Ronneberger et al., "U-Net", MICCAI 2015, in the shape Noise2Noise (Lehtinen et al., ICML 2018) uses for
denoising: LeakyReLU, no normalisation. Skips are added instead of concatenated, and channels stop growing
after the first halving, because the full-resolution convolutions decide the time on a CPU.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .level_map import level_map
from .network import Network, start_at_zero
from .padding import pad_to_multiple

_SLOPE = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class UNetSpec:
    """Shape of a ``UNet``. The default has about a quarter of a million parameters."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["unet"] = "unet"
    """Selects this network."""

    channels: int = 3
    """Channels of the images: 3 for sRGB, 4 for packed raw, 1 for grey."""

    width: int = 24
    """Channels at full resolution; all coarser levels have twice as many."""

    depth: int = 3
    """How many times the resolution is halved."""

    convolutions: int = 2
    """3x3 convolutions a level, on the way down and again on the way up."""

    residual: bool = True
    """Whether the network predicts a correction that is added to its input.

    True learns fastest, for noisy input and for hidden pixels filled with the mean of their neighbours, from
    which the network then starts. False is for a fill that says nothing about the image (asymmetric masks
    with fill "zero", masked training): there the sum would carry the filled value into the output.
    """

    level_map: bool = False
    """Whether the network is also shown how noisy each pixel is: one more input channel, from the noise parameters
    that come with the image."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("channels", 1, 64),
            ("width", 1, 1024),
            ("depth", 0, 8),
            ("convolutions", 1, 16),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be {low} to {high}, got {value}")


class UNet(Network):
    """The network of a ``UNetSpec``. Deterministic: ``seeds`` and ``origin`` change nothing."""

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        self.spec = spec
        self.channels = spec.channels
        self.multiple = 2**spec.depth
        self.reach = receptive_field(spec)
        self.stochastic = False
        self.level_map = spec.level_map
        widths = [spec.width] + [2 * spec.width] * spec.depth
        finer, coarser = widths[:-1], widths[1:]
        inputs = spec.channels + spec.level_map
        self.encoders = nn.ModuleList(
            _convolutions(inputs if level == 0 else width, width, spec.convolutions)
            for level, width in enumerate(widths)
        )
        self.downs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(fine, coarse, 2, stride=2), nn.LeakyReLU(_SLOPE, inplace=True))
            for fine, coarse in zip(finer, coarser, strict=True)
        )
        self.ups = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in zip(finer, coarser, strict=True))
        self.decoders = nn.ModuleList(_convolutions(width, width, spec.convolutions) for width in finer)
        self.head = nn.Conv2d(spec.width, spec.channels, 3, padding=1)
        self._initialise()

    def _initialise(self) -> None:
        """He initialisation; a residual network starts as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=_SLOPE, nonlinearity="leaky_relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        if self.spec.residual:
            start_at_zero(self.head)

    def forward(
        self,
        image: Tensor,
        *,
        seeds: Tensor | None = None,  # noqa: ARG002  every network has this signature
        origin: tuple[int, int] = (0, 0),  # noqa: ARG002
        noise: Tensor | None = None,
    ) -> Tensor:
        """Denoise (B, C, H, W) float in [0, 1] to the same shape, not clipped.

        ``noise`` (B, 2) float, shot and read variance of each image, goes with ``level_map`` and only with it.
        """
        self.check(image)
        self.check_noise(noise)
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.multiple)
        # Centred at mid-grey, so that the first convolution sees no large constant; channels last is 1.5
        # times faster on a CPU, and the convolutions keep the layout of their input.
        shown = padded - 0.5
        if noise is not None:
            shown = torch.cat([shown, level_map(padded, noise)], dim=1)
        features = shown.contiguous(memory_format=torch.channels_last)
        # Layer by layer: a Sequential would keep its input until it is done, a fourth of the memory of a pass.
        for layer in _layers(self.encoders[0]):
            features = layer(features)
        skips = []
        for down, encoder in zip(self.downs, list(self.encoders)[1:], strict=True):
            skips.append(features)
            features = down(features)
            for layer in _layers(encoder):
                features = layer(features)
        for up, decoder in reversed(list(zip(self.ups, self.decoders, strict=True))):
            features = _add_upsampled(skips.pop(), up(features))
            for layer in _layers(decoder):
                features = layer(features)
        output: Tensor = self.head(features)
        output = output + (padded if self.spec.residual else 0.5)
        return output[..., :height, :width]


def receptive_field(spec: UNetSpec) -> int:
    """Largest distance in pixels, along one axis, at which an input pixel can change an output pixel.

    Exact: intervals are propagated from the output to the input for every position of an output pixel on the
    coarsest grid.
    """
    reach = 0
    for position in range(2**spec.depth):
        low = high = position
        low, high = low - 1, high + 1  # head
        for _ in range(spec.depth):  # decoders, then the pixel of the coarser level that was repeated
            low, high = (low - spec.convolutions) // 2, (high + spec.convolutions) // 2
        for _ in range(spec.depth):  # encoders, then the 2x2 pixels that were merged
            low, high = 2 * (low - spec.convolutions), 2 * (high + spec.convolutions) + 1
        low, high = low - spec.convolutions, high + spec.convolutions
        reach = max(reach, position - low, high - position)
    return reach


def _convolutions(inputs: int, outputs: int, count: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(count):
        layers.append(nn.Conv2d(inputs if index == 0 else outputs, outputs, 3, padding=1))
        layers.append(nn.LeakyReLU(_SLOPE, inplace=True))
    return nn.Sequential(*layers)


def _layers(block: nn.Module) -> Iterable[nn.Module]:
    return cast(nn.Sequential, block)


def _add_upsampled(fine: Tensor, coarse: Tensor) -> Tensor:
    """Add (B, D, H/2, W/2) to (B, D, H, W), every coarse pixel to its 2x2 fine ones."""
    # In place on what interpolation made, which nobody else needs.
    return F.interpolate(coarse, scale_factor=2, mode="nearest").add_(fine)
