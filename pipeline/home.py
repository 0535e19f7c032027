"""Where state lives when nobody says otherwise: one absolute folder, never the current one."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """Return the state folder: ``UNVEIL_HOME`` if set, else ``~/.unveil``. Created on first use.

    Ray jobs start in a temporary copy of the upload, so anything relative to the current folder is lost
    there; everything that must last lies below this one.
    """
    folder = Path(os.environ.get("UNVEIL_HOME") or Path.home() / ".unveil").expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def quiet_third_parties() -> None:
    """Switch off the usage reports of Ray and MLflow, unless the user has set them. Call before importing them."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # `uv run` drivers would otherwise make every worker call `uv run` again.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    # Worker prints would otherwise appear twice on the driver.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
