"""Training: a pure function of (configuration, data), however often it is killed; Ray and MLflow are not needed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config import load_config
from pipeline.data.source import BatchSource, SourceSpec
from pipeline.errors import RunError
from pipeline.schema import TrainConfig
from pipeline.training.checkpoint import list_checkpoints, load_latest, save_checkpoint
from pipeline.training.history import read_history
from pipeline.training.intake import read_source
from pipeline.training.loop import new_state, run_loop, step_settings
from pipeline.training.rank import local_rank
from pipeline.training.schedule import ema_decay, learning_rate
from pipeline.training.step import train_step

SMALL = [
    "data.crop=32",
    "network.width=8",
    "network.depth=1",
    "training.batch=4",
    "training.minutes=0",
    "cluster.workers=0",
    "training.log_every=5",
]


def config_for(folder: Path, *overrides: str, preset: str = "quick") -> TrainConfig:
    return load_config(preset=preset, overrides=[*SMALL, *overrides], data=str(folder))


def spec_for(config: TrainConfig) -> SourceSpec:
    return read_source(config, lambda *_: None)[0]


def run(config: TrainConfig, run_dir: Path) -> str:
    """Train in this process and return the hash of the weights file."""
    run_dir.mkdir(exist_ok=True)
    run_loop(config, run_dir, {}, local_rank(spec_for(config), config.training.batch))
    return hashlib.sha256((run_dir / "weights" / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("preset", ["quick", "camera"])
def test_two_runs_give_the_same_bytes_and_another_seed_others(preset: str, photo_folder: Path, tmp_path: Path) -> None:
    config = config_for(photo_folder, "training.steps=12", preset=preset)
    first, second = run(config, tmp_path / "a"), run(config, tmp_path / "b")
    assert first == second
    assert run(config_for(photo_folder, "training.steps=12", "seed=1", preset=preset), tmp_path / "c") != first


def test_the_masked_transformer_trains_and_repeats_bit_for_bit(photo_folder: Path, tmp_path: Path) -> None:
    config = config_for(
        photo_folder,
        "network.kind=masked_swin",
        "network.dim=12",
        "network.depths=[2]",
        "network.heads=[2]",
        "network.window=4",
        "noise.kind=gaussian",
        "noise.sigma=[15.0, 15.0]",
        "method.kind=masked",
        "inference.mode=direct",
        "inference.draws=1",
        "training.steps=6",
    )
    assert run(config, tmp_path / "a") == run(config, tmp_path / "b")


def test_initial_weights_follow_the_seed(photo_folder: Path) -> None:
    def first(seed: int) -> torch.Tensor:
        return next(new_state(config_for(photo_folder, f"seed={seed}")).network.parameters())

    assert torch.equal(first(3), first(3))
    assert not torch.equal(first(3), first(4))


def test_paths_sent_to_other_processes_are_absolute(photo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's workers run in other folders."""
    monkeypatch.chdir(photo_folder.parent)
    config = load_config(preset="quick", overrides=["data.crop=32", f"data.path={photo_folder.name}"])
    assert all(Path(file).is_absolute() for file in read_source(config, lambda *_: None)[0].files)


@pytest.mark.parametrize("stop", [1, 7, 11])
def test_a_run_resumed_from_any_step_ends_with_the_same_bytes(stop: int, photo_folder: Path, tmp_path: Path) -> None:
    config = config_for(photo_folder, "training.steps=12")
    whole = run(config, tmp_path / "whole")
    state = new_state(config)
    source, method = BatchSource(spec_for(config)), config.method
    for step in range(stop):
        batch = {k: torch.from_numpy(v) for k, v in source.batch(step, range(4)).items()}
        train_step(state, batch, method, step_settings(config), step / 12)
    (tmp_path / "broken").mkdir()
    save_checkpoint(tmp_path / "broken" / "checkpoints", state, keep=2)
    assert run(config, tmp_path / "broken") == whole


