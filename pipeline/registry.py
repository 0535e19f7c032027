"""The model registry: register a weights folder so that others need nothing of this repository, and fetch it back.

With `tracking.py` the only importer of mlflow. A registered model is an MLflow pyfunc made from code, without a
pickle: `model.safetensors` and `model.json`, a short serving file, and a copy of `models/` under a name that carries
the hash of its content, so that two versions live in one process and no package of the host is shadowed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import RunError, UserError
from pipeline.tracking import answering, connect, experiment_id, masked_uri, one_line

_WEIGHTS = "artifacts/weights"


def register(weights: Path, *, run_id: str, model: str, alias: str, card: dict[str, Any]) -> int:
    """Log a weights folder as a model of a run, register it, point the alias at it, and return the version.

    Raises:
        RunError: the server refused; the weights folder is untouched and can be registered again.
    """
    mlflow = connect()
    from mlflow.exceptions import MlflowException

    try:
        with (
            tempfile.TemporaryDirectory(prefix="unveil-register-") as folder,
            # Around the run: MLflow prints its address where it ends.
            _quiet(),
            mlflow.start_run(run_id=run_id),
        ):
            serving, code = _serving_files(Path(folder))
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(serving),
                artifacts={"weights": str(weights)},
                code_paths=[str(code)],
                pip_requirements=_requirements(),
                registered_model_name=model,
                metadata={"unveil": card},
            )
        version = int(info.registered_model_version)
        mlflow.MlflowClient().set_registered_model_alias(model, alias, str(version))
    except MlflowException as error:
        raise RunError(f"registry {masked_uri()}: could not register {str(weights)!r}: {one_line(error)}") from error
    return version


def fetch(uri: str) -> Path:
    """Return a local weights folder for `models:/name@alias`, `models:/name/3` or `runs:/id/model`.

    The folder may be the store's own: read it only.

    Raises:
        UserError: no such model, version, alias or run, or a model that unveil did not make.
    """
    mlflow = connect()
    from mlflow.exceptions import MlflowException

    try:
        local = Path(mlflow.artifacts.download_artifacts(artifact_uri=_model_uri(uri)))
    except (MlflowException, OSError) as error:
        raise UserError(
            f"--model {uri!r}: not found in {masked_uri()} ({one_line(error)}); "
            "`unveil models list` shows what there is"
        ) from None
    folder = local / _WEIGHTS
    if not (folder / "model.json").is_file():
        raise UserError(
            f"--model {uri!r}: expected a model registered by unveil, found one without {_WEIGHTS}/model.json"
        )
    return folder


def _model_uri(uri: str) -> str:
    """Give a bare `runs:/<id>` the name under which training logs its model."""
    if uri.startswith("runs:/") and "/" not in uri.removeprefix("runs:/").strip("/"):
        return f"{uri.rstrip('/')}/model"
    return uri


def list_models() -> list[dict[str, Any]]:
    """Return every registered version: model, version, aliases, run and creation time, newest first."""
    mlflow = connect()
    client = mlflow.MlflowClient()
    rows = []
    with answering(mlflow):
        for registered in client.search_registered_models():
            aliases: dict[str, list[str]] = {}
            for alias, version in registered.aliases.items():
                aliases.setdefault(str(version), []).append(alias)
            for found in client.search_model_versions(f"name='{registered.name}'"):
                rows.append(
                    {
                        "model": registered.name,
                        "version": int(found.version),
                        "aliases": sorted(aliases.get(str(found.version), [])),
                        "run_id": found.run_id,
                        "created": found.creation_timestamp / 1000,
                    }
                )
    return sorted(rows, key=lambda row: (row["model"], -row["version"]))


def set_alias(model: str, version: int, alias: str) -> None:
    """Point an alias at a version.

    Raises:
        UserError: no such model or version.
    """
    mlflow = connect()
    from mlflow.exceptions import MlflowException

    try:
        mlflow.MlflowClient().set_registered_model_alias(model, alias, str(version))
    except MlflowException as error:
        raise UserError(
            f"{model!r} version {version}: {one_line(error)}; `unveil models list` shows what there is"
        ) from None


def register_weights(weights: Path, *, experiment: str, model: str, alias: str, card: dict[str, Any]) -> int:
    """Register a weights folder that no run of this store has made, under a run of its own."""
    mlflow = connect()
    with answering(mlflow):
        run = mlflow.MlflowClient().create_run(experiment_id(mlflow, experiment), run_name=f"register {weights.name}")
    return register(weights, run_id=run.info.run_id, model=model, alias=alias, card=card)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow's remarks from the user: no type hints in `predict` (it takes two dtypes), versions it created."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _serving_files(folder: Path) -> tuple[Path, Path]:
    """Write the serving file and the renamed copy of `models/`; return both paths."""
    import models

    source = Path(models.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(source.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    name = f"unveil_network_{digest.hexdigest()[:12]}"
    code = folder / name
    shutil.copytree(source, code, ignore=shutil.ignore_patterns("__pycache__"))
    serving = folder / "serving.py"
    template = (Path(__file__).parent / "serving_template.py").read_text("utf-8")
    serving.write_text(template.replace("__NETWORK_PACKAGE__", name), "utf-8")
    return serving, code


def _requirements() -> list[str]:
    from importlib.metadata import version

    # The local part of a torch version (+cpu) names a build that other machines need not have.
    return [f"{name}=={version(name).partition('+')[0]}" for name in ("mlflow", "numpy", "safetensors", "torch")]
