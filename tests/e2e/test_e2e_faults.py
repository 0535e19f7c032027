"""Processes of a real local Ray killed, frozen or stopped: the weights are those of the undisturbed run."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
STEPS = 400

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from skimage import data

    base = tmp_path_factory.mktemp("faults")
    (base / "clean").mkdir()
    for index in range(2):
        iio.imwrite(base / "clean" / f"{index}.png", data.astronaut()[:, 200 * index : 200 * index + 200])
    environment = {**os.environ, "UNVEIL_HOME": str(base / "home"), "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    return {"base": base, "environment": environment}


def start(world: dict[str, Any], name: str, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipeline", "train", "--preset", "camera", "--data", str(world["base"] / "clean")]
    overrides = [
        f"training.steps={STEPS}",
        "training.minutes=0",
        "training.checkpoint_seconds=0.5",
        "data.crop=32",
        "network.width=8",
        "network.depth=1",
        "cluster.workers=2",
        "cluster.threads=1",
    ]
    return subprocess.Popen(
        [*command, "--out", str(world["base"] / name), "--json", *overrides, *more],
        cwd=ROOT,
        env=world["environment"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(world: dict[str, Any], name: str, process: subprocess.Popen[str]) -> str:
    stdout, stderr = process.communicate(timeout=600)
    assert process.returncode == 0, stderr
    assert json.loads(stdout)["steps"] == STEPS
    return hashlib.sha256((world["base"] / name / "weights" / "model.safetensors").read_bytes()).hexdigest()


def wait_for_step(world: dict[str, Any], name: str, step: int, process: subprocess.Popen[str]) -> None:
    folder = world["base"] / name / "checkpoints"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert process.poll() is None, "it ended before it could be disturbed"
        saved = [int(path.name.removeprefix("step_")) for path in folder.glob("step_*")]
        if saved and max(saved) >= step:
            return
        time.sleep(0.02)
    raise AssertionError(f"no checkpoint at or after step {step}")


def processes_of(process: subprocess.Popen[str], title: str) -> list[psutil.Process]:
    workers = [p for p in psutil.Process(process.pid).children(recursive=True) if title in " ".join(p.cmdline())]
    assert workers, f"no process is called {title}"
    return workers


@pytest.fixture(scope="module")
def undisturbed(world: dict[str, Any]) -> str:
    return finish(world, "whole", start(world, "whole"))


@pytest.mark.parametrize("title", ["TrainWorker", "Synthesizer"])
def test_killing_a_process_of_the_run_changes_no_byte(world: dict[str, Any], undisturbed: str, title: str) -> None:
    process = start(world, title)
    wait_for_step(world, title, 60, process)
    processes_of(process, title)[-1].kill()
    assert finish(world, title, process) == undisturbed


def test_killing_the_driver_and_resuming_changes_no_byte(world: dict[str, Any], undisturbed: str) -> None:
    process = start(world, "driver")
    wait_for_step(world, "driver", 60, process)
    process.kill()
    process.communicate()
    assert finish(world, "driver", start(world, "driver", "--resume")) == undisturbed


def test_a_frozen_trainer_is_found_and_its_group_restarted(world: dict[str, Any], undisturbed: str) -> None:
    process = start(world, "frozen", "cluster.patience_seconds=15")
    wait_for_step(world, "frozen", 60, process)
    processes_of(process, "TrainWorker")[-1].suspend()
    assert finish(world, "frozen", process) == undisturbed


def test_sigterm_saves_on_both_workers_and_resuming_changes_no_byte(world: dict[str, Any], undisturbed: str) -> None:
    process = start(world, "sigterm", "training.checkpoint_seconds=1000", "training.log_every=5")
    log = world["base"] / "sigterm" / "log.jsonl"
    while not log.is_file():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.terminate()
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "stopped on request; continue with --resume" in stderr
    assert len(list((world["base"] / "sigterm" / "checkpoints").glob("step_*"))) == 1
    assert finish(world, "sigterm", start(world, "sigterm", "--resume")) == undisturbed
