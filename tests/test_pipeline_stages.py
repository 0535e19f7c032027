"""A run with a student: what each stage leaves, what a resumed run repeats, and what is refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from pipeline.config import load_config
from pipeline.data.source import SourceSpec
from pipeline.errors import UserError
from pipeline.inference.denoiser import load_denoiser
from pipeline.schema import TrainConfig
from pipeline.training.stages import _of_student

SMALL = [
    "data.crop=32",
    "network.width=8",
    "network.depth=1",
    "training.batch=2",
    "training.steps=4",
    "inference.draws=1",
    "student.network.width=8",
    "student.network.depth=1",
    "student.steps=4",
    "trust.crops=4",
    "cluster.workers=0",
]


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def card(folder: Path) -> dict[str, object]:
    loaded: dict[str, object] = json.loads((folder / "weights" / "model.json").read_text("utf-8"))
    return loaded


def test_a_crop_too_small_to_measure_noise_in_is_refused_at_the_start(photo_folder: Path) -> None:
    with pytest.raises(UserError, match=r"data\.crop: expected 32 or more with a student, .* found 24"):
        load_config(preset="photos", overrides=["data.crop=24"], data=str(photo_folder))


def test_a_folder_in_use_is_refused_before_the_noise_is_measured(photo_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    heard: list[str] = []
    with pytest.raises(UserError, match="is not empty; choose another folder"):
        train_photos(photo_folder, out, listen=lambda kind, _: heard.append(kind))
    assert "progress" not in heard


def train_photos(folder: Path, out: Path, *, resume: bool = False, listen: object = None) -> None:
    from pipeline.training.launch import train

    config = load_config(preset="photos", overrides=SMALL, data=str(folder))
    train(config, out, resume=resume, **({"listen": listen} if listen else {}))  # type: ignore[arg-type]


def test_a_run_leaves_teacher_targets_and_a_student_that_knows_its_teacher(photo_folder: Path, tmp_path: Path) -> None:
    heard: list[tuple[str, dict[str, object]]] = []
    train_photos(photo_folder, tmp_path / "run", listen=lambda what, value: heard.append((what, value)))
    run = tmp_path / "run"
    teacher, student = card(run / "teacher"), card(run)
    assert teacher["inference"]["mode"] == "multi_mask"  # type: ignore[index]
    assert student["inference"]["mode"] == "direct"  # type: ignore[index]
    about = student["card"]
    assert isinstance(about, dict)
    assert about["teacher"]["sha256"] == teacher["sha256"]
    assert about["teacher"]["targets"] == len(list((run / "targets").glob("*.png"))) == 3
    assert about["clean_images_read"] is False
    assert set(about["gate"]) == {"passed", "why", "measures"}
    # The student is judged by what it does itself: it sees the pixel that it predicts, its teacher does not.
    assert about["gate"]["measures"]["blind"] is False
    assert teacher["card"]["gate"]["measures"]["blind"] is True  # type: ignore[index]
    stages = {str(value["stage"]) for what, value in heard if what == "row"}
    assert stages == {"teacher", "student"}
    done = [(value["task"], value["done"]) for what, value in heard if what == "progress"]
    assert done == [(task, count) for task in ("measuring noise", "targets") for count in (1, 2, 3)]
    assert about["config"]["adapt"] == []
    assert set(about["config"]["adapted"]) == set(load_config(preset="photos").adapt) - {"inference.draws"}
    photo = iio.imread(sorted(photo_folder.iterdir())[0]).astype(np.float32) / 255
    assert load_denoiser(str(run))(photo).shape == photo.shape


def test_a_student_is_kept_from_the_corners_that_its_teacher_was_kept_from(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.training import fit

    sources: list[SourceSpec] = []
    fit_here = fit._fit_here

    def listening(
        config: TrainConfig, run_dir: Path, source: SourceSpec, about: dict[str, object], *, root: Path
    ) -> bool:
        sources.append(source)
        return fit_here(config, run_dir, source, about, root=root)

    monkeypatch.setattr(fit, "_fit_here", listening)
    train_photos(photo_folder, tmp_path / "run")
    teacher, student = sources
    assert len(teacher.held_out) == len(student.held_out) == 3
    assert {area.file for area in student.held_out} == set(student.files)
    # The photos are their own targets here, so the corners are the same.
    assert [replace(area, file="") for area in student.held_out] == [
        replace(area, file="") for area in sorted(teacher.held_out, key=lambda area: area.file)
    ]


def test_a_resumed_run_repeats_no_finished_stage_and_ends_with_the_same_weights(
    photo_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train_photos(photo_folder, run)
    final = sha(run / "weights" / "model.safetensors")
    teacher = (run / "teacher" / "weights" / "model.safetensors").stat().st_mtime_ns
    kept, lost = sorted((run / "targets").glob("*.png"))[:2]
    made = kept.stat().st_mtime_ns
    wanted = sha(lost)
    lost.unlink()
    for path in (run / "weights").iterdir():
        path.unlink()
    for step in (run / "checkpoints").iterdir():
        for path in step.iterdir():
            path.unlink()
        step.rmdir()
    train_photos(photo_folder, run, resume=True)
    assert sha(run / "weights" / "model.safetensors") == final
    assert (run / "teacher" / "weights" / "model.safetensors").stat().st_mtime_ns == teacher
    assert kept.stat().st_mtime_ns == made
    assert sha(lost) == wanted


@pytest.mark.parametrize(("line", "starts"), [("seed=0", True), ("student.network.width=16", False)])
def test_a_student_of_its_teachers_shape_goes_on_from_its_weights(tmp_path: Path, line: str, starts: bool) -> None:
    config = _of_student(load_config(preset="photos", overrides=[line], data="photos"), tmp_path)
    assert config.training.start == (str(tmp_path / "teacher" / "weights") if starts else "")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["student.network.channels=1"], "student.network.channels: expected network.channels (3), found 1"),
        (["student.method.shrink=0.5"], "student.method.shrink: must be 1 to 16, got 0.5"),
        (["student.method.scale=[0, 1]"], "student.method.scale: must be a range inside (0, 10]"),
        (["student.steps=0"], "student.steps"),
    ],
)
def test_a_student_that_cannot_be_is_refused_in_one_line(overrides: list[str], line: str) -> None:
    with pytest.raises(UserError) as error:
        load_config(preset="photos", overrides=overrides)
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


def test_a_run_starts_from_the_weights_that_it_names(photo_folder: Path, tmp_path: Path) -> None:
    from pipeline.training.launch import train
    from pipeline.training.loop import new_state

    small = [line for line in SMALL if not line.startswith("student.")]
    first = load_config(preset="quick", overrides=small, data=str(photo_folder))
    train(first, tmp_path / "first")
    second = load_config(
        preset="quick", overrides=[*small, f"training.start={tmp_path / 'first'}", "seed=5"], data=str(photo_folder)
    )
    started = new_state(second).network.state_dict()
    trained = load_denoiser(str(tmp_path / "first"))._loaded.network.state_dict()
    assert all(torch.equal(started[name], trained[name]) for name in trained)
    other = load_config(
        preset="quick",
        overrides=[*small, f"training.start={tmp_path / 'first'}", "network.width=4"],
        data=str(photo_folder),
    )
    with pytest.raises(UserError, match=r"^training.start: expected weights of the network of this run"):
        train(other, tmp_path / "second")
    assert not (tmp_path / "second").exists()
