"""`unveil train --init REF`: a run that starts from a finished network, whose shape and use it takes over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.config import apply_overrides, check, read_tree
from pipeline.data.paths import shown
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.schema import TrainConfig

PRESET: Final = "adapt"
"""Preset of a run with ``--init`` where none is named."""


def initialised(
    ref: str,
    *,
    preset: str | None = None,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    data: str | None = None,
) -> TrainConfig:
    """Return the configuration of a run that starts from the network that ``ref`` names.

    The network is that of ``ref``. In a run whose student adapts it (`student.teacher` is ``start``), so is the way of
    using it.

    Args:
        ref: what `pipeline.inference.denoiser.find_weights` takes.
        preset: as in `pipeline.config.load_config`; `PRESET` where neither it nor a file is given.
        file: as there.
        overrides: as there.
        data: as there.

    Raises:
        UserError: no such network, or one for other data or of another shape than the configuration asks for.
    """
    from models import spec_to_dict
    from pipeline.inference.denoiser import NetworkDenoiser, find_weights
    from pipeline.inference.shipped import reference_of

    weights = find_weights(ref)
    start = NetworkDenoiser(weights, "cpu")
    network = spec_to_dict(start.spec)
    tree = read_tree(preset=preset if preset or file else PRESET, file=file)
    domain = apply_overrides(tree, overrides, None).get("data", {}).get("domain", "display")
    if start.domain != domain:
        _refuse_domain(ref, start.domain)
    student = tree.get("student")
    adapts = isinstance(student, dict) and student.get("teacher") == "start"
    for place in _places(tree, adapts):
        _check_declared(ref, place, network)
        place["network"] = dict(network)
    tree["training"] = {**tree.get("training", {}), "start": reference_of(weights.resolve())}
    if adapts:
        tree["inference"] = spec_to_dict(start.inference)
    tree = apply_overrides(tree, overrides, data)
    for place in _places(tree, adapts):
        _check_declared(ref, place, network)
    return check(tree)


def _places(tree: dict[str, Any], adapts: bool) -> list[dict[str, Any]]:
    """Return the tables whose network is that of the start."""
    return [tree, tree["student"]] if adapts else [tree]


def _refuse_domain(ref: str, domain: str) -> None:
    if domain == "raw":
        raise UserError(
            f"--init {shown(ref)}: expected a model for pictures, found one for raw files; adapting one to a camera is "
            "not built, `unveil train --preset raw --data RAWS` learns from your raw files alone"
        )
    raise UserError(
        f"--init {shown(ref)}: expected a model for raw files, since data.domain is 'raw', found one for pictures"
    )


def _check_declared(ref: str, table: dict[str, Any], network: dict[str, Any]) -> None:
    """Raise UserError if a table declares a network that is not the one that is there; what it leaves out is free."""
    declared = table.get("network")
    for key, value in declared.items() if isinstance(declared, dict) else ():
        if _plain(network.get(key)) != _plain(value):
            raise UserError(
                f"network.{key}: expected {network.get(key)!r}, that of --init {shown(ref)}, found {value!r}; leave "
                "network out, or start from a network of that shape"
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
