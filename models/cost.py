"""What a network costs and how far it looks: multiply-accumulates, and the receptive field in bound and in fact."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .masked_swin import MaskedSwinSpec
from .nafnet import NafnetSpec, nafnet_reach
from .network import Network
from .restormer import RestormerSpec
from .unet import UNetSpec, receptive_field

# Half a step of 8 bits: a smaller change is lost in rounding, in the mean.
_VISIBLE = 1 / 512

_TEST_SIGMA = 25 / 255


def count_macs(network: Network, height: int, width: int) -> int:
    """Multiply-accumulates of one forward pass of one image, without computing it.

    Counted are convolutions, linear layers and matrix products, those of attention included, each as its plain
    formulation needs them: what masks save by computing visible tokens only is not subtracted. Not counted are
    elementwise operations, normalisation, softmax, pooling and interpolation. One multiply-accumulate is two FLOPs.

    Args:
        network: a network, on the "meta" device or any other; not changed.
        height: H of the image, >= 1; what the network pads is counted.
        width: W of the image, >= 1.
    """
    # Private to torch, so only here: a registered model must load without it.
    from torch._subclasses.fake_tensor import FakeTensorMode

    fake, counter = copy.deepcopy(network), FlopCounterMode(display=False)
    # With gradients, as without them networks may cut the work into pieces, of which there can be thousands; and
    # no fused attention, for which the counter has no formula on every device.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FakeTensorMode(allow_non_fake_inputs=True):
        # Shapes that say they are on the CPU: networks may ask the device what it can do, which "meta" cannot answer.
        fake.to_empty(device="cpu").eval()
        image = torch.empty(1, network.channels, height, width)
        with counter:
            fake(image, **_noise(network, 0.0))
    return counter.get_total_flops() // 2


def reach_bound(spec: MaskedSwinSpec | UNetSpec | NafnetSpec | RestormerSpec) -> int | None:
    """Distance in pixels, along one axis, beyond which an input pixel cannot change an output pixel.

    Returns:
        The distance, which weights without zeros attain; None if every pixel depends on the whole image.
    """
    match spec:
        case UNetSpec():
            return receptive_field(spec)
        case MaskedSwinSpec():
            return _swin_reach(spec)
        case NafnetSpec():
            return nafnet_reach(spec)
        case RestormerSpec():
            return None


def _swin_reach(spec: MaskedSwinSpec) -> int:
    """Windows, shifted in every second block, and the convolutions between groups, from the output to the input."""
    window, margin = spec.window, 2 if spec.group_conv == "3conv" else 1
    reach = 0
    for position in range(window):
        low, high = position - 1 - margin, position + 1 + margin  # conv_last, conv_body
        for depth in reversed(spec.depths):
            low, high = low - margin, high + margin
            for index in reversed(range(depth)):
                shift = window // 2 if index % 2 else 0
                low = (low - shift) // window * window + shift
                high = (high - shift) // window * window + shift + window - 1
        margin_first = spec.embed_kernel // 2
        reach = max(reach, position - low + margin_first, high + margin_first - position)
    return reach


@torch.inference_mode()
def measure_reach(network: Network, *, size: int = 192, positions: int = 3, threshold: float = _VISIBLE) -> int:
    """How far a change of one pixel is seen, with the weights that ``network`` has.

    A pixel near the middle of a smooth image with noise of 25/255 jumps from black towards white or back, in all
    channels; what counts is the farthest pixel, along either axis, that moves by more than ``threshold`` in any
    channel. It is a lower bound of the true reach for this threshold: other images may carry a change farther.
    Attention masks are off.

    Args:
        network: in evaluation mode, on any device.
        size: side of the image in pixels; distances up to about ``size / 2`` can be seen.
        positions: how many pixels are changed, one after the other, at different places of the coarsest grid.
        threshold: in units of the image.

    Returns:
        Distance in pixels; 0 if no other pixel moves.

    Raises:
        ValueError: the network is in training mode.
    """
    if network.training:
        raise ValueError("network is in training mode; call network.eval() first")
    device = next(network.parameters()).device
    image = _test_image(network.channels, size).to(device)
    noise = {name: value.to(device) for name, value in _noise(network, _TEST_SIGMA).items()}
    before = network(image, **noise)
    reach = 0
    for index in range(positions):
        row, column = size // 2 + 3 * index, size // 2 + 5 * index
        changed = image.clone()
        changed[..., row, column] = (image[..., row, column] < 0.5).to(image.dtype)
        moved = ((network(changed, **noise) - before).abs().amax((0, 1)) > threshold).nonzero()
        if len(moved):
            reach = max(reach, int((moved - torch.tensor([row, column], device=device)).abs().max()))
    return reach


def _noise(network: Network, sigma: float) -> dict[str, Tensor]:
    """What a network with a level map is told of one image with white noise."""
    return {"noise": torch.tensor([[0.0, sigma**2]])} if network.level_map else {}


def _test_image(channels: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, channels, 6, 6, generator=generator)
    smooth = F.interpolate(coarse, (size, size), mode="bicubic", align_corners=True)
    return (smooth + _TEST_SIGMA * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)