def test_training_lowers_the_loss(photo_folder: Path, tmp_path: Path) -> None:
    config = config_for(photo_folder, "training.steps=60", "optimizer.warmup_steps=5", preset="camera")
    run(config, tmp_path / "run")
    losses = [row["loss"] for row in read_history(tmp_path / "run")]
    assert len(losses) == 12
    assert np.mean(losses[-3:]) < 0.95 * np.mean(losses[:3])


def test_a_step_in_bfloat16_is_close_to_one_in_float32_and_leaves_float32_weights(photo_folder: Path) -> None:
    losses = {}
    for precision in ("float32", "bfloat16"):
        config = config_for(photo_folder, "network.residual=false", f"optimizer.precision='{precision}'")
        state = new_state(config)
        arrays = BatchSource(spec_for(config)).batch(0, range(4))
        batch = {name: torch.from_numpy(arrays[name]) for name in ("noisy", "seeds")}
        losses[precision] = train_step(state, batch, config.method, step_settings(config), 0.0).loss
        assert {value.dtype for value in state.network.parameters()} == {torch.float32}
    assert losses["float32"] != losses["bfloat16"]
    assert math.isclose(losses["float32"], losses["bfloat16"], rel_tol=0.02)


def test_a_run_that_the_clock_ends_logs_its_last_step(photo_folder: Path, tmp_path: Path) -> None:
    config = config_for(photo_folder, "training.steps=100000", "training.minutes=0.02", "training.log_every=1000")
    run(config, tmp_path / "run")
    card = json.loads((tmp_path / "run" / "weights" / "model.json").read_text())["card"]
    assert 0 < card["training"]["steps"] < 100000
    assert [row["step"] for row in read_history(tmp_path / "run")][-1] == card["training"]["steps"]


def test_a_step_with_non_finite_gradients_is_skipped_and_counted(photo_folder: Path) -> None:
    config = config_for(photo_folder)
    state = new_state(config)
    before = {k: v.clone() for k, v in state.network.state_dict().items()}
    batch = {"noisy": torch.full((2, 3, 32, 32), math.nan), "seeds": torch.tensor([1, 2])}
    result = train_step(state, batch, config.method, step_settings(config), 0.0)
    assert result.skipped
    assert (state.step, state.bad_steps) == (1, 1)
    assert all(torch.equal(before[k], v) for k, v in state.network.state_dict().items())


def test_a_run_that_only_diverges_stops_with_a_reason(photo_folder: Path, tmp_path: Path) -> None:
    config = config_for(photo_folder, "training.steps=50", "training.max_bad_steps=3")
    rank = local_rank(spec_for(config), 4)
    poisoned = {"noisy": np.full((4, 3, 32, 32), np.nan, np.float32), "seeds": np.arange(4)}
    bad = type(rank)(**{**rank.__dict__, "feed": lambda _: iter(lambda: poisoned, None)})
    with pytest.raises(
        RunError, match=r"not finite for 3 steps in a row, last at step 3, after 2 rollback\(s\); lower optimizer\.lr"
    ):
        run_loop(config, tmp_path, {}, bad)


def test_checkpoints_round_trip_every_tensor_and_keep_the_latest(photo_folder: Path, tmp_path: Path) -> None:
    config = config_for(photo_folder)
    state = new_state(config)
    source = BatchSource(spec_for(config))
    for step in range(4):
        batch = {k: torch.from_numpy(v) for k, v in source.batch(step, range(4)).items()}
        train_step(state, batch, config.method, step_settings(config), 0.1)
        save_checkpoint(tmp_path, state, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_000000003", "step_000000004"]
    other = new_state(config)
    assert load_latest(tmp_path, other)
    assert other.step == 4
    for mine, theirs in ((state.network, other.network), (state.average, other.average)):
        assert all(
            torch.equal(a, b) for a, b in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True)
        )
    mine, theirs = state.optimizer.state_dict()["state"], other.optimizer.state_dict()["state"]
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[i][k], theirs[i][k]) for i in mine for k in mine[i])


