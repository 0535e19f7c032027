"""What the layers of a network compute, seen by hooks while it runs, so that nothing is computed differently."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from torch import Tensor, nn

    from models import MaskedSwin, Network, UNet

See = Callable[[str, "Tensor"], None]
"""Gets the name of a layer and its output (B, D, H, W), which a later layer may overwrite: use it or copy it."""


@dataclass(frozen=True, slots=True)
class Tap:
    """Where the output of a layer can be seen."""

    name: str
    """As in figures."""

    module: nn.Module
    """Watched for it."""

    entry: bool = False
    """The output of the layer is the input of ``module``; else its output."""

    tokens: bool = False
    """It is a tensor (B, H, W, D)."""


def taps_of(network: Network) -> list[Tap]:
    """List the layers of a network in the order in which they are computed; the last one feeds the output convolution.

    Masked Swin: each block, each group, the convolution of the body. The others: each stage.
    """
    from models import MaskedSwin, NAFNet, Restormer, UNet

    match network:
        case MaskedSwin():
            return _swin_taps(network)
        case UNet():
            return _unet_taps(network)
        case NAFNet():
            return _stage_taps(network.encoders, network.middle, network.decoders)
        case Restormer():
            *encoders, coarsest = network.encoders
            return [
                *_stage_taps(encoders, coarsest, network.decoders),
                # Without blocks it is its input, and then the finest decoder is the last stage already.
                *([Tap("refinement", network.refinement)] if len(network.refinement) else []),
            ]
        case _:
            raise ValueError(f"layers are known of MaskedSwin, UNet, NAFNet and Restormer, not of {type(network)}")


@contextmanager
def tapped(network: Network, see: See) -> Iterator[list[str]]:
    """Call ``see`` for each layer whenever the network runs; yield the names of the layers."""
    taps = taps_of(network)
    handles = [_watch(tap, see) for tap in taps]
    try:
        yield [tap.name for tap in taps]
    finally:
        for handle in handles:
            handle.remove()


def _watch(tap: Tap, see: See) -> Any:
    def entering(_module: nn.Module, arguments: tuple[Any, ...]) -> None:
        see(tap.name, _planes(arguments[0], tokens=tap.tokens))

    def leaving(_module: nn.Module, _arguments: tuple[Any, ...], output: Any) -> None:
        see(tap.name, _planes(output, tokens=tap.tokens))

    if tap.entry:
        return tap.module.register_forward_pre_hook(entering)
    return tap.module.register_forward_hook(leaving)


def _planes(value: Any, *, tokens: bool) -> Tensor:
    """Tokens, also those whose rows are in the order of their windows, as (B, D, H, W); planes as they are."""
    from models.token_map import TokenMap

    if isinstance(value, TokenMap):
        value, tokens = value.map(), True
    planes: Tensor = value.permute(0, 3, 1, 2) if tokens else value
    return planes


def _swin_taps(network: MaskedSwin) -> list[Tap]:
    taps: list[Tap] = []
    groups: list[Any] = list(network.groups)
    for number, group in enumerate(groups, 1):
        taps += [Tap(f"g{number} block {index}", block) for index, block in enumerate(group.blocks, 1)]
        if number < len(groups):
            # Behind its convolution and skip a group is no module's output, but it is the next one's input.
            taps.append(Tap(f"g{number}", groups[number].blocks[0], entry=True))
    last = Tap(f"g{len(groups)}", network.norm, entry=True, tokens=True)
    return [*taps, last, Tap("body", network.conv_body)]


def _unet_taps(network: UNet) -> list[Tap]:
    # Its forward runs the layers of a stage one by one, so the stage itself is never called.
    *encoders, bottom = ([*stage][-1] for stage in _stages(network.encoders))
    return _stage_taps(encoders, bottom, [[*stage][-1] for stage in _stages(network.decoders)])


def _stage_taps(encoders: Iterable[nn.Module], middle: nn.Module, decoders: Iterable[nn.Module]) -> list[Tap]:
    """Stages of a U, decoders given finest first and run coarsest first."""
    return [
        *(Tap(f"encoder {level}", stage) for level, stage in enumerate(encoders, 1)),
        Tap("middle", middle),
        *reversed([Tap(f"decoder {level}", stage) for level, stage in enumerate(decoders, 1)]),
    ]


def _stages(stages: nn.ModuleList) -> Iterator[Iterable[nn.Module]]:
    for stage in stages:
        yield cast("nn.Sequential", stage)
