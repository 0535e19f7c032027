"""A run with a student: what each stage leaves, what a resumed run repeats, and what the student is trained on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from models import Distillation
from noise.measured import LEVELS, RADIUS, MeasuredNoise
from pipeline.config import load_config
from pipeline.data.held_out import Area
from pipeline.data.images import Image, read_image, to_float, write_image
from pipeline.data.source import SourceSpec, batch_source
from pipeline.data.target_source import TargetSource, origin_path, read_noise, read_square, write_origin
from pipeline.errors import UserError
from pipeline.inference.denoiser import load_denoiser
from pipeline.training.stages import _of_student
from pipeline.training.targets import Part, areas_in, plan_targets

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


def noise_of(sigma: float) -> MeasuredNoise:
    """White noise in three channels."""
    kernel = np.zeros((3, 3, 2 * RADIUS + 1, 2 * RADIUS + 1), np.float32)
    kernel[range(3), range(3), RADIUS, RADIUS] = 1
    return MeasuredNoise(sigma=np.full((3, LEVELS), sigma, np.float32), kernel=kernel)


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


@pytest.fixture
def targets(tmp_path: Path, photo: np.ndarray) -> SourceSpec:
    """Two targets of 96x128 with noise of their own."""
    files = []
    for index, sigma in enumerate((0.02, 0.1)):
        path = tmp_path / f"target_{index}.png"
        part = photo[64 * index : 64 * index + 96, :128].astype(np.uint16) * 257
        write_image(path, Image(pixels=part))
        write_origin(origin_path(path), photo_of(part), noise_of(sigma))
        files.append(str(path))
    return SourceSpec(
        files=tuple(files),
        seed=3,
        crop=32,
        channels=3,
        recipe=None,
        cache_bytes=1 << 26,
        max_pixels=1 << 24,
        distillation=Distillation(photo_share=0.0, shrink_share=0.0, scale=(1.0, 1.0), tone=0.0),
    )


def photo_of(target: np.ndarray) -> np.ndarray:
    """A photograph that is known by its colours: 8 bits, the target's inverted."""
    return (255 - target // 257).astype(np.uint8)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_photo_and_noise_survive_disk(tmp_path: Path, kind: type) -> None:
    photo = np.random.default_rng(0).integers(0, 200, (40, 50, 3)).astype(kind)
    path = origin_path(tmp_path / "a.png")
    write_origin(path, photo, noise_of(0.03))
    found = read_noise(path)
    np.testing.assert_array_equal(found.sigma, noise_of(0.03).sigma)
    np.testing.assert_array_equal(found.kernel, noise_of(0.03).kernel)
    square = read_square(path, 5, 7, 32)
    assert square.dtype == kind
    np.testing.assert_array_equal(square, photo[5:37, 7:39])


def test_a_target_without_its_photo_is_told_in_one_line(tmp_path: Path) -> None:
    import safetensors.numpy

    path = origin_path(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.origin\.safetensors: expected the photo and the noise of a target"):
        read_noise(path)
    path.write_bytes(safetensors.numpy.save({"sigma": np.zeros(3, np.float32)}))
    with pytest.raises(UserError, match="found another file"):
        read_square(path, 0, 0, 4)
    path.write_bytes(b"not safetensors")
    with pytest.raises(UserError) as caught:
        read_noise(path)
    assert "\n" not in str(caught.value)


def test_a_pair_with_the_photograph_is_the_same_square_of_both(targets: SourceSpec) -> None:
    from dataclasses import replace

    spec = replace(targets, distillation=Distillation(photo_share=1.0))
    batch = batch_source(spec).batch(0, range(24))
    pictures = [to_float(read_image(Path(path)).pixels).transpose(2, 0, 1) for path in targets.files]
    np.testing.assert_allclose(batch["noisy"], 1 - batch["clean"], atol=1e-6)
    assert {_found_in(clean, pictures) for clean in batch["clean"]} == {0, 1}
    assert len({clean.tobytes() for clean in batch["clean"]}) == 24


def test_half_of_the_pairs_are_with_the_photograph_and_none_where_it_is_held_out(targets: SourceSpec) -> None:
    from dataclasses import replace

    left = tuple(Area(path, 0, 0, 96, 64) for path in targets.files)
    spec = replace(targets, distillation=Distillation(scale=(1.0, 1.0), tone=0.0), held_out=left)
    batch = batch_source(spec).batch(0, range(64))
    photos = [index for index in range(64) if np.allclose(batch["noisy"][index], 1 - batch["clean"][index], atol=1e-6)]
    assert 18 < len(photos) < 46
    free = [to_float(read_image(Path(path)).pixels).transpose(2, 0, 1)[..., 64:] for path in targets.files]
    for index in photos:
        _found_in(batch["clean"][index], free)


def test_a_pair_is_a_crop_of_a_target_and_the_same_with_its_noise(targets: SourceSpec) -> None:
    source = batch_source(targets)
    assert isinstance(source, TargetSource)
    batch = source.batch(0, range(24))
    pictures = [to_float(read_image(Path(path)).pixels).transpose(2, 0, 1) for path in targets.files]
    seen = set()
    for noisy, clean in zip(batch["noisy"], batch["clean"], strict=True):
        which = _found_in(clean, pictures)
        # Away from black and white nothing is clipped.
        middle = (clean > 0.35) & (clean < 0.65)
        if middle.sum() > 600:
            seen.add(which)
            assert (noisy - clean)[middle].std() == pytest.approx((0.02, 0.1)[which], rel=0.2)
        np.testing.assert_allclose(noisy * 255, np.round(noisy * 255), atol=1e-3)
    assert seen == {0, 1}


def _found_in(crop: np.ndarray, pictures: list[np.ndarray]) -> int:
    """Return the picture that holds a crop, turned or mirrored."""
    from numpy.lib.stride_tricks import sliding_window_view

    for index, picture in enumerate(pictures):
        windows = sliding_window_view(picture, (32, 32), axis=(1, 2))
        for turned in (np.rot90(flipped, k, (1, 2)) for flipped in (crop, crop[:, :, ::-1]) for k in range(4)):
            first = np.abs(windows[..., 0, 0] - turned[:, None, None, 0, 0]).max(axis=0)
            for row, column in np.argwhere(first < 1e-4):
                if np.abs(windows[:, row, column] - turned).max() < 1e-4:
                    return index
    raise AssertionError("no target holds this crop")


def test_a_sample_depends_on_its_place_alone(targets: SourceSpec) -> None:
    together = batch_source(targets).batch(5, range(4))
    alone = batch_source(targets).batch(5, [2])
    np.testing.assert_array_equal(together["noisy"][2], alone["noisy"][0])
    np.testing.assert_array_equal(together["clean"][2], alone["clean"][0])
    other = batch_source(targets).batch(6, range(4))
    assert not np.array_equal(together["noisy"], other["noisy"])


def test_shrinking_takes_a_larger_square_and_the_largest_that_there_is(targets: SourceSpec) -> None:
    from dataclasses import replace

    spec = replace(
        targets, distillation=Distillation(photo_share=0.0, shrink=16.0, shrink_share=1.0, scale=(1.0, 1.0), tone=0.0)
    )
    clean = batch_source(spec).batch(0, range(32))["clean"]
    plain = batch_source(targets).batch(0, range(32))["clean"]
    assert clean.shape == plain.shape
    assert (clean >= 0).all()
    assert (clean <= 1).all()

    def detail(crops: np.ndarray) -> float:
        return float(np.abs(np.diff(crops, axis=3)).mean())

    # Photographs hold more detail per pixel when they are shrunk.
    assert detail(clean) > 1.2 * detail(plain)


def test_small_photographs_become_one_target_and_large_ones_spread_patches(tmp_path: Path) -> None:
    files = [(Path("a.jpg"), 480, 500), (Path("b.jpg"), 3000, 4000)]
    parts = plan_targets(files, tmp_path, megapixels=4.0, least=120)
    small, *large = parts
    assert small == Part(Path("a.jpg"), tmp_path / "0_a.png", 0, 0, 480, 500)
    assert sum(part.height * part.width for part in large) == pytest.approx(2e6, rel=0.3)
    assert len({part.target for part in parts}) == len(parts)
    for part in large:
        assert (part.height, part.width) == (512, 512)
        assert 0 <= part.top <= 3000 - 512
        assert 0 <= part.left <= 4000 - 512
    assert min(part.top for part in large) < 1000 < 2000 < max(part.top + part.height for part in large)
    assert min(part.left for part in large) < 1300 < 2700 < max(part.left + part.width for part in large)


def test_parts_that_are_held_out_become_no_targets_and_areas_move_with_their_part(tmp_path: Path) -> None:
    photo, corner = Path("a.jpg"), Area("a.jpg", 0, 0, 1000, 1400)
    everything = plan_targets([(photo, 3000, 4000)], tmp_path, megapixels=8.0, least=120)
    parts = plan_targets([(photo, 3000, 4000)], tmp_path, megapixels=8.0, least=120, held_out=[corner])
    lost = set(everything) - set(parts)
    assert lost
    # What stays has room for a crop: more than 1000 - 120 down, or as much to the right.
    assert all(part.top + 512 <= 1000 + 120 and part.left + 512 <= 1400 + 120 for part in lost)
    part = Part(photo, tmp_path / "t.png", 900, 1200, 512, 512)
    assert areas_in(part, [corner, Area("b.jpg", 0, 0, 9, 9)]) == [Area(str(part.target), -900, -1200, 1000, 1400)]


@pytest.mark.parametrize("shape", [(600, 5000), (5000, 600), (513, 513), (400, 9000)])
def test_patches_of_odd_shapes_lie_inside_and_do_not_overlap(shape: tuple[int, int], tmp_path: Path) -> None:
    parts = plan_targets([(Path("a.jpg"), *shape)], tmp_path, megapixels=1.0, least=120)
    taken = np.zeros(shape, int)
    for part in parts:
        assert part.top >= 0
        assert part.left >= 0
        assert part.top + part.height <= shape[0]
        assert part.left + part.width <= shape[1]
        taken[part.top : part.top + part.height, part.left : part.left + part.width] += 1
    assert taken.max() == 1


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


def test_the_loss_is_the_mean_difference_to_the_target() -> None:
    class Shift(torch.nn.Module):
        def forward(self, image: torch.Tensor, **_: object) -> torch.Tensor:
            return image + 0.25

    clean = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    seeds = torch.zeros(2, dtype=torch.int64)
    assert float(Distillation().loss(Shift(), clean, clean, seeds)) == pytest.approx(0.25)


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
