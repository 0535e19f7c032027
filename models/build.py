"""From a network's spec to the network."""

from collections.abc import Mapping
from typing import Any

import torch

from .masked_swin import MaskedSwin, MaskedSwinSpec
from .network import Network
from .spec_io import spec_from_mapping
from .unet import UNet, UNetSpec

NetworkSpec = MaskedSwinSpec | UNetSpec

_SPECS: dict[str, type[MaskedSwinSpec] | type[UNetSpec]] = {"masked_swin": MaskedSwinSpec, "unet": UNetSpec}


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


def build_empty(spec: NetworkSpec) -> Network:
    """Network of ``spec`` on the "meta" device: names, shapes and types of its weights, without memory."""
    with torch.device("meta"):
        return _construct(spec)


def spec_from_dict(data: Mapping[str, Any]) -> NetworkSpec:
    """Network spec from JSON values; ``kind`` selects the type.

    Raises:
        ValueError: an unknown kind or field (the message lists what exists), a wrong type or value.
    """
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in _SPECS:
        raise ValueError(f"kind must be one of {', '.join(_SPECS)}, got {kind!r}")
    return spec_from_mapping(_SPECS[kind], data)


def describe(spec: NetworkSpec) -> dict[str, Any]:
    """Facts about the network of ``spec``, as JSON values, without allocating it."""
    network = build_empty(spec)
    return {
        "kind": spec.kind,
        "channels": network.channels,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "multiple": network.multiple,
        "reach": network.reach,
        "stochastic": network.stochastic,
    }
