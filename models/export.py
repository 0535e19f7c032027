"""A network as a graph that runs where this package is not: `torch.export` with any height and width.

The graph takes whole multiples of a size: a padding whose amount depends on the size of the image would freeze the
graph to one size, so it stays outside.
"""

import torch
from torch import Tensor, nn

from .flat_swin import FlatSwin
from .masked_swin import MaskedSwin
from .masks import fold
from .multi_mask import sub_image_seeds
from .nafnet import NAFNet
from .network import Network


class Exportable(nn.Module):
    """A network without padding and without a choice: ``forward(image)`` is all there is.

    Args:
        network: in evaluation mode, on the CPU; its weights are shared.
        seed: ``InferenceSpec.seed``, for the attention masks of its first draw; None for no masks.

    Raises:
        ValueError: the network is in training mode, or has a level map.
    """

    def __init__(self, network: Network, seed: int | None) -> None:
        super().__init__()
        if network.training:
            raise ValueError("network is in training mode; call network.eval() first")
        if network.level_map:
            raise ValueError("network has a level map: a graph whose only input is the image cannot feed it")
        self.inner: nn.Module = network
        if isinstance(network, MaskedSwin):
            self.inner = FlatSwin(network, None if seed is None else draw_seed(seed))
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """Denoise (1, C, H, W) float32 in [0, 1], H and W as ``size_rule`` says, to the same shape, not clipped."""
        output: Tensor = self.inner(image)
        return output


def draw_seed(seed: int) -> int:
    """Seed that ``denoise`` gives the network for the first draw of an ``InferenceSpec`` with ``seed``."""
    return int(sub_image_seeds(torch.tensor([fold(seed, 0)]), 1)[0])


def size_rule(network: Network) -> tuple[int, int]:
    """(multiple, minimum) of height and width in pixels that an exported network takes."""
    if isinstance(network, NAFNet) and network.spec.window:
        # A map that one window of channel attention holds is computed in another way: the graph has the usual one.
        return network.multiple, max(network.spec.window, 8 << len(network.spec.encoder)) + network.multiple
    # A tracer takes 1 of anything for a constant: there are at least two windows, or pooling cells, a side.
    return network.multiple, 2 * network.multiple


def export_program(
    network: Network, *, height: int, width: int, seed: int | None = None
) -> torch.export.ExportedProgram:
    """Trace a network; the graph takes any height and width of ``size_rule``.

    Args:
        network: in evaluation mode, on the CPU.
        height: rows of the image that is traced.
        width: columns of the image that is traced.
        seed: ``InferenceSpec.seed``, for the attention masks of its first draw; None for no masks.

    Returns:
        A program with the input ``image`` (1, C, H, W) float32.

    Raises:
        ValueError: a size that is no multiple, or too small.
    """
    multiple, minimum = size_rule(network)
    for name, size in (("height", height), ("width", width)):
        if size % multiple or size < minimum:
            raise ValueError(f"{name} must be a multiple of {multiple} and at least {minimum}, got {size}")
    sides = {
        axis: multiple * torch.export.Dim(name, min=minimum // multiple) for axis, name in ((2, "rows"), (3, "columns"))
    }
    image = torch.zeros(1, network.channels, height, width)
    with torch.no_grad():
        program = torch.export.export(Exportable(network, seed), (image,), dynamic_shapes={"image": sides})
    for node in program.graph.nodes:
        # Lines of our files and where they lie are nobody's business.
        node.meta.pop("stack_trace", None)
    return program
