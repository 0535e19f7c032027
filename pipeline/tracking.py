"""MLflow runs, written by the driver only: one run per training, however often its workers restart.

With `registry/store.py` and `registry/served.py` the only importer of mlflow. Training never dies of it: rows stay in
log.jsonl, which is the spool, and are sent once the server answers again.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import RunError
from pipeline.home import home, quiet_third_parties

_RETRY_SECONDS = 30.0
_RETRY_FACTOR = 20
"""A call that failed is tried again after so many times what it took: a server that hangs costs a twentieth at most."""

_SQLITE = "sqlite:///"
_SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


def connect() -> Any:
    """Import mlflow, point it at `MLFLOW_TRACKING_URI` or the SQLite file of the state folder, and return it.

    Raises:
        RunError: the SQLite file cannot be made or read.
    """
    quiet_third_parties()
    # Two retries take seconds, MLflow's seven take minutes, and rows wait in log.jsonl anyway.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    # Artifacts are small; bars for them would fight with ours.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # MLflow would print the address of a run on stdout, with its password, into what --json prints.
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    import logging

    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    mlflow.set_tracking_uri(tracking_uri())
    if tracking_uri().startswith(_SQLITE):
        _create_schema(mlflow, tracking_uri())
    return mlflow


@functools.cache
def _create_schema(mlflow: Any, uri: str) -> None:
    """Have the tables of a new SQLite file made by one process: MLflow fails where two make them at once."""
    from filelock import FileLock

    path = Path(uri.removeprefix(_SQLITE))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock")), answering(mlflow):
            client = mlflow.MlflowClient(uri, uri)
            client.search_experiments(max_results=1)
            client.search_registered_models(max_results=1)
    except OSError as error:
        raise RunError(f"{path}: cannot be used for MLflow's runs: {error.strerror or error}") from error


def tracking_uri() -> str:
    """Return where runs and models are kept."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}"


def masked_uri() -> str:
    """Return the tracking URI for people to read, without its password."""
    return _masked(tracking_uri())


def one_line(error: Exception) -> str:
    """Return what MLflow says went wrong as one short line without passwords."""
    return _masked((str(error).strip().splitlines() or [type(error).__name__])[0])[:200]


def check_store() -> None:
    """Ask the tracking store for anything, before work is spent on a run that it will not take.

    Raises:
        RunError: it does not answer.
    """
    mlflow = connect()
    with answering(mlflow):
        mlflow.search_experiments(max_results=1)


