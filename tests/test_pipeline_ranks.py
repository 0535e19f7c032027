"""Several ranks of one run, each in its own process: the loss curve of one, whatever their number and their shares."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config import dump, load_config
from pipeline.errors import UserError
from pipeline.schema import TrainConfig
from pipeline.training.history import read_history
from pipeline.training.rank import positions
from pipeline.training.stopping import STOP_NAME

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["data.crop=32", "network.width=8", "network.depth=1", "training.minutes=0", "training.steps=12"]
SMALL += ["training.log_every=2", "training.batch=5", "optimizer.warmup_steps=2"]


def start(config: TrainConfig, base: Path, world: int) -> list[subprocess.Popen[str]]:
    (base / "run").mkdir(parents=True, exist_ok=True)
    (base / "config.json").write_text(json.dumps(dump(config)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    init = base / f"init_{len(list(base.iterdir()))}"
    arguments = [str(base / "config.json"), str(base / "run")]
    return [
        subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "gloo_rank.py"), *arguments, str(rank), str(world), str(init)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def finish(processes: list[subprocess.Popen[str]]) -> set[str]:
    said = set()
    for process in processes:
        stdout, stderr = process.communicate(timeout=200)
        assert process.returncode == 0, stderr
        said.add(stdout.split()[-1])
    return said


def test_shares_cover_the_batch_and_differ_by_one_at_most() -> None:
    for batch, world in [(8, 1), (8, 2), (5, 2), (7, 3), (64, 10), (3, 3)]:
        shares = [positions(batch, rank, world) for rank in range(world)]
        assert [sample for share in shares for sample in share] == list(range(batch))
        assert {len(share) for share in shares} <= {batch // world, -(-batch // world)}


def test_more_workers_than_samples_are_refused(photo_folder: Path) -> None:
    with pytest.raises(UserError, match=r"training\.batch: expected cluster\.workers \(6\) or more"):
        load_config(preset="camera", overrides=[*SMALL, "cluster.workers=6"], data=str(photo_folder))


def test_unequal_shares_and_accumulation_follow_the_curve_of_one_rank(photo_folder: Path, tmp_path: Path) -> None:
    """Five samples on two ranks: sums are taken in another order, so equal to rounding."""
    curves, running = {}, {}
    for name, world, parts in [("one", 1, 1), ("parts", 1, 3), ("both", 2, 2)]:
        overrides = [*SMALL, f"training.accumulate={parts}"]
        config = load_config(preset="camera", overrides=overrides, data=str(photo_folder))
        running[name] = start(config, tmp_path / name, world)
    for name, processes in running.items():
        assert finish(processes) == {"finished"}
        world = len(processes)
        rows = read_history(tmp_path / name / "run")
        assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12]
        assert {row["workers"] for row in rows} == {world}
        assert all((row["all_reduce_seconds"] > 0) == (world > 1) for row in rows)
        curves[name] = [row["loss"] for row in rows]
    assert len(set(curves["one"])) == 6
    for name in ("parts", "both"):
        assert curves[name] == pytest.approx(curves["one"], rel=1e-4), name


def test_two_ranks_stopped_anywhere_resume_to_the_same_bytes_and_rows(photo_folder: Path, tmp_path: Path) -> None:
    overrides = [*SMALL, "training.steps=40", "training.log_every=5"]
    config = load_config(preset="camera", overrides=overrides, data=str(photo_folder))
    assert finish(start(config, tmp_path / "whole", 2)) == {"finished"}
    stopped = tmp_path / "stopped"
    (stopped / "run").mkdir(parents=True)
    # Asked before the first step: both must agree, and save at once.
    (stopped / "run" / STOP_NAME).touch()
    assert finish(start(config, stopped, 2)) == {"stopped"}
    (stopped / "run" / STOP_NAME).unlink()
    running = start(config, stopped, 2)
    while not read_history(stopped / "run"):
        assert all(process.poll() is None for process in running), [p.communicate() for p in running]
    (stopped / "run" / STOP_NAME).touch()
    said = finish(running)
    assert len(said) == 1, "both ranks end in the same way"
    (stopped / "run" / STOP_NAME).unlink()
    assert finish(start(config, stopped, 2)) == {"finished"}
    weights = [tmp_path / name / "run" / "weights" / "model.safetensors" for name in ("whole", "stopped")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    curves = [[(row["step"], row["loss"]) for row in read_history(tmp_path / n / "run")] for n in ("whole", "stopped")]
    assert [step for step, _ in curves[0]] == [step for step, _ in curves[1]]
    assert [loss for _, loss in curves[0]] == pytest.approx([loss for _, loss in curves[1]], rel=1e-12)
