"""A trained network on disk: ``model.safetensors`` (weights) and ``model.json`` (how to use them).

Files may come from anywhere, so nothing is unpickled, and everything is checked against the specs before a
network is built: sizes first, then names, types and shapes, then the hash, then that all weights are finite.
"""

import contextlib
import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from .build import NetworkSpec, build, build_empty, spec_from_dict
from .inference_spec import InferenceSpec
from .network import MAX_TABLE_BYTES, Network, table_bytes
from .spec_io import spec_from_mapping, spec_to_dict

FORMAT = 1
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "model.json"

_MAX_CARD_BYTES = 1 << 20
_MAX_HEADER_BYTES = 1 << 20
_MAX_PARAMETERS = 500_000_000
_LFS_POINTER = b"version https://git-lfs"
_KEYS = {"format", "network", "inference", "card", "sha256"}


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedModel:
    """What ``load`` returns."""

    network: Network
    """The network with its weights, in evaluation mode."""

    spec: NetworkSpec
    """Its shape."""

    inference: InferenceSpec
    """How it is meant to be used."""

    card: dict[str, Any]
    """What its makers wrote down about it."""

    sha256: str
    """Hash of the weights file."""


def save(
    folder: Path,
    network: torch.nn.Module,
    *,
    spec: NetworkSpec,
    inference: InferenceSpec,
    card: Mapping[str, Any],
) -> str:
    """Write a network. Each file appears whole or not at all, the weights first.

    Args:
        folder: created if missing; files of an earlier model in it are replaced.
        network: a network of ``spec``.
        spec: its shape.
        inference: how it is meant to be used.
        card: JSON values about it.

    Returns:
        The sha256 of the weights file.

    Raises:
        ValueError: weights that are not finite or not those of ``spec``, or a card that is not JSON.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    _check_layout({key: (str(value.dtype), tuple(value.shape)) for key, value in state.items()}, spec, "network")
    _check_finite(state, "network")
    data = safetensors.torch.save(state)
    digest = hashlib.sha256(data).hexdigest()
    document = {
        "format": FORMAT,
        "network": spec_to_dict(spec),
        "inference": spec_to_dict(inference),
        "card": dict(card),
        "sha256": digest,
    }
    text = _card_bytes(document)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / WEIGHTS_NAME, data)
    _write(folder / CARD_NAME, text)
    return digest


def replace_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Give the model in ``folder`` another card; weights and specs stay as they are.

    Raises:
        ValueError: no readable model there, or a card that is not JSON.
    """
    document = _read_document(folder / CARD_NAME)
    _write(folder / CARD_NAME, _card_bytes({**document, "card": dict(card)}))


def _card_bytes(document: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(document, indent=2, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise ValueError(f"card must hold JSON values only: {error}") from None


def load(folder: Path, device: str | torch.device = "cpu") -> LoadedModel:
    """Read a network that ``save`` wrote.

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """
    document = _read_document(folder / CARD_NAME)
    path = folder / WEIGHTS_NAME
    try:
        spec = spec_from_dict(document["network"])
        inference = spec_from_mapping(InferenceSpec, document["inference"])
        network = build_empty(spec)
    except ValueError as error:
        raise ValueError(f"{folder / CARD_NAME}: {error}") from None
    parameters = sum(value.numel() for value in network.state_dict().values())
    if parameters > _MAX_PARAMETERS:
        raise ValueError(f"{folder / CARD_NAME}: {parameters} parameters, more than {_MAX_PARAMETERS}")
    if (tables := table_bytes(network)) > MAX_TABLE_BYTES:
        raise ValueError(f"{folder / CARD_NAME}: tables of {tables} bytes, more than {MAX_TABLE_BYTES}")
    data = _read_weights(path, spec, limit=4 * parameters + _MAX_HEADER_BYTES + 8)
    if hashlib.sha256(data).hexdigest() != document["sha256"]:
        raise ValueError(f"{path}: sha256 differs from the one in {CARD_NAME}; the file was changed or damaged")
    try:
        state = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: not a valid safetensors file: {error}") from None
    _check_finite(state, str(path))
    network = build(spec)
    network.load_state_dict(state, strict=True)
    return LoadedModel(
        network=network.to(device).eval(),
        spec=spec,
        inference=inference,
        card=document["card"],
        sha256=document["sha256"],
    )


def _read_document(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_CARD_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > _MAX_CARD_BYTES:
        raise ValueError(f"{path}: larger than {_MAX_CARD_BYTES} bytes")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        raise ValueError(f"{path}: not a JSON file") from None
    if not isinstance(document, dict) or "format" not in document:
        raise ValueError(f"{path}: not the description of a model")
    if type(document["format"]) is not int or document["format"] != FORMAT:  # JSON's true equals 1
        raise ValueError(f"{path}: format {document['format']!r} is unknown; this version reads format {FORMAT}")
    if set(document) != _KEYS:
        raise ValueError(f"{path}: must have the keys {sorted(_KEYS)}, got {sorted(document)}")
    for key in ("network", "inference", "card"):
        if not isinstance(document[key], dict):
            raise ValueError(f"{path}: {key} must be an object, got {type(document[key]).__name__}")
    return document


def _read_weights(path: Path, spec: NetworkSpec, *, limit: int) -> bytes:
    """Bytes of a safetensors file whose header announces exactly the weights of ``spec``."""
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise ValueError(f"{path}: not a file")
        with path.open("rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise ValueError(f"{path}: larger than {limit} bytes, more than the weights of this network need")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    if data.startswith(_LFS_POINTER):
        raise ValueError(f"{path}: a pointer of Git LFS, not the weights; run `git lfs pull` in the checkout")
    length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else _MAX_HEADER_BYTES + 1
    if length > _MAX_HEADER_BYTES or data[8:9] != b"{":
        raise ValueError(f"{path}: not a safetensors file (pickled weights are never read)")
    try:
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        entries = {key: (entry["dtype"], tuple(entry["shape"])) for key, entry in header.items()}
        end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise ValueError(f"{path}: its safetensors header is damaged") from None
    if len(data) != 8 + length + end:
        raise ValueError(f"{path}: {len(data)} bytes where its header announces {8 + length + end}; truncated?")
    names = {"F32": "torch.float32"}
    layout = {key: (names.get(dtype, str(dtype)), shape) for key, (dtype, shape) in entries.items()}
    _check_layout(layout, spec, str(path))
    return data


def _check_layout(found: Mapping[str, tuple[str, tuple[int, ...]]], spec: NetworkSpec, where: str) -> None:
    expected = {key: (str(value.dtype), tuple(value.shape)) for key, value in build_empty(spec).state_dict().items()}
    missing, unknown = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or unknown:
        raise ValueError(
            f"{where}: not the weights of this {spec.kind}: {len(missing)} missing (first: {missing[:1]}), "
            f"{len(unknown)} unknown (first: {unknown[:1]})"
        )
    for key, (dtype, shape) in expected.items():
        if found[key] != (dtype, shape):
            raise ValueError(f"{where}: {key} must be {dtype} {shape}, got {found[key][0]} {found[key][1]}")


def _check_finite(state: Mapping[str, Tensor], where: str) -> None:
    for key, value in state.items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{where}: {key} holds values that are not finite")


def _write(path: Path, data: bytes) -> None:
    """Write to a temporary file beside ``path``, flush to disk, and rename."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise
