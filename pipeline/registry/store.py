"""The registry's side of MLflow: new versions, aliases and tags, and files on the way in and out.

With `tracking.py` and `served.py` the only importer of mlflow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import RunError, UserError
from pipeline.registry.promotion import record, verdict
from pipeline.registry.served import Served, quiet, served_model
from pipeline.tracking import answering, connect, experiment_id, masked_uri, one_line

DIGEST_TAG = "unveil.manifest"
GATE_TAG = "unveil.gate"
ALIAS_TAG = "unveil.alias."
_NAME = "model"
_REFUSED = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND")
REFERENCE = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))/?")
"""A registered model by alias or version."""

_RUN = re.compile(r"runs:/(?P<run>[A-Za-z0-9_-]+)(/(?P<path>[A-Za-z0-9_.-]+))?/?")


class RegistryAwayError(RunError):
    """The registry does not answer: what was pulled before can still be used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Registered:
    """A new version."""

    version: int
    alias: str | None
    """The alias that points at it now; None if the gate did not let it."""

    gate: str
    """Why (not)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a reference means at present."""

    location: str
    """Artifact URI of the model's folder."""

    digest: str | None
    """sha256 of its `unveil.json`; None for models registered before there was one."""

    name: str | None
    """Registered model; None for a run."""

    version: int | None


def register(weights: Path, *, run_id: str, model: str, alias: str, licence: str | None = None) -> Registered:
    """Log a weights folder as a model of a run, register it, and point the alias at it if the gate lets it.

    Raises:
        UserError: the weights are damaged.
        RunError: the server refused; the weights folder is untouched and can be registered again.
    """
    connect()
    with served_model(weights, licence=licence) as served:
        return upload(served, run_id=run_id, model=model, alias=alias)


def register_weights(
    weights: Path, *, experiment: str, model: str, alias: str, licence: str | None = None
) -> Registered:
    """Register a weights folder that no run of this store has made, under a run of its own."""
    connect()
    with served_model(weights, licence=licence) as served:
        run_id = new_run(experiment, f"register {weights.name}")
        return upload(served, run_id=run_id, model=model, alias=alias)


def new_run(experiment: str, name: str) -> str:
    """Open a run for a model that comes from elsewhere, and return its id."""
    mlflow = connect()
    with answering(mlflow):
        client = mlflow.MlflowClient()
        run = client.create_run(experiment_id(mlflow, experiment), run_name=name)
        client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def upload(served: Served, *, run_id: str, model: str, alias: str) -> Registered:
    """Send a finished model folder as it is, and make it a version of ``model``."""
    mlflow = connect()
    from mlflow.entities import LoggedModelOutput

    client = mlflow.MlflowClient()
    found = verdict(served.card)
    tags = {DIGEST_TAG: served.digest, GATE_TAG: found.text[:1000]}
    try:
        with quiet(), answering(mlflow):
            run = client.get_run(run_id)
            logged = client.create_logged_model(
                run.info.experiment_id, name=_NAME, source_run_id=run_id, tags={DIGEST_TAG: served.digest}
            )
            client.log_model_artifacts(logged.model_id, str(served.folder))
            client.finalize_logged_model(logged.model_id, "READY")
            client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
            _create_model(mlflow, client, model)
            made = client.create_model_version(
                model,
                f"models:/{logged.model_id}",
                run_id=run_id,
                tags=tags,
                description=served.readme,
                model_id=logged.model_id,
            )
            version = int(made.version)
            # As mlflow.register_model does: without it the page of the model says "not registered".
            versions = json.dumps([{"name": model, "version": version}])
            client.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": versions})
    except (RunError, OSError) as error:
        raise RunError(f"registry {masked_uri()}: could not register {model!r}: {one_line(error)}") from error
    if found.passed:
        point_alias(model, version, alias, record(found, forced=False, why="registered"))
    return Registered(version=version, alias=alias if found.passed else None, gate=found.text)


def _create_model(mlflow: Any, client: Any, model: str) -> None:
    try:
        client.create_registered_model(model)
    except mlflow.MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def point_alias(model: str, version: int, alias: str, facts: str) -> None:
    """Point an alias at a version, and keep in a tag of the version what is to be known of it.

    Raises:
        UserError: no such model or version.
        RegistryAwayError: the registry does not answer.
    """
    mlflow = connect()
    with _asking(f"{model!r} version {version}"):
        client = mlflow.MlflowClient()
        # The record first: an alias without one would have no reason.
        client.set_model_version_tag(model, str(version), ALIAS_TAG + alias, facts)
        client.set_registered_model_alias(model, alias, str(version))


