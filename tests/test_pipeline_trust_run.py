"""A run on noisy photos alone: what it holds out, which weights it keeps, when it stops, and what it says about it."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from models import fold, load
from pipeline.config import load_config
from pipeline.data.held_out import MEASURE_BATCH, Area, HeldOut, divide
from pipeline.data.source import BatchSource
from pipeline.schema import TrainConfig
from pipeline.training.checkpoint import list_checkpoints, load_latest, save_checkpoint
from pipeline.training.follow import metrics_of
from pipeline.training.history import Log, Tail, read_history
from pipeline.training.intake import read_source
from pipeline.training.loop import new_state, run_loop, step_settings
from pipeline.training.rank import local_rank
from pipeline.training.step import train_step
from pipeline.training.trust import Watch

SMALL = [
    "data.crop=32",
    "network.width=8",
    "network.depth=1",
    "training.batch=4",
    "training.minutes=0",
    "training.steps=12",
    "training.log_every=4",
    "trust.every=4",
    "inference.draws=2",
    "cluster.workers=0",
]
DIVERGING = ("optimizer.lr=0.3", 'optimizer.schedule="constant"', "optimizer.warmup_steps=0", "optimizer.ema_decay=0")


def config_for(folder: Path, *overrides: str) -> TrainConfig:
    return load_config(preset="quick", overrides=[*SMALL, *overrides], data=str(folder))


def run(config: TrainConfig, out: Path) -> dict[str, Any]:
    """Train in this process and return the card."""
    out.mkdir(exist_ok=True)
    spec = read_source(config, lambda *_: None)[0]
    run_loop(config, out, {}, local_rank(spec, config.training.batch))
    return dict(load(out / "weights").card)


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def events(out: Path, kind: str = "trust") -> list[dict[str, Any]]:
    return [row for row in Tail(out).new_rows() if row.get("event") == kind]


def split(count: int, size: int, crop: int = 32, seed: int = 0) -> HeldOut:
    files = [f"{index}.png" for index in range(count)]
    return divide(files, [(size, size)] * count, crop=crop, share=0.05, count=8, seed=seed)


def test_whole_images_are_held_out_where_that_is_a_twentieth_and_corners_elsewhere() -> None:
    many = split(40, 96)
    assert len(many.images) == 2
    assert not set(many.images) & set(many.training)
    assert len(many.training) == 38
    assert {crop.file for crop in many.crops} == set(many.images)
    assert many.describe() == "2 of 40 images, measured on 8 crops"
    few = split(3, 96)
    assert len(few.training) == len(few.corners) == 3
    assert few.describe() == "a corner of 3 of 3 images, measured on 3 crops"
    assert all(corner.top in (0, 64) and corner.left in (0, 64) for corner in few.corners)
    one_of_few = split(4, 40)
    assert (len(one_of_few.images), len(one_of_few.training)) == (1, 3)
    nothing = split(2, 40)
    assert (nothing.images, nothing.corners, len(nothing.crops)) == ((), (), 2)
    assert nothing.describe().startswith("nothing (no image has room for two crops)")
    assert split(40, 96) == many
    assert split(40, 96, seed=1) != many
    assert len({(crop.file, crop.top, crop.left) for crop in split(1, 400).crops}) == 4


def test_no_training_crop_touches_what_is_held_out(tmp_path: Path) -> None:
    """Held-out areas are white, all else is black: what is trained on stays black."""
    for name in ("a", "b"):
        iio.imwrite(tmp_path / f"{name}.png", np.zeros((80, 96, 3), np.uint8))
    config = config_for(tmp_path)
    spec = read_source(config, lambda *_: None)[0]
    assert len(spec.held_out) == 2
    for area in spec.held_out:
        pixels = np.zeros((80, 96, 3), np.uint8)
        pixels[area.top : area.top + area.height, area.left : area.left + area.width] = 255
        iio.imwrite(area.file, pixels)
    source = BatchSource(spec)
    assert max(source.batch(index, range(4))["noisy"].max() for index in range(60)) == 0
    measured = source.batch(MEASURE_BATCH, range(99))
    assert measured["noisy"].min() == 1
    assert measured["images"].tolist() == [
        sorted({area.file for area in spec.measured}).index(a.file) for a in spec.measured
    ]
    seeds = [fold(spec.seed, MEASURE_BATCH, position) for position in range(len(spec.measured))]
    assert measured["seeds"].tolist() == seeds
    open_to_all = BatchSource(replace(spec, held_out=()))
    assert max(open_to_all.batch(index, range(4))["noisy"].max() for index in range(60)) == 1


def test_a_held_out_image_that_cannot_be_decoded_is_left_out(photo_folder: Path) -> None:
    spec = read_source(config_for(photo_folder), lambda *_: None)[0]
    bad = Path(spec.measured[0].file)
    bad.write_bytes(bad.read_bytes()[:400])
    source = BatchSource(spec)
    assert len(source.batch(MEASURE_BATCH, range(8))["noisy"]) == 2
    assert list(source.quarantined) == [str(bad)]


def test_areas_touch_squares_that_share_a_pixel() -> None:
    area = Area("x", 10, 20, 5, 5)
    assert area.touches(0, 10, 11)
    assert not area.touches(0, 10, 10)
    assert area.touches(14, 24, 3)
    assert not area.touches(15, 20, 3)
    assert not area.touches(10, 25, 3)


def test_a_run_measures_keeps_the_best_and_leaves_its_gate(photo_folder: Path, tmp_path: Path) -> None:
    card = run(config_for(photo_folder), tmp_path / "run")
    rows = [row for row in events(tmp_path / "run") if "trust_loss" in row]
    assert [row["step"] for row in rows] == [4, 8, 12]
    assert rows[-1]["text"].startswith(f"step 12: held-out loss {rows[-1]['trust_loss']:.4f}, noise left ")
    assert all({"trust_loss", "trust_loss_raw", "trust_noise_left", "trust_bias_3"} <= row.keys() for row in rows)
    assert [row["step"] for row in read_history(tmp_path / "run")] == [4, 8, 12]
    assert set(card["gate"]) == {"passed", "why", "measures"}
    kept = next(row for row in rows if row["step"] == card["weights_of_step"])
    assert card["gate"]["measures"]["losses"]["loss"] == pytest.approx(kept["trust_loss"], rel=1e-4)
    best = min(rows, key=lambda row: row["trust_loss"])
    assert load(tmp_path / "run" / "best").card["training"]["steps"] == best["step"]
    metrics = metrics_of(rows[0])
    assert "event" not in metrics
    assert metrics["trust_loss"] == rows[0]["trust_loss"]


def test_a_run_that_gets_worse_leaves_its_best_weights_unless_told_otherwise(
    photo_folder: Path, tmp_path: Path
) -> None:
    card = run(config_for(photo_folder, *DIVERGING), tmp_path / "best")
    rows = events(tmp_path / "best")
    measured = [row for row in rows if "trust_loss" in row]
    best = min(measured, key=lambda row: row["trust_loss"])
    assert best["step"] < 12
    assert card["weights_of_step"] == best["step"]
    assert rows[-1]["text"] == f"step {best['step']} had the best held-out loss; its weights are kept"
    assert digest(tmp_path / "best" / "weights") == digest(tmp_path / "best" / "best")
    assert card["gate"]["measures"]["losses"]["loss"] == pytest.approx(best["trust_loss"], rel=1e-4)
    card = run(config_for(photo_folder, *DIVERGING, "trust.keep=last"), tmp_path / "last")
    assert card["weights_of_step"] == 12
    assert digest(tmp_path / "last" / "weights") != digest(tmp_path / "best" / "weights")


def interrupted(config: TrainConfig, out: Path, stop: int) -> None:
    """Train to a step as `run_loop` does and leave a checkpoint, as if killed there."""
    spec = read_source(config, lambda *_: None)[0]
    rank = local_rank(spec, config.training.batch)
    state, watch = new_state(config), Watch(config, out, {}, rank, Log(out))
    for step in range(stop):
        arrays = BatchSource(spec).batch(step, range(config.training.batch))
        batch = {name: torch.from_numpy(value) for name, value in arrays.items()}
        train_step(state, batch, config.method, step_settings(config), step / config.training.steps)
        if watch.due(state.step):
            watch.look(state)
    save_checkpoint(out / "checkpoints", state, keep=2, watch=watch)


@pytest.mark.parametrize("stop", [3, 8, 11])
def test_a_resumed_run_chooses_the_same_weights(stop: int, photo_folder: Path, tmp_path: Path) -> None:
    config = config_for(photo_folder, *DIVERGING)
    whole = run(config, tmp_path / "whole")
    assert whole["weights_of_step"] < 12
    (tmp_path / "broken").mkdir()
    interrupted(config, tmp_path / "broken", stop)
    # What lies in the folder for people must not matter: after a crash it may be newer than the checkpoint.
    for path in (tmp_path / "broken").glob("best/*"):
        path.unlink()
    assert run(config, tmp_path / "broken") == {
        **whole,
        "training": {**whole["training"], "seconds": pytest.approx(0, abs=99)},
    }
    assert digest(tmp_path / "broken" / "weights") == digest(tmp_path / "whole" / "weights")


def test_a_checkpoint_brings_back_the_watch(photo_folder: Path, tmp_path: Path) -> None:
    config = config_for(photo_folder)
    interrupted(config, tmp_path, 8)
    assert len(list_checkpoints(tmp_path / "checkpoints")) == 1
    spec = read_source(config, lambda *_: None)[0]
    state, watch = new_state(config), Watch(config, tmp_path, {}, local_rank(spec, 4), Log(tmp_path))
    load_latest(tmp_path / "checkpoints", state, watch)
    assert watch.best is not None
    assert watch.best.step in (4, 8)
    assert len(watch.best.losses) == len(spec.measured)
    before = len(events(tmp_path))
    watch.look(state)
    assert len(events(tmp_path)) == before, "step 8 was measured already"


def test_patience_ends_a_run_that_gets_no_better(photo_folder: Path, tmp_path: Path) -> None:
    config = config_for(photo_folder, *DIVERGING, "trust.patience=1", "training.steps=40")
    card = run(config, tmp_path / "run")
    measured = [row for row in events(tmp_path / "run") if "trust_loss" in row]
    losses = [row["trust_loss"] for row in measured]
    assert losses[-1] > min(losses[:-1])
    assert all(later < earlier for earlier, later in itertools.pairwise(losses[:-1]))
    assert card["training"]["steps"] == measured[-1]["step"] < 40
    assert run(config, tmp_path / "run")["training"]["steps"] == card["training"]["steps"], "resumed, it goes on"


@pytest.mark.parametrize("preset", ["quick", "camera"])
def test_without_trust_or_with_clean_images_nothing_is_held_out(
    preset: str, photo_folder: Path, tmp_path: Path
) -> None:
    off = {"quick": "trust.every=0", "camera": "trust.every=4"}[preset]
    settings = [item for item in SMALL if not item.startswith(("trust.", "inference."))]
    config = load_config(preset=preset, overrides=[*settings, off], data=str(photo_folder))
    spec = read_source(config, lambda *_: None)[0]
    assert (spec.held_out, spec.measured, len(spec.files)) == ((), (), 3)
    card = run(config, tmp_path / "run")
    assert "gate" not in card
    assert not (tmp_path / "run" / "best").exists()


def test_the_commands_show_the_gate(photo_folder: Path, tmp_path: Path, unveil: Callable[..., Any]) -> None:
    out = tmp_path / "run"
    settings = [item for item in SMALL if not item.startswith("trust.")]
    code, result, said = unveil("train", "--preset", "quick", "--data", photo_folder, "--out", out, "--json", *settings)
    assert code == 0
    assert result["gate"]["passed"] is False
    assert "step 12: held-out loss" in said
    assert "held out: a corner of 3 of 3 images, measured on 3 crops" in said
    code, _, shown = unveil("models", "show", out, "--no-measure")
    assert code == 0
    why = result["gate"]["why"]
    # The table wraps, so the first words have to do.
    assert "gate" in shown
    assert f"failed: {why[:20]}" in shown
    assert "gate.measures" not in shown
    code, _, _ = unveil("report", out, "--data", photo_folder)
    assert code == 0
    html = (out / "report.html").read_text()
    assert 'Measured without clean images: <span class="c-failed">failed</span>' in html
    assert json.loads((out / "weights" / "model.json").read_text())["card"]["gate"]["why"] == why
