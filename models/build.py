"""From a network's spec to the network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from .cost import count_macs, reach_bound
from .masked_swin import MaskedSwin, MaskedSwinSpec
from .nafnet import NAFNet, NafnetSpec
from .network import Network
from .restormer import Restormer, RestormerSpec
from .spec_io import spec_from_mapping
from .unet import UNet, UNetSpec

NetworkSpec = MaskedSwinSpec | UNetSpec | NafnetSpec | RestormerSpec

_SPECS: dict[str, type[MaskedSwinSpec] | type[UNetSpec] | type[NafnetSpec] | type[RestormerSpec]] = {
    "masked_swin": MaskedSwinSpec,
    "unet": UNetSpec,
    "nafnet": NafnetSpec,
    "restormer": RestormerSpec,
}

# Side of the image that costs are stated for.
_STATED_SIZE = 512


def build(spec: NetworkSpec, *, seed: int = 0) -> Network:
    """Network of ``spec`` in training mode on the CPU, with initial weights that depend on ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return _construct(spec)


def _construct(spec: NetworkSpec) -> Network:
    match spec:
        case MaskedSwinSpec():
            return MaskedSwin(spec)
        case UNetSpec():
            return UNet(spec)
        case NafnetSpec():
            return NAFNet(spec)
        case RestormerSpec():
            return Restormer(spec)


def build_empty(spec: NetworkSpec) -> Network:
    """Network of ``spec`` on the "meta" device: names, shapes and types of its weights, without memory."""
    with torch.device("meta"), _NothingDrawn():
        return _construct(spec)


class _NothingDrawn(TorchFunctionMode):
    """Leaves out the drawing of initial weights without memory, for which torch would load its compiler: a second."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in (torch.Tensor.normal_, torch.Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))


def spec_from_dict(data: Mapping[str, Any]) -> NetworkSpec:
    """Network spec from JSON values; ``kind`` selects the type.

    Raises:
        ValueError: an unknown kind or field (the message lists what exists), a wrong type or value.
    """
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in _SPECS:
        raise ValueError(f"kind must be one of {', '.join(_SPECS)}, got {kind!r}")
    return spec_from_mapping(_SPECS[kind], data)


def default_specs() -> dict[str, NetworkSpec]:
    """Every kind of network with the spec of its default size."""
    return {kind: spec() for kind, spec in _SPECS.items()}


def describe(spec: NetworkSpec) -> dict[str, Any]:
    """Facts about the network of ``spec``, as JSON values, without allocating it.

    Returns:
        ``kind``; ``channels``; ``parameters``; ``macs_512x512`` and ``macs_per_pixel``, the multiply-accumulates of a
        forward pass of a 512x512 image as ``count_macs`` counts them, and their share of one pixel, rounded;
        ``receptive_field``, the side in pixels of the square that an output pixel can depend on, None for the whole
        image; and what tiling needs: ``multiple``, ``reach`` and ``stochastic`` of `Network`.
    """
    network = build_empty(spec)
    macs = count_macs(network, _STATED_SIZE, _STATED_SIZE)
    bound = reach_bound(spec)
    return {
        "kind": spec.kind,
        "channels": network.channels,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "macs_per_pixel": round(macs / _STATED_SIZE**2),
        "macs_512x512": macs,
        "receptive_field": None if bound is None else 2 * bound + 1,
        "multiple": network.multiple,
        "reach": network.reach,
        "stochastic": network.stochastic,
    }
