"""Who is measured: the noisy input itself, classical denoisers, and any number of models, each under a label."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pipeline import __version__
from pipeline.errors import UserError
from pipeline.evaluation.baselines import pick_baselines
from pipeline.inference.denoiser import Denoiser, NetworkDenoiser, load_denoiser

if TYPE_CHECKING:
    from models import InferenceSpec

NOISY: Final = "noisy"
OURS: Final = "ours"
"""Label of a model that nobody named."""

_LIBRARIES = {"nlm": "scikit-image", "tv": "scikit-image", "wavelet": "scikit-image", "bm3d": "bm3d"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A model under the label that tables and pictures give it."""

    label: str
    denoiser: Denoiser
    ref: str | None = None
    """As the user wrote it."""

    group: str | None = None
    """Label shared by models that differ by their seed only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """Somebody who denoises, small enough to be sent to another process."""

    label: str
    kind: Literal["noisy", "classical", "model"]
    key: str | None
    """Hash of all that decides what comes out; None if that is not known."""

    name: str = ""
    """Of a classical denoiser."""

    folder: Path | None = None
    """Of the weights of a model."""

    inference: InferenceSpec | None = None


def read_models(texts: Sequence[str], device: str = "auto") -> list[Model]:
    """Read ``--model``: a reference, or ``label=reference``; a label given twice makes a group of seeds.

    Args:
        texts: as typed.
        device: where the models run.

    Raises:
        UserError: as for `pipeline.inference.denoiser.load_denoiser`.
    """
    named = [_label_of(text) for text in texts]
    labels = [label for label, _, _ in named]
    models: list[Model] = []
    for index, (label, ref, chosen) in enumerate(named):
        several = labels.count(label) > 1
        models.append(
            Model(
                label=f"{label} #{labels[: index + 1].count(label)}" if several else label,
                denoiser=load_denoiser(ref, device),
                ref=ref,
                group=label if several and chosen else None,
            )
        )
    return models


def contenders_of(models: Sequence[Model], baselines: Iterable[str]) -> list[Contender]:
    """Return the noisy input, the classical denoisers and the models, in this order.

    Raises:
        UserError: an unknown baseline, or a label that two have.
    """
    found = [Contender(label=NOISY, kind="noisy", key=_hash("noisy"))]
    for name in pick_baselines(list(baselines)):
        key = _hash("classical", name, importlib.metadata.version(_LIBRARIES[name]))
        found.append(Contender(label=name, kind="classical", key=key, name=name))
    for model in models:
        network = model.denoiser if isinstance(model.denoiser, NetworkDenoiser) else None
        found.append(
            Contender(
                label=model.label,
                kind="model",
                key=_model_key(network) if network else None,
                folder=network.folder if network else None,
                inference=network.inference if network else None,
            )
        )
    labels = [one.label for one in found]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise UserError(f"--model: expected labels of their own, found {twice!r} twice; name models with LABEL=REF")
    return found


def described(model: Model) -> dict[str, Any]:
    """Return what an evaluation says of a model: label, ref, hash, mode, parameters, seed, training data, group."""
    facts: dict[str, Any] = {"label": model.label, "ref": model.ref, "group": model.group}
    if not isinstance(model.denoiser, NetworkDenoiser):
        empty = dict.fromkeys(("sha256", "mode", "network", "parameters", "seed", "trained_on", "noise"))
        return {**facts, **empty, "ref": model.ref or type(model.denoiser).__name__}
    denoiser = model.denoiser
    card = denoiser.card
    config = card.get("config") if isinstance(card.get("config"), dict) else {}
    assert isinstance(config, dict)
    data = config.get("data")
    noise = config.get("noise")
    return {
        **facts,
        "ref": model.ref or str(denoiser.folder),
        "sha256": denoiser.sha256,
        "mode": denoiser.describe(),
        "network": denoiser.spec.kind,
        "parameters": sum(weight.numel() for weight in denoiser.network.parameters()),
        "seed": config.get("seed"),
        "trained_on": data.get("path") if isinstance(data, dict) else None,
        "noise": noise if isinstance(noise, dict) else None,
    }


def short_name(ref: str) -> str:
    """Return the name of the run folder or of the registered model that a reference means."""
    if ref.startswith(("models:/", "runs:/")):
        return ref.partition(":/")[2].strip("/") or ref
    path = Path(ref).resolve()
    return (path.parent if path.name == "weights" else path).name or ref


def _label_of(text: str) -> tuple[str, str, bool]:
    """Return label, reference, and whether the user chose the label."""
    label, equals, ref = text.partition("=")
    if equals and label.strip() and ref and not Path(text).exists() and not set("/:\\") & set(label):
        return label.strip(), ref, True
    return short_name(text), text, False


def _model_key(denoiser: NetworkDenoiser) -> str:
    return _hash(
        "model", denoiser.sha256, repr(denoiser.inference), importlib.metadata.version("torch"), denoiser.device
    )


def _hash(*parts: str) -> str:
    # The version of this program: its code decides the result too.
    return hashlib.sha256("\n".join((__version__, *parts)).encode()).hexdigest()