@contextlib.contextmanager
def answering(mlflow: Any) -> Iterator[None]:
    """Turn an exception of MLflow or of its database into a `RunError` that names the store."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (mlflow.MlflowException, SQLAlchemyError) as error:
        raise RunError(f"MLFLOW_TRACKING_URI: {masked_uri()} does not answer: {one_line(error)}") from error


def _masked(text: str) -> str:
    # To the last @ before the path: a password may hold one that nobody has quoted.
    text = re.sub(r"(://[^:/@\s]*):[^/\s]*@", r"\1:***@", text)
    for name in _SECRETS:
        secret = os.environ.get(name)
        text = text.replace(secret, "***") if secret else text
    return text


def experiment_id(mlflow: Any, name: str) -> str:
    """Return the id of an experiment; a new one on SQLite keeps its artifacts in the state folder.

    Without a server MLflow would put artifacts under whatever folder the process happened to start in.
    """
    found = mlflow.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    local = tracking_uri().startswith("sqlite")
    artifacts = (home() / "artifacts" / re.sub(r"[^\w.-]", "_", name)).as_uri() if local else None
    return str(mlflow.create_experiment(name, artifact_location=artifacts))


@dataclass
class _Gate:
    """When a server that was away is asked again; one for all runs that a process keeps."""

    retry_at: float = 0.0


class Tracker:
    """One MLflow run. Every call may fail without consequence for the training; `problem` says what went wrong."""

    def __init__(
        self, experiment: str, *, run_name: str, run_id: str | None = None, parent: Tracker | None = None
    ) -> None:
        """Open a new run, or go on with `run_id`; `parent` is that of the search it belongs to.

        A run with a `parent` is opened by the first thing that is sent, later if the server is away.

        Raises:
            RunError: the store does not answer, and the run is new and has no parent: the address is likely wrong. A
                run that has been there before goes on without, and its rows are sent when the store is back.
        """
        self.problem: str | None = None
        self.run_id: str = run_id or ""
        self._new = (experiment, run_name, parent)
        self._opened = False
        self._pending: list[dict[str, Any]] = []
        self._artifacts: list[tuple[Path, str | None]] = []
        self._first: tuple[dict[str, Any], dict[str, str]] = ({}, {})
        self._gate: _Gate = parent._gate if parent else _Gate()
        self._monitor: Any = None
        self.mlflow = connect()
        self._client = self.mlflow.MlflowClient()
        if run_id and parent is None:
            self._try(self._open)
        elif parent is None:
            with answering(self.mlflow):
                self._open()

    def start(self, parameters: dict[str, Any], tags: dict[str, str], *, monitor: bool = True) -> None:
        """Log parameters (once) and tags, and start sampling CPU, memory and GPU use of this machine."""
        self._first = (parameters, tags)
        self.send()
        if monitor:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            self._monitor = SystemMetricsMonitor(self.run_id, sampling_interval=5, resume_logging=True)
            self._monitor.start()

    def tags(self, tags: dict[str, str]) -> None:
        """Set more tags, later if the server is away."""
        self._first = (self._first[0], {**self._first[1], **tags})
        self.send()

    def rows(self, rows: list[dict[str, Any]]) -> None:
        """Send rows of log.jsonl as metrics; keeps them for later when the server is away."""
        self._pending += rows
        if self._pending or self._artifacts:
            self.send()

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Send a file or a folder to the run, later if the server is away."""
        self._artifacts.append((path, folder))
        self.send()

    def metrics(self, values: dict[str, float]) -> None:
        """Send single numbers, such as those of an evaluation."""
        self.rows([{"step": 0, "time": time.time(), **values}])

    def last_step(self, key: str) -> int | None:
        """Return the last step of a metric that the server has, -1 if it has none, None if it does not answer."""
        steps: list[int] = []
        asked = self._try(lambda: steps.extend(m.step for m in self._client.get_metric_history(self.run_id, key)))
        return max(steps, default=-1) if asked else None

    def send(self, *, now: bool = False) -> bool:
        """Send all that is waiting, unless the server was away a moment ago; say whether nothing is left."""
        if time.monotonic() < self._gate.retry_at and not now:
            return False
        return all(map(self._try, (self._open, self._send_first, self._send_rows, self._send_artifacts)))

    def finish(self, status: str, *, now: bool = True) -> bool:
        """Send what is waiting and close the run as FINISHED, FAILED or KILLED; say whether that was done."""
        if self._monitor is not None:
            self._monitor.finish()
        return self.send(now=now) and self._try(lambda: self._client.set_terminated(self.run_id, status))

    def _try(self, call: Callable[[], object]) -> bool:
        """Do it, and keep what went wrong: whatever the server or its driver raises, training goes on."""
        start = time.monotonic()
        try:
            call()
        except Exception as error:  # noqa: BLE001 - as above
            self.problem = one_line(error)
            now = time.monotonic()
            self._gate.retry_at = now + max(_RETRY_SECONDS, _RETRY_FACTOR * (now - start))
            return False
        self.problem = None
        self._gate.retry_at = 0.0
        return True

    def _open(self) -> None:
        if self._opened:
            return
        if self.run_id:
            self._client.update_run(self.run_id, status="RUNNING")
        else:
            experiment, run_name, parent = self._new
            tags = {"mlflow.parentRunId": parent.run_id} if parent else None
            run = self._client.create_run(experiment_id(self.mlflow, experiment), run_name=run_name, tags=tags)
            self.run_id = run.info.run_id
        self._opened = True

    def _send_first(self) -> None:
        from mlflow.entities import Param, RunTag

        parameters, tags = self._first
        if not parameters and not tags:
            return
        known = self._client.get_run(self.run_id).data.params
        params = [Param(k, str(v)[:6000]) for k, v in parameters.items() if k not in known]
        for start in range(0, len(params), 100):
            self._client.log_batch(self.run_id, params=params[start : start + 100])
        self._client.log_batch(self.run_id, tags=[RunTag(k, v) for k, v in tags.items()])
        self._first = ({}, {})

    def _send_rows(self) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(key, float(value), int(1000 * row["time"]), int(row["step"]))
            for row in self._pending
            if "event" not in row
            for key, value in row.items()
            if key not in ("step", "time") and isinstance(value, int | float) and math.isfinite(value)
        ]
        for start in range(0, len(metrics), 1000):
            self._client.log_batch(self.run_id, metrics=metrics[start : start + 1000])
        self._pending.clear()

    def _send_artifacts(self) -> None:
        while self._artifacts:
            path, folder = self._artifacts[0]
            if path.exists():
                send = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
                send(self.run_id, str(path), folder)
            del self._artifacts[0]
