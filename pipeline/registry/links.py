"""From the model that an evaluation names to its places in MLflow: logged model, registered version, training run."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import RunError
from pipeline.registry.store import REFERENCE
from pipeline.tracking import answering, connect

EVALUATION_TAG = "unveil.evaluation."
"""Beginning of the tag of a version that says which run evaluated it on a data set, and with what result."""

_RUN_FILE = "mlflow.json"
_WEIGHTS = "weights"
_LOGGED = re.compile(r"models:/(?P<id>m-[A-Za-z0-9]+)/?")
_RUN = re.compile(r"runs:/(?P<run>[A-Za-z0-9_-]+)(/.*)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """Where MLflow knows a model; None for what it does not know."""

    label: str
    ref: str
    model_id: str | None = None
    """Of the logged model, to which metrics are attached."""

    name: str | None = None
    """Registered model."""

    version: int | None = None
    run_id: str | None = None
    """The run that trained it."""


def find_link(label: str, ref: str) -> Link:
    """Ask MLflow about a model.

    Args:
        label: its name in the evaluation.
        ref: ``models:/name@alias``, ``models:/name/3``, ``runs:/id``, a run folder, or a folder that MLflow knows
            nothing of: that has no links, which is no error.

    Raises:
        RunError: MLflow does not answer, or knows no such model any more.
    """
    mlflow = connect()
    client = mlflow.MlflowClient()
    with answering(mlflow):
        if (version := _version(client, ref)) is not None:
            return _of_version(label, ref, version)
        run = _RUN.fullmatch(ref)
        run_id = run["run"] if run else _run_of_folder(Path(ref))
        return Link(label=label, ref=ref) if run_id is None else _of_run(client, label, ref, run_id)


def tag_version(link: Link, data_set: str, facts: Mapping[str, Any]) -> None:
    """Keep an evaluation in the tags of a registered version, where `unveil models list` and MLflow's page show it.

    Args:
        link: of a registered version; others are left alone.
        data_set: name of the set, legal as a part of a tag's name.
        facts: what JSON can hold: the run, the metric and its mean.
    """
    if link.name is None or link.version is None:
        return
    mlflow = connect()
    with answering(mlflow):
        mlflow.MlflowClient().set_model_version_tag(
            link.name, str(link.version), EVALUATION_TAG + data_set, json.dumps(dict(facts))
        )


def evaluations_for(ref: str) -> dict[str, Any]:
    """Return what `tag_version` has kept of a registered version, by data set; nothing for what is not registered.

    Nothing either while MLflow does not answer, or ``UNVEIL_OFFLINE`` says not to ask.
    """
    if not REFERENCE.fullmatch(ref) or os.environ.get("UNVEIL_OFFLINE", "") not in ("", "0"):
        return {}
    with contextlib.suppress(RunError):
        mlflow = connect()
        with answering(mlflow):
            return evaluations_of(_version(mlflow.MlflowClient(), ref).tags)
    return {}


def evaluations_of(tags: Mapping[str, str]) -> dict[str, Any]:
    """Return what `tag_version` has kept in the tags of a version, by data set; what is not ours is left out."""
    found: dict[str, Any] = {}
    for name, text in tags.items():
        if name.startswith(EVALUATION_TAG):
            with contextlib.suppress(ValueError):
                value = json.loads(text)
                if isinstance(value, dict):
                    found[name.removeprefix(EVALUATION_TAG)] = value
    return found


def _version(client: Any, ref: str) -> Any:
    """The registered version of a reference; None for a reference to something else."""
    parts = REFERENCE.fullmatch(ref)
    if parts is None:
        return None
    if parts["alias"]:
        return client.get_model_version_by_alias(parts["name"], parts["alias"])
    return client.get_model_version(parts["name"], parts["version"])


def _of_version(label: str, ref: str, found: Any) -> Link:
    source = _LOGGED.fullmatch(str(found.source or ""))
    model_id = getattr(found, "model_id", None) or (source["id"] if source else None)
    return Link(
        label=label,
        ref=ref,
        model_id=model_id,
        name=str(found.name),
        version=int(found.version),
        run_id=found.run_id or None,
    )


def _of_run(client: Any, label: str, ref: str, run_id: str) -> Link:
    """A run that was resumed has registered more than once: the newest is what its folder holds now."""
    outputs = client.get_run(run_id).outputs
    models = [client.get_logged_model(output.model_id) for output in (outputs.model_outputs if outputs else [])]
    newest = max(models, key=lambda model: int(model.creation_timestamp), default=None)
    model_id = None if newest is None else str(newest.model_id)
    for version in client.search_model_versions(f"run_id='{run_id}'"):
        found = _of_version(label, ref, version)
        if model_id is not None and found.model_id == model_id:
            return found
    return Link(label=label, ref=ref, model_id=model_id, run_id=run_id)


def _run_of_folder(folder: Path) -> str | None:
    """The run of a run folder or of its final weights; ``best`` and the like are other weights than were logged."""
    for candidate in (folder, folder.parent if folder.name == _WEIGHTS else folder):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            return str(json.loads((candidate / _RUN_FILE).read_text("utf-8"))["run_id"])
    return None
