"""A search whose driver is killed at several moments ends as one that was left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SAMPLES, RUNGS = 4, 9
SMALL = [
    "network.width=4",
    "network.depth=1",
    "data.crop=32",
    "training.batch=2",
    "training.steps=180",
    "training.minutes=0",
]


def start(photos: Path, out: Path, log: Path, *more: str) -> subprocess.Popen[bytes]:
    arguments = ["tune", "--data", str(photos), "--out", str(out), "--scheduler", "none", "--seeds", "1", "--json"]
    arguments += ["--objective", "blind_l1", "--samples", str(SAMPLES), *more, *SMALL]
    if "--resume" not in more:
        arguments += ["--preset", "quick"]
    with log.open("ab") as file:
        return subprocess.Popen([sys.executable, "-m", "pipeline", *arguments], cwd=ROOT, stdout=file, stderr=file)


def rows(out: Path) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in (out / "trials").glob("*/log.jsonl"))


def found(out: Path) -> dict[str, Any]:
    trials = json.loads((out / "tune.json").read_text("utf-8"))["trials"]
    return {
        trial["key"]: (trial["number"], trial["state"], [(row["step"], row["score"]) for row in trial["history"]])
        for trial in trials
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_killed_at_three_moments_holds_the_trials_and_scores_of_one_left_alone(
    photo_folder: Path, tmp_path: Path
) -> None:
    from pipeline.tracking import connect

    alone, killed = tmp_path / "alone", tmp_path / "killed"
    assert start(photo_folder, alone, tmp_path / "alone.log").wait() == 0, (tmp_path / "alone.log").read_text()
    resume: list[str] = []
    for moment in (2, 5, 9):
        driver = start(photo_folder, killed, tmp_path / "killed.log", *resume)
        while rows(killed) < moment:
            assert driver.poll() is None, (tmp_path / "killed.log").read_text()
            time.sleep(0.02)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        resume = ["--resume"]
    assert start(photo_folder, killed, tmp_path / "killed.log", "--resume").wait() == 0, (
        tmp_path / "killed.log"
    ).read_text()
    assert found(killed) == found(alone)
    assert {state for _, state, _ in found(killed).values()} == {"finished"}

    client = connect().MlflowClient()
    parent = json.loads((killed / "mlflow.json").read_text("utf-8"))["run_id"]
    experiment = client.get_run(parent).info.experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert sorted(run.data.tags["trial"] for run in children) == sorted(found(alone))
    assert {run.info.status for run in children} == {"FINISHED"}
