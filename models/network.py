"""What every network of this package offers to training and to inference."""

from torch import Tensor, nn

MAX_TABLE_BYTES = 1 << 30
"""Largest tables that a network from elsewhere may ask for: they follow from its spec alone, so no file bounds them."""


class Network(nn.Module):
    """Base of the networks: (B, C, H, W) float in, the same shape out, any H and W >= 1.

    ``forward(image, *, seeds=None, origin=(0, 0))``: ``seeds`` (B,) int64 decide all randomness of a sample
    (attention masks, stochastic depth), together with the absolute ``origin`` (row, column) of the image's
    top-left pixel. Without seeds an evaluation is deterministic and hides nothing. Networks with ``level_map`` also
    take, and need, ``noise`` (B, 2): shot and read variance of each image (`models.level_map`).
    """

    channels: int
    """Channels of the images."""

    multiple: int
    """Origins of tiles have to be multiples of this for a tile to be computed like the whole image."""

    reach: int | None
    """How many pixels away an input pixel can change an output pixel; None if there is no useful bound."""

    stochastic: bool
    """Whether ``seeds`` change the output in evaluation."""

    level_map: bool = False
    """Whether the network is told the noise level of each image."""

    def check(self, image: Tensor) -> None:
        """Raise ValueError unless ``image`` is a (B, C, H, W) float batch of this network's channels."""
        if image.dim() != 4 or image.shape[1] != self.channels or 0 in image.shape:
            raise ValueError(
                f"image must have shape (B, {self.channels}, H, W) with H, W >= 1, got {tuple(image.shape)}"
            )
        if not image.is_floating_point():
            raise ValueError(f"image must be floating point in [0, 1], got {image.dtype}")

    def check_noise(self, noise: Tensor | None) -> None:
        """Raise ValueError unless ``noise`` is given exactly if this network has a level map."""
        if (noise is not None) != self.level_map:
            expected = "(shot, read) of each image" if self.level_map else "None (it has no level map)"
            raise ValueError(f"noise must be {expected} for this network, got {'None' if noise is None else 'values'}")


def table_bytes(network: nn.Module) -> int:
    """Memory of the buffers of ``network``, which may be on the "meta" device."""
    return sum(buffer.numel() * buffer.element_size() for buffer in network.buffers())


def start_at_zero(convolution: nn.Conv2d) -> None:
    """Zero the last convolution of a residual network, which then starts as the identity.

    The papers start with a random correction; from the identity, the first steps are not lost on unlearning that.
    """
    nn.init.zeros_(convolution.weight)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
