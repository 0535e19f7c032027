"""Checkpoints under bad conditions: damaged ones, full disks, folders taken over, gradients that stay non-finite."""

from __future__ import annotations

import contextlib
import json
import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config import load_config
from pipeline.data.source import BatchSource
from pipeline.errors import RunError
from pipeline.schema import TrainConfig
from pipeline.training.checkpoint import list_checkpoints, save_checkpoint
from pipeline.training.history import Log, read_history
from pipeline.training.intake import read_source
from pipeline.training.loop import HopelessError, new_state, run_loop, step_settings
from pipeline.training.rank import Rank, local_rank
from pipeline.training.rundir import locked, owns
from pipeline.training.saver import Saver, TakenOverError
from pipeline.training.step import TrainState, train_step

SMALL = ["data.crop=32", "network.width=8", "network.depth=1", "training.batch=4", "training.minutes=0"]
SMALL += ["cluster.workers=0", "training.log_every=1"]


def config_for(folder: Path, *overrides: str) -> TrainConfig:
    return load_config(preset="camera", overrides=[*SMALL, *overrides], data=str(folder))


def rank_for(config: TrainConfig) -> Rank:
    return local_rank(read_source(config, lambda *_: None)[0], config.training.batch)


def notes(run_dir: Path) -> list[str]:
    lines = (json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines())
    return [row["text"] for row in lines if row.get("event") == "note"]


def saver_for(config: TrainConfig, run_dir: Path, rank: Rank) -> Saver:
    return Saver(run_dir / "checkpoints", config.training, rank, Log(run_dir))


def trained(config: TrainConfig, folder: Path, steps: int) -> TrainState:
    """Train a few steps and leave a checkpoint of each."""
    state, source = new_state(config), BatchSource(read_source(config, lambda *_: None)[0])
    for step in range(steps):
        batch = {name: torch.from_numpy(values) for name, values in source.batch(step, range(4)).items()}
        train_step(state, batch, config.method, step_settings(config), 0.1)
        save_checkpoint(folder, state, keep=9)
    return state


def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(photo_folder: Path, tmp_path: Path) -> None:
    config = config_for(photo_folder)
    trained(config, tmp_path / "checkpoints", 3)
    damaged = tmp_path / "checkpoints" / "step_000000003" / "state.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:500])
    state = new_state(config)
    assert saver_for(config, tmp_path, rank_for(config)).restore(state, None)
    assert state.step == 2
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == ["step_000000001", "step_000000002"]
    assert (tmp_path / "checkpoints" / "damaged_step_000000003").is_dir()
    assert "step_000000003" in notes(tmp_path)[0]
    assert "set aside, going back to the one before" in notes(tmp_path)[0]


