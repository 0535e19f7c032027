"""Crops that are shrunk and enlarged before their noise: from another square of the picture; nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from skimage.transform import rescale

from noise import Gaussian
from pipeline.config import load_config
from pipeline.data.rescale import Rescale, resized
from pipeline.data.source import BatchSource, SourceSpec
from pipeline.errors import RunError, UserError
from pipeline.training.intake import read_source


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> SourceSpec:
    import imageio.v3 as iio
    from skimage import data

    path = tmp_path_factory.mktemp("enlarge") / "a.png"
    iio.imwrite(path, data.astronaut()[:200, :220])
    return SourceSpec(
        files=(str(path),),
        seed=5,
        crop=48,
        channels=3,
        recipe=Gaussian(sigma=(0.0, 0.0)),
        cache_bytes=1 << 24,
        max_pixels=1 << 24,
    )


def fineness(images: np.ndarray) -> float:
    """Energy of differences of neighbours against that of pixels four apart."""
    near, far = (float(np.square(images[..., step:] - images[..., :-step]).mean()) for step in (1, 4))
    return near / far


def test_enlarging_agrees_with_another_library_inside() -> None:
    square = np.random.default_rng(0).random((24, 24, 3), dtype=np.float32)
    ours = resized(square, 48)
    theirs = rescale(square, 2, order=3, channel_axis=-1, mode="edge")
    smooth = rescale(np.full((24, 24, 1), 0.25), 2, order=3, channel_axis=-1, mode="edge")
    assert ours.shape == (48, 48, 3)
    assert ours.dtype == np.float32
    # Catmull-Rom here, cubic splines there.
    assert np.corrcoef(ours[8:-8, 8:-8].ravel(), theirs[8:-8, 8:-8].ravel())[0, 1] > 0.98
    assert np.allclose(resized(np.full((24, 24, 1), 0.25, np.float32), 48), smooth)


def test_crops_are_softer_by_the_factor(spec: SourceSpec) -> None:
    plain, twice, fourfold = (
        fineness(BatchSource(replace(spec, rescale=Rescale(enlarge=(factor, factor)))).batch(0, range(16))["clean"])
        for factor in (1.0, 2.0, 4.0)
    )
    assert twice < 0.8 * plain
    assert fourfold < 0.8 * twice


def test_factor_one_is_the_picture_itself_and_factors_are_drawn(spec: SourceSpec) -> None:
    import imageio.v3 as iio

    picture = iio.imread(spec.files[0])
    one = BatchSource(replace(spec, rescale=Rescale(enlarge=(1.0, 1.0)))).batch(0, range(4))["clean"]
    pixels = {tuple(pixel) for pixel in picture.reshape(-1, 3)}
    assert all(tuple(pixel) in pixels for pixel in np.rint(one.transpose(0, 2, 3, 1).reshape(-1, 3) * 255).astype(int))
    many = BatchSource(replace(spec, rescale=Rescale(enlarge=(1.0, 4.0)))).batch(0, range(8))["clean"]
    assert len({round(fineness(image), 4) for image in many}) == 8


def test_a_share_of_crops_is_taken_as_they_are(spec: SourceSpec) -> None:
    import imageio.v3 as iio

    pixels = {tuple(pixel) for pixel in iio.imread(spec.files[0]).reshape(-1, 3)}
    some = replace(spec, rescale=Rescale(shrink=1.5, enlarge=(1.2, 2.0), share=0.75))
    crops = np.rint(255 * BatchSource(some).batch(0, range(64))["clean"]).astype(int)
    untouched = [all(tuple(pixel) in pixels for pixel in crop.reshape(3, -1).T) for crop in crops]
    assert 8 <= sum(untouched) <= 24


def test_shrinking_takes_off_the_grain_of_the_picture_and_its_noise_is_added_after(
    spec: SourceSpec, tmp_path: Path
) -> None:
    import imageio.v3 as iio

    grain = np.random.default_rng(0).normal(0.5, 0.05, (200, 200, 3))
    iio.imwrite(tmp_path / "grain.png", np.rint(255 * grain).astype(np.uint8))
    spec = replace(spec, files=(str(tmp_path / "grain.png"),), recipe=Gaussian(sigma=(25.0, 25.0)))
    plain, shrunk = (
        BatchSource(replace(spec, rescale=Rescale(shrink=factor))).batch(0, range(4)) for factor in (1.0, 2.0)
    )
    assert plain["clean"].std() == pytest.approx(0.05, rel=0.05)
    assert shrunk["clean"].std() < 0.65 * plain["clean"].std()
    for batch in (plain, shrunk):
        assert (batch["noisy"] - batch["clean"]).std() == pytest.approx(25 / 255, rel=0.05)


def test_a_crop_needs_a_larger_square_by_the_factor(spec: SourceSpec) -> None:
    assert Rescale(shrink=1.6, enlarge=(1.0, 3.0)).largest_square(48) == 77
    assert Rescale(shrink=1.5, enlarge=(2.0, 3.0)).largest_square(48) == 36
    assert Rescale(shrink=1.5, enlarge=(2.0, 3.0), share=0.9).largest_square(48) == 48
    whole = replace(spec, crop=100, rescale=Rescale(shrink=2.0))  # the picture is 200 x 220
    assert BatchSource(whole).batch(0, range(2))["clean"].shape == (2, 3, 100, 100)
    with pytest.raises(RunError, match="is smaller than the 210 pixels that a crop needs"):
        BatchSource(replace(whole, crop=105)).batch(0, range(2))


def test_a_batch_is_the_same_each_time(spec: SourceSpec) -> None:
    again = replace(spec, rescale=Rescale(shrink=1.5, enlarge=(1.0, 3.0), share=0.5))
    first, second = (BatchSource(again).batch(7, range(3)) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_the_configuration_reaches_the_crops(photo_folder: Path) -> None:
    more = ["data.crop=32", "data.shrink=1.5", "data.enlarge=[1,2.5]", "data.rescale_share=0.75"]
    spec, _ = read_source(load_config(preset="camera", overrides=more, data=str(photo_folder)), lambda *_: None)
    assert spec.rescale == Rescale(shrink=1.5, enlarge=(1.0, 2.5), share=0.75)


def test_a_picture_that_is_too_small_is_named_before_training(photo_folder: Path) -> None:
    more = ["data.crop=64", "data.shrink=8"]
    with pytest.raises(UserError, match="is smaller than the 512x512 crop"):
        read_source(load_config(preset="camera", overrides=more, data=str(photo_folder)), lambda *_: None)


@pytest.mark.parametrize(
    ("preset", "more", "told"),
    [
        ("camera", "data.enlarge=[0.5,2]", "data.enlarge: expected two ascending factors from 1 to 8"),
        ("camera", "data.enlarge=[3,2]", "data.enlarge: expected two ascending factors from 1 to 8"),
        ("quick", "data.enlarge=[1,2]", "data.enlarge: expected 1 but for clean pictures"),
        ("shipped_raw", "data.enlarge=[1,2]", "data.enlarge: expected 1 but for clean pictures"),
        ("quick", "data.shrink=2", "data.shrink: expected 1 but for clean pictures"),
        ("camera", "data.rescale_share=0.5", "data.rescale_share: expected 1 without data.shrink and data.enlarge"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(preset: str, more: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        load_config(preset=preset, overrides=[more], data="photos")
