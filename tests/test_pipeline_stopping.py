"""A run that is asked to stop saves at once, says so, and resumes to the bytes of an undisturbed one."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.training.checkpoint import list_checkpoints
from pipeline.training.history import read_history
from pipeline.training.stopping import STOP_NAME, StoppedError, StopRequest, stopping_on_signals

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["data.crop=32", "network.width=8", "network.depth=1", "training.batch=4", "training.minutes=0"]
SMALL += ["cluster.workers=0", "training.steps=400", "training.checkpoint_seconds=1000"]


def start(folder: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "UNVEIL_HOME": str(out.parent / "home")}
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "train",
        "--preset",
        "camera",
        "--data",
        str(folder),
        "--out",
        str(out),
    ]
    return subprocess.Popen(
        [*command, "--json", *SMALL, *more],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def sha(out: Path) -> str:
    return hashlib.sha256((out / "weights" / "model.safetensors").read_bytes()).hexdigest()


def test_sigterm_saves_at_once_marks_the_mlflow_run_and_resumes_to_the_same_bytes(
    photo_folder: Path, tmp_path: Path
) -> None:
    import mlflow

    whole, out = tmp_path / "whole", tmp_path / "run"
    undisturbed = start(photo_folder, whole)
    running = start(photo_folder, out)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and len(read_history(out)) < 3:
        assert running.poll() is None, running.communicate()
        time.sleep(0.01)
    running.terminate()
    stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "SIGTERM: saving a checkpoint, then stopping" in stderr
    assert "stopped on request; continue with --resume" in json.loads(stdout)["error"]
    assert not (out / STOP_NAME).exists()
    assert not (out / ".lock").exists()
    saved = [int(path.name.removeprefix("step_")) for path in list_checkpoints(out / "checkpoints")]
    assert len(saved) == 1, "no checkpoint was due but the one that was asked for"
    assert read_history(out)[-1]["step"] <= saved[0] < 400
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}")
    run_id = json.loads((out / "mlflow.json").read_text())["run_id"]
    assert client.get_run(run_id).info.status == "KILLED"
    resumed = start(photo_folder, out, "--resume")
    for process in (undisturbed, resumed):
        stdout, stderr = process.communicate(timeout=200)
        assert process.returncode == 0, stderr
    assert sha(out) == sha(whole)
    assert client.get_run(run_id).info.status == "FINISHED"
    steps = [row["step"] for row in read_history(out)]
    assert steps == [row["step"] for row in read_history(whole)]
    assert [point.step for point in client.get_metric_history(run_id, "loss")] == steps


def test_the_request_is_a_file_that_any_node_sees_and_is_forgotten_by_the_next_run(tmp_path: Path) -> None:
    said = []
    request = StopRequest(tmp_path)
    assert not request()
    (tmp_path / STOP_NAME).touch()
    assert StopRequest(tmp_path)()
    before = signal.getsignal(signal.SIGTERM)
    with stopping_on_signals(tmp_path, lambda what, value: said.append((what, value))) as stopping:
        stopping.check()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StoppedError, match="--resume"):
            stopping.check()
        assert (tmp_path / STOP_NAME).exists()
        os.kill(os.getpid(), signal.SIGTERM)
        assert len(said) == 1, "a second SIGTERM changes nothing"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before
    assert list(tmp_path.iterdir()) == []