def test_a_damaged_checkpoint_is_one_line_with_the_way_out(photo_folder: Path, tmp_path: Path) -> None:
    state = new_state(config_for(photo_folder))
    path = save_checkpoint(tmp_path, state, keep=2) / "state.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RunError, match="delete it to go back to the one before"):
        load_latest(tmp_path, state)


def test_the_schedule_warms_up_and_ends_where_it_should() -> None:
    def rate(progress: float, step: int, schedule: str) -> float:
        return learning_rate(1.0, progress, step, schedule=schedule, warmup_steps=4)

    assert [rate(0, step, "constant") for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
    assert rate(0.5, 100, "cosine") == pytest.approx(0.5)
    assert rate(1.0, 100, "cosine") == pytest.approx(0.0)
    assert [rate(p, 100, "halve") for p in (0.49, 0.5, 0.74, 0.75, 1)] == [1, 0.5, 0.5, 0.25, 0.25]
    assert ema_decay(0.999, 0) == 0.1
    assert ema_decay(0.999, 10**6) == 0.999


def test_batches_depend_on_seed_and_index_only(photo_folder: Path) -> None:
    config = config_for(photo_folder, preset="camera")
    one, other = BatchSource(spec_for(config)), BatchSource(spec_for(config))
    whole = one.batch(5, range(4))
    one.batch(0, range(2))
    parts = [other.batch(5, range(2, 4)), other.batch(5, range(2))]
    for name in ("noisy", "clean", "seeds"):
        assert np.array_equal(whole[name], np.concatenate([parts[1][name], parts[0][name]]))
    assert not np.array_equal(whole["noisy"], one.batch(6, range(4))["noisy"])


def test_an_undecodable_image_is_quarantined_and_another_takes_its_place(photo_folder: Path) -> None:
    good = sorted(photo_folder.iterdir())
    bad = photo_folder / "photo_9.png"
    bad.write_bytes(good[0].read_bytes()[:400])
    source = BatchSource(spec_for(config_for(photo_folder)))
    for index in range(5):
        assert source.batch(index, range(4))["noisy"].shape == (4, 3, 32, 32)
    assert list(source.quarantined) == [str(bad)]
    for path in good:
        path.unlink()
        path.write_bytes(b"")
    with pytest.raises(RunError, match="none of its 4 images could be decoded"):
        BatchSource(source.spec).batch(0, range(1))


def test_a_run_killed_at_any_moment_resumes_to_the_same_weights(photo_folder: Path, tmp_path: Path) -> None:
    """kill -9 twice in a whole `unveil train`, MLflow and all; only the network part of the run matters here."""
    steps = "training.steps=150"
    config = config_for(photo_folder, steps)
    whole = run(config, tmp_path / "whole")
    toml = tmp_path / "run.toml"
    from pipeline.config import dump

    tree = dump(config)
    toml.write_text(_toml({**tree, "training": {**tree["training"], "checkpoint_seconds": 0.05}}))
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "train",
        "--config",
        str(toml),
        "--out",
        str(tmp_path / "run"),
        "--json",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "UNVEIL_HOME": str(tmp_path / "home")}
    root = Path(__file__).resolve().parent.parent
    for attempt, least in enumerate((20, 70)):
        extra = ["--resume"] if attempt else []
        process = subprocess.Popen([*command, *extra], cwd=root, env=environment, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            saved = list_checkpoints(tmp_path / "run" / "checkpoints")
            if saved and int(saved[-1].name.removeprefix("step_")) >= least:
                break
            time.sleep(0.01)
        assert process.poll() is None, "it ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(
        [*command, "--resume"], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 150
    weights = tmp_path / "run" / "weights" / "model.safetensors"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == whole


def _toml(tree: dict, prefix: str = "") -> str:
    """Write the few TOML shapes that a dumped configuration has."""
    plain = [f"{k} = {json.dumps(v)}" for k, v in tree.items() if not isinstance(v, dict) and v is not None]
    tables = [f"[{prefix}{k}]\n" + _toml(v, f"{prefix}{k}.") for k, v in tree.items() if isinstance(v, dict)]
    return "\n".join([*plain, *tables]) + "\n"