def alias_of(model: str, alias: str) -> int | None:
    """Return the version that an alias points at; None if it points at nothing."""
    mlflow = connect()
    try:
        with _asking(f"models:/{model}@{alias}"):
            return int(mlflow.MlflowClient().get_model_version_by_alias(model, alias).version)
    except UserError:
        return None


def find(reference: str) -> Found:
    """Ask the registry what ``models:/name@alias``, ``models:/name/3`` or ``runs:/id`` is.

    Raises:
        UserError: no such model, version, alias or run, or not allowed to see it.
        RegistryAwayError: the registry does not answer.
    """
    mlflow = connect()
    client = mlflow.MlflowClient()
    with _asking(f"--model {reference!r}"):
        if run := _RUN.fullmatch(reference):
            return _of_run(client, run["run"], run["path"] or _NAME)
        parts = REFERENCE.fullmatch(reference)
        if parts is None:
            raise UserError(
                f"--model {reference!r}: expected models:/name@alias, models:/name/version or runs:/id, found neither"
            )
        name = parts["name"]
        if parts["alias"]:
            version = client.get_model_version_by_alias(name, parts["alias"])
        else:
            version = client.get_model_version(name, parts["version"])
        location = client.get_model_version_download_uri(name, version.version)
        return Found(
            location=str(location), digest=version.tags.get(DIGEST_TAG), name=name, version=int(version.version)
        )


def _of_run(client: Any, run_id: str, path: str) -> Found:
    outputs = client.get_run(run_id).outputs
    models = [client.get_logged_model(output.model_id) for output in (outputs.model_outputs if outputs else [])]
    named = sorted((model for model in models if model.name == path), key=lambda model: model.creation_timestamp)
    if not named:
        raise UserError(f"--model 'runs:/{run_id}': not found in {masked_uri()}: the run has logged no {path!r}")
    newest = named[-1]  # a resumed run registers once more
    digest = newest.tags.get(DIGEST_TAG)
    return Found(location=str(newest.artifact_location), digest=digest, name=None, version=None)


class Files:
    """The files of a model where the registry keeps them."""

    def __init__(self, found: Found, reference: str) -> None:
        """Open the store that holds them."""
        connect()
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        self._reference = reference
        with self._reading():
            self._store = get_artifact_repository(found.location)

    def names(self) -> list[str]:
        """Return the names at the top of the folder."""
        with self._reading():
            return [str(file.path) for file in self._store.list_artifacts()]

    def walk(self, *, limit: int) -> list[str]:
        """Return the names of all files, at most ``limit``."""
        names: list[str] = []
        folders = [""]
        with self._reading():
            while folders and len(names) + len(folders) < limit:
                for file in self._store.list_artifacts(folders.pop() or None):
                    (folders if file.is_dir else names).append(str(file.path))
        return names

    def download(self, path: str, folder: Path) -> Path:
        """Copy one file to the same place below ``folder``; ``path`` is known to be safe."""
        local = getattr(self._store, "artifact_dir", None)
        if local is not None:
            here = Path(local) / path
            if any(each.is_symlink() for each in (here, *here.parents) if Path(local) in each.parents):
                raise UserError(f"--model {self._reference!r}: expected files, found a symbolic link: {path}")
        with self._reading():
            made = Path(self._store.download_artifacts(path, str(folder)))
        if made.resolve() != (folder / path).resolve() or not made.is_file():
            raise UserError(f"--model {self._reference!r}: expected the file {path}, found something else")
        return made

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with _asking(f"--model {self._reference!r}"):
            yield


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Tell an answer of the registry, which is the user's to mend, from none."""
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as error:
        if error.error_code in _REFUSED:
            hint = (
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
                if error.error_code in ("UNAUTHENTICATED", "PERMISSION_DENIED")
                else "`unveil models list` shows what there is"
            )
            raise UserError(f"{what}: not found in {masked_uri()} ({one_line(error)}); {hint}") from None
        raise RegistryAwayError(f"{what}: {masked_uri()} does not answer: {one_line(error)}") from error
    except FileNotFoundError as error:
        raise UserError(f"{what}: its files are not where {masked_uri()} says ({one_line(error)})") from None
    except (SQLAlchemyError, OSError, requests.RequestException) as error:
        raise RegistryAwayError(f"{what}: {masked_uri()} does not answer: {one_line(error)}") from error
