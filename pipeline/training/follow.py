"""The driver's ears: rows and pictures that rank 0 writes go to the screen and to the MLflow run."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import dump, flatten
from pipeline.training.history import Tail
from pipeline.training.intake import Listener
from pipeline.training.rundir import write_json

if TYPE_CHECKING:
    from pipeline.schema import TrainConfig
    from pipeline.tracking import Tracker


def open_tracker(config: TrainConfig, run_dir: Path, manifest: dict[str, Any]) -> Tracker:
    """Open the MLflow run of this folder: a new one, or the one it had when it is resumed."""
    from pipeline.tracking import Tracker

    stored = run_dir / "mlflow.json"
    run_id = json.loads(stored.read_text("utf-8"))["run_id"] if stored.is_file() else None
    tracker = Tracker(config.tracking.experiment, run_name=run_dir.name, run_id=run_id)
    write_json(stored, {"run_id": tracker.run_id})
    tags = {"data_hash": manifest["hash"], "run_dir": str(run_dir), **_git()}
    tracker.start(flatten(dump(config)), tags)
    tracker.artifact(run_dir / "config.json")
    tracker.artifact(run_dir / "manifest.json")
    write_json(run_dir / "environment.json", environment())
    tracker.artifact(run_dir / "environment.json")
    return tracker


def environment() -> dict[str, Any]:
    """Return what this process runs on: Python, platform, cores, and the version of every installed package."""
    import os
    import platform
    from importlib.metadata import distributions

    packages = {str(one.metadata["Name"]): one.version for one in distributions() if one.metadata["Name"]}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def _git() -> dict[str, str]:
    """Return the commit of the checkout, if it is one."""
    import subprocess

    from pipeline.cluster import check_packages

    try:
        head = subprocess.run(
            ["git", "-C", str(check_packages()), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"git_commit": head.stdout.strip()}


@contextlib.contextmanager
def following(run_dir: Path, tracker: Tracker, listen: Listener, *, stage: str = "") -> Iterator[None]:
    """Pass on what rank 0 appends to log.jsonl, to the screen and to MLflow, while the block runs.

    With a ``stage`` rows have its name as `stage`, and metrics and pictures are under it in MLflow.
    """
    tail = Tail(run_dir)
    _send_missing(tail.new_rows(), tracker, stage)
    done = threading.Event()
    pictures: set[Path] = set(_pictures(run_dir))

    def look() -> None:
        rows = tail.new_rows()
        for row in rows:
            if row.get("event") == "quarantined":
                listen("say", {"text": f"quarantined: {row['text']}"})
            elif row.get("event") in ("trust", "note"):
                listen("say", {"text": row["text"]})
            elif "event" not in row:
                listen("row", {**row, "stage": stage})
        tracker.rows([metrics_of(row, stage) for row in rows])
        for path in _pictures(run_dir):
            if path not in pictures:
                pictures.add(path)
                tracker.artifact(path, f"{stage}/pictures" if stage else "pictures")

    def follow() -> None:
        while not done.wait(1.0):
            look()

    thread = threading.Thread(target=follow, name="unveil-follow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        look()


def _send_missing(rows: list[dict[str, Any]], tracker: Tracker, stage: str) -> None:
    """Send rows of earlier sessions that never reached the server: it was away, or the driver died before."""
    if not rows:
        return
    known = tracker.last_step(f"{stage}/loss" if stage else "loss")
    tracker.rows([metrics_of(row, stage) for row in rows if known is None or row.get("step", -1) > known])


def metrics_of(row: dict[str, Any], stage: str = "") -> dict[str, Any]:
    """Return a row as the tracker takes it: what was measured on held-out crops counts as metrics too."""
    if row.get("event") in ("trust", "gate"):
        row = {name: value for name, value in row.items() if name not in ("event", "text")}
    if not stage:
        return row
    return {name if name in ("step", "time", "event") else f"{stage}/{name}": value for name, value in row.items()}


def _pictures(run_dir: Path) -> list[Path]:
    return sorted((run_dir / "pictures").glob("step_*.png"))
