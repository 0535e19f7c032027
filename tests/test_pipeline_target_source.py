"""Pairs from a teacher's targets: with new noise of the kind that was measured, and with the photograph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models import Distillation
from noise.measured import LEVELS, RADIUS, MeasuredNoise
from pipeline.data.held_out import Area
from pipeline.data.images import Image, read_image, to_float, write_image
from pipeline.data.source import SourceSpec, batch_source
from pipeline.data.target_source import TargetSource, origin_path, read_noise, read_square, write_origin
from pipeline.errors import UserError


def noise_of(sigma: float) -> MeasuredNoise:
    """White noise in three channels."""
    kernel = np.zeros((3, 3, 2 * RADIUS + 1, 2 * RADIUS + 1), np.float32)
    kernel[range(3), range(3), RADIUS, RADIUS] = 1
    return MeasuredNoise(sigma=np.full((3, LEVELS), sigma, np.float32), kernel=kernel)


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
    spec = replace(targets, distillation=Distillation(photo_share=1.0))
    batch = batch_source(spec).batch(0, range(24))
    pictures = [to_float(read_image(Path(path)).pixels).transpose(2, 0, 1) for path in targets.files]
    np.testing.assert_allclose(batch["noisy"], 1 - batch["clean"], atol=1e-6)
    assert {_found_in(clean, pictures) for clean in batch["clean"]} == {0, 1}
    assert len({clean.tobytes() for clean in batch["clean"]}) == 24


def test_half_of_the_pairs_are_with_the_photograph_and_none_where_it_is_held_out(targets: SourceSpec) -> None:
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


def test_the_loss_is_the_mean_difference_to_the_target() -> None:
    class Shift(torch.nn.Module):
        def forward(self, image: torch.Tensor, **_: object) -> torch.Tensor:
            return image + 0.25

    clean = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    seeds = torch.zeros(2, dtype=torch.int64)
    assert float(Distillation().loss(Shift(), clean, clean, seeds)) == pytest.approx(0.25)