def test_where_no_checkpoint_is_whole_the_run_does_not_begin_anew_in_silence(
    photo_folder: Path, tmp_path: Path
) -> None:
    config = config_for(photo_folder)
    trained(config, tmp_path / "checkpoints", 1)
    (tmp_path / "checkpoints" / "step_000000001" / "state.json").write_text("{")
    with pytest.raises(RunError, match="step_000000001: cannot be resumed from"):
        saver_for(config, tmp_path, rank_for(config)).restore(new_state(config), None)


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """No file of this process may grow beyond 8 KiB: the system refuses as a full disk does.

    For a few lines only: what pytest itself writes may go to a larger file.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_refuses_a_checkpoint_does_not_end_the_training(photo_folder: Path, tmp_path: Path) -> None:
    config = config_for(photo_folder, "training.checkpoint_seconds=0.001")
    rank = rank_for(config)
    saver, state = saver_for(config, tmp_path, rank), trained(config, tmp_path / "elsewhere", 1)
    with small_files():
        for _ in range(3):
            time.sleep(0.005)
            saver.save_if_due(state, None)
    assert list_checkpoints(tmp_path / "checkpoints") == []
    assert len(notes(tmp_path)) == 1, "told once, not at every attempt"
    assert "training goes on and tries again" in notes(tmp_path)[0]
    time.sleep(0.005)
    saver.save_if_due(state, None)
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == ["step_000000001"]


def test_rows_that_the_disk_refuses_wait_and_none_is_cut(tmp_path: Path) -> None:
    log = Log(tmp_path)
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"event": "note", "text": "x" * 8000}) + "\n")
    with small_files():
        for step in range(5):
            log.append({"step": step, "loss": 0.5, "text": "y" * 60})
    assert path.read_bytes().endswith(b"\n")
    written = [row["step"] for row in read_history(tmp_path)]
    assert written == list(range(len(written)))
    assert len(written) < 5
    path.write_text("")
    log.append({"step": 5, "loss": 0.5})
    assert [row["step"] for row in read_history(tmp_path)] == list(range(len(written), 6))


def test_a_line_that_a_crash_has_cut_does_not_spoil_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    Log(tmp_path).append({"step": 2, "loss": 0.4})
    assert [(row["step"], row["loss"]) for row in read_history(tmp_path)] == [(1, 0.5), (2, 0.4)]


def test_workers_of_a_killed_driver_do_not_write_into_the_folder_of_its_successor(
    photo_folder: Path, tmp_path: Path
) -> None:
    config = config_for(photo_folder, "training.checkpoint_seconds=0.001")
    with locked(tmp_path) as mine:
        rank = replace(rank_for(config), owns=lambda: owns(tmp_path, mine))
        saver, state = saver_for(config, tmp_path, rank), new_state(config)
        saver.save(state, None)
        lock = tmp_path / ".lock"
        lock.write_text(json.dumps({**json.loads(lock.read_text()), "token": "another"}))
        state.step = 1
        time.sleep(0.005)
        for save in (saver.save, saver.save_if_due):
            with pytest.raises(TakenOverError, match="another process has taken this run over"):
                save(state, None)
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == ["step_000000000"]
    assert owns(tmp_path, mine), "without a lock the folder is nobody else's"


def test_gradients_that_stay_non_finite_take_the_run_back_at_half_the_rate(photo_folder: Path, tmp_path: Path) -> None:
    """Poisoned from step 6 on, twice; the third time the batches are sound again."""
    config = config_for(
        photo_folder,
        "training.steps=12",
        "training.max_bad_steps=2",
        "training.checkpoint_seconds=0.0001",
        "optimizer.schedule=constant",
        "optimizer.warmup_steps=0",
    )
    rank, calls = rank_for(config), []

    def feed(start: int) -> Iterator[dict[str, np.ndarray]]:
        calls.append(start)
        poisoned = len(calls) < 3
        source = rank.feed(start)
        for step, batch in enumerate(source, start):
            bad = poisoned and step >= 6
            yield {**batch, "noisy": batch["noisy"] * np.float32(np.nan)} if bad else dict(batch)

    assert run_loop(config, tmp_path, {}, replace(rank, feed=feed))
    assert calls == [0, 6, 6]
    told = notes(tmp_path)
    assert "last at step 8: back to step 6, learning rate times 0.5" in told[0]
    assert "learning rate times 0.25" in told[1]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    rates = [row["lr"] for row in lines if "loss" in row]
    assert all(np.isfinite(row["loss"]) for row in lines if "loss" in row), "a skipped step has no loss"
    assert (rates[0], rates[-1]) == (pytest.approx(config.optimizer.lr), pytest.approx(config.optimizer.lr / 4))


def test_a_run_that_cannot_be_helped_says_so_and_a_restart_is_no_use(photo_folder: Path, tmp_path: Path) -> None:
    config = config_for(photo_folder, "training.steps=50", "training.max_bad_steps=2", "training.max_rollbacks=1")
    rank = rank_for(config)
    poisoned = {"noisy": np.full((4, 3, 32, 32), np.nan, np.float32), "seeds": np.arange(4)}
    poisoned["clean"] = poisoned["noisy"]
    bad = replace(rank, feed=lambda _: iter(lambda: poisoned, None))
    with pytest.raises(HopelessError, match=r"2 steps in a row, last at step 2, after 1 rollback"):
        run_loop(config, tmp_path, {}, bad)
