"""The tracking store of a fresh machine, where several runs may start at once."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.errors import RunError
from pipeline.tracking import check_store

ROOT = Path(__file__).parents[1]
FIRST_USE = """
import pathlib, sys, time
import mlflow
import pytest

from pipeline.errors import RunError
from pipeline.tracking import check_store
pathlib.Path(sys.argv[1]).touch()
while not pathlib.Path(sys.argv[2]).exists():
    time.sleep(0.002)
check_store()
"""


def test_runs_that_start_at_once_on_a_fresh_machine_share_one_new_store(tmp_path):
    go = tmp_path / "go"
    environment = {**os.environ, "UNVEIL_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FIRST_USE, str(tmp_path / f"ready{index}"), str(go)],
            env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        )
        for index in range(3)
    ]  # fmt: skip
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("ready*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    go.touch()
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], "\n".join(said)


def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "mlflow.db").write_bytes(b"this is a text, not SQLite " * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    with pytest.raises(RunError, match=r"mlflow\.db does not answer: .*not a database") as caught:
        check_store()
    assert "\n" not in str(caught.value)
