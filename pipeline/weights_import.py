"""Foreign weights turned into ours: read in a child process, recognised by names and shapes, checked, written.

What is read are state dicts with the names of SwinIR (github JingyunLiang/SwinIR), which the code of masked training
(github haoyuc/MaskedDenoising) shares, in a `.pth`, `.pt`, `.ckpt` or `.safetensors`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.data.paths import shown
from pipeline.errors import RunError, UserError

if TYPE_CHECKING:
    from models import InferenceSpec, MaskedSwinSpec, Network
    from raw.child_process import ChildProcess

MAX_BYTES = 8 << 30
"""Ours have at most 500 million parameters; optimiser states and an average may lie beside them."""

_MIN_SECONDS = 30.0
_MAX_ARRAY_BYTES = 5 << 30
_TRIAL_SIGMA = 15 / 255
_SWINIR = "a SwinIR-like network"
_SWINIR_FIRST = "conv_first.weight"


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What the child is asked for."""

    path: str
    """Bytes of the path as latin-1."""

    which: str | None
    """Place of the state dict in the file; None to choose."""

    seconds: float
    """Patience."""

    first: str = _SWINIR_FIRST
    """A tensor by whose name the state dicts that could be meant are known."""

    prefix: str = ""
    """What the names of the tensors that are sent back start with."""

    what: str = _SWINIR
    """Whose weights they are, in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """What the child sends back: one state dict of the file."""

    name: str
    """Its place in the file; "top" for the file itself."""

    others: tuple[str, ...]
    """Places of other state dicts that it could have been."""

    kinds: tuple[str, ...]
    """Types of the floating-point tensors in the file."""

    names: tuple[str, ...]
    """Names of the tensors."""

    arrays: tuple[NDArray[Any], ...]
    """The tensors, float32; index buffers int64."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """What `import_weights` did."""

    folder: Path
    """The weights folder."""

    card: dict[str, Any]
    """The card that was written."""

    spec: MaskedSwinSpec
    """The network."""

    notes: tuple[str, ...]
    """What the user should know, a line each."""


def import_weights(
    path: Path,
    out: Path,
    *,
    which: str | None = None,
    layout: Literal["masked-training", "swinir"] | None = None,
    attention_ratio: float = 0.75,
    seconds: float | None = None,
    reader: ChildProcess | None = None,
) -> Imported:
    """Convert a foreign weights file into a weights folder.

    Args:
        path: the file.
        out: folder to create; it appears whole or not at all.
        which: place of the state dict in the file, such as ``params_ema``; None to choose.
        layout: whose network it is; None tells it from the embedding convolution.
        attention_ratio: fraction of tokens hidden from self-attention, for a network of masked training.
        seconds: patience with the file; by default 2 a megabyte and at least 30.
        reader: child that runs `pipeline.weights_reader`; by default one for this file alone.

    Raises:
        UserError: no such file, not weights of a network that we have, damaged, dangerous, or ``out`` exists.
        RunError: no child can be started.
    """
    from models.swinir_layout import layout_of

    if out.exists():
        raise UserError(f"--out {str(out)!r}: expected a folder that does not exist yet")
    digest = _digest(path)
    weights = read_weights(path, which=which, seconds=seconds, reader=reader)
    try:
        network, spec, inference = _build(weights, layout, attention_ratio)
    except ValueError as error:
        raise UserError(f"{shown(path)}: {error}") from error
    trial = _trial(network, inference)
    notes = _notes(weights, trial)
    card = {
        "source": {
            "file": path.name,
            "sha256": digest,
            "layout": layout_of(spec),
            "taken": weights.name,
            "dtypes": list(weights.kinds),
        },
        "imported": datetime.now(UTC).date().isoformat(),
        "validated": None,
        "trial": trial,
        "notes": list(notes),
    }
    _save(out, network, spec, inference, card)
    return Imported(folder=out, card=card, spec=spec, notes=notes)


def _digest(path: Path) -> str:
    if path.is_dir():
        raise UserError(f"{shown(path)}: expected a weights file, found a folder")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(f"{shown(path)}: expected at most {MAX_BYTES} bytes of weights, found {size}")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError(f"{shown(path)}: expected a weights file, found nothing there") from None
    except OSError as error:
        raise UserError(f"{shown(path)}: expected a readable file, found: {error.strerror}") from error


def read_weights(
    path: Path,
    *,
    which: str | None = None,
    seconds: float | None = None,
    reader: ChildProcess | None = None,
    first: str = _SWINIR_FIRST,
    prefix: str = "",
    what: str = _SWINIR,
) -> Weights:
    """Read one state dict of a foreign weights file in a child process, which runs no code of it.

    Args:
        path: a ``.pth``, ``.pt``, ``.ckpt`` or ``.safetensors`` that exists.
        which: place of the state dict in the file; None to choose.
        seconds: patience with the file; by default 2 a megabyte and at least 30.
        reader: child that runs `pipeline.weights_reader`; by default one for this file alone.
        first: a tensor by whose name the state dict is known.
        prefix: what the names of the tensors that are wanted start with.
        what: whose weights they should be, for the message.

    Raises:
        UserError: not such weights, damaged or dangerous.
        RunError: no child can be started.
    """
    from raw.child_process import ChildError, ChildProcess, ChildStartError
    from raw.isolated import patience
    from raw.wire import typed

    own = ChildProcess("pipeline.weights_reader") if reader is None else None
    size = path.stat().st_size
    patient = max(_MIN_SECONDS, patience(size)) if seconds is None else seconds
    place = os.fsencode(path.absolute()).decode("latin-1")
    wish = Wish(path=place, which=which, seconds=patient, first=first, prefix=prefix, what=what)
    limit = min(_MAX_ARRAY_BYTES, 2 * size + (64 << 20))
    try:
        match (reader or own).ask(wish, seconds=patient, limit=limit):  # type: ignore[union-attr]  # one of them is
            case (True, value):
                return typed(value, Weights)
            case (False, str(reason)):
                raise UserError(f"{shown(path)}: {_of_the_reader(reason)}")
        raise UserError(f"{shown(path)}: expected whole weights, found that the reader answered nonsense")
    except ChildStartError as error:
        raise RunError(f"{shown(path)}: {_of_the_reader(error)}") from error
    except (ChildError, ValueError) as error:
        raise UserError(f"{shown(path)}: expected whole weights, found that {_of_the_reader(error)}") from error
    finally:
        if own is not None:
            own.close()


def _of_the_reader(reason: object) -> str:
    return " ".join(str(reason).replace("the decoder", "the reader").split())


def _build(
    weights: Weights, layout: Literal["masked-training", "swinir"] | None, attention_ratio: float
) -> tuple[Network, MaskedSwinSpec, InferenceSpec]:
    import torch

    from models import InferenceSpec, build, official_state_dict
    from models.official import BUFFERS
    from models.swinir_layout import spec_from_shapes

    state = {name: torch.from_numpy(array) for name, array in zip(weights.names, weights.arrays, strict=True)}
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if name.rsplit(".", 1)[-1] not in BUFFERS}
    spec = spec_from_shapes(shapes, layout=layout, attention_ratio=attention_ratio)
    for name, array in zip(weights.names, weights.arrays, strict=True):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that are not finite")
    network = build(spec)
    network.load_state_dict(official_state_dict(state), strict=True)
    return network.eval(), spec, InferenceSpec(attention="seeded" if network.stochastic else "off")


def _trial(network: Network, inference: InferenceSpec) -> dict[str, float]:
    """PSNR in dB of a noisy synthetic picture and of what the network makes of it: tells a wrong layout."""
    import torch

    from models import denoise

    row = torch.linspace(0, 1, 64)
    clean = (0.5 + 0.3 * torch.sin(5 * row)[:, None] * torch.cos(7 * row)).expand(1, network.channels, 64, 64)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)) * _TRIAL_SIGMA
    noisy = (clean + noise).clamp(0, 1)
    output = denoise(network, noisy, inference).clamp(0, 1)
    pairs = (("noisy", noisy), ("denoised", output))
    return {f"psnr_{name}": round(-10 * float((image - clean).square().mean().log10()), 2) for name, image in pairs}


def _notes(weights: Weights, trial: Mapping[str, float]) -> tuple[str, ...]:
    notes = []
    if weights.others:
        notes.append(f"taken: {weights.name}; the file also holds {', '.join(weights.others)} (--which)")
    if weights.kinds != ("float32",):
        notes.append(f"converted to float32 from {', '.join(weights.kinds)}")
    if trial["psnr_denoised"] < trial["psnr_noisy"]:
        notes.append(
            f"a synthetic picture with noise of {trial['psnr_noisy']} dB comes out at {trial['psnr_denoised']} dB: "
            "trained for other pictures, or of the other --layout"
        )
    return tuple(notes)


def _save(out: Path, network: Network, spec: MaskedSwinSpec, inference: InferenceSpec, card: Mapping[str, Any]) -> None:
    from models import load, save

    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        save(temporary, network, spec=spec, inference=inference, card=card)
        load(temporary)
        temporary.rename(out)
    except OSError as error:
        raise UserError(f"--out {str(out)!r}: expected a place to write to, found: {error.strerror}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
