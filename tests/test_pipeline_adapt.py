"""Settings that follow from the measured noise: the rules, and that what a user sets is never changed."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from pipeline.config import dump, load_config
from pipeline.errors import UserError
from pipeline.training.adapt import (
    CHOICES,
    Measured,
    adapted,
    as_stored,
    draws,
    inference_stride,
    layout,
    masks,
    training_stride,
)
from pipeline.training.intake import read_source

WHITE = Measured(sigma=20.0, correlation=0.02, pd_stride=1, mask_ratio=0.2)
STRONG = Measured(sigma=20.0, correlation=0.45, pd_stride=2, mask_ratio=0.5)
WEAK = Measured(sigma=3.0, correlation=0.65, pd_stride=5, mask_ratio=0.8)


@pytest.mark.parametrize(
    ("noise", "crop", "train", "use", "count", "where", "averaged"),
    [
        (WHITE, 96, 1, 1, 4, "random", 4),
        (STRONG, 96, 4, 2, 2, "random", 4),
        (WEAK, 96, 5, 1, 2, "lattice", 1),
        (WEAK, 48, 3, 1, 2, "lattice", 1),
    ],
)
def test_the_rules(noise: Measured, crop: int, train: int, use: int, count: int, where: str, averaged: int) -> None:
    assert training_stride(noise, crop)[0] == train
    assert inference_stride(noise, crop)[0] == use
    assert masks(noise, crop)[0] == count
    assert layout(noise, crop)[0] == where
    assert draws(noise, crop)[0] == averaged
    assert all(choose(noise, crop)[1] for choose in CHOICES.values())
    if crop == 48:
        assert "a crop of 48 allows no more" in training_stride(noise, crop)[1]


def photos(folder: Path, photo: np.ndarray, *, correlated: bool) -> Path:
    """Two photographs with strong noise, white or of neighbours that share it."""
    from scipy.ndimage import gaussian_filter

    folder.mkdir()
    for index in range(2):
        noise = np.random.default_rng(index).normal(size=(160, 160, 3))
        if correlated:
            noise = gaussian_filter(noise, (0.8, 0.8, 0))
        noise *= 18 / noise.std()
        clean = gaussian_filter(photo[40 * index : 40 * index + 160, :160].astype(float), (4, 4, 0))
        iio.imwrite(folder / f"{index}.png", np.clip(clean + noise, 0, 255).round().astype(np.uint8))
    return folder


@pytest.mark.parametrize(("correlated", "stride"), [(False, 1), (True, 4)])
def test_measured_noise_decides_and_the_reasons_are_told(
    correlated: bool, stride: int, tmp_path: Path, photo: np.ndarray
) -> None:
    folder = photos(tmp_path / "photos", photo, correlated=correlated)
    config = load_config(preset="photos", data=str(folder))
    said: list[str] = []

    def listen(what: str, value: dict[str, object]) -> None:
        if what == "say":
            said.append(str(value["text"]))

    source, _ = read_source(config, listen)
    found = adapted(config, source, listen)
    assert found.method.pd_stride == stride  # type: ignore[union-attr]
    assert found.adapt == ()
    assert set(found.adapted) == set(config.adapt)
    line = f"chosen: method.pd_stride={stride}, since {found.adapted['method.pd_stride']}"
    assert line in said
    # Nothing else has changed, and it is not done twice.
    assert dump(found)["optimizer"] == dump(config)["optimizer"]
    assert adapted(found, source, listen) is found


def test_what_a_user_sets_is_not_chosen(tmp_path: Path, photo: np.ndarray) -> None:
    folder = photos(tmp_path / "photos", photo, correlated=True)
    config = load_config(preset="photos", overrides=["method.pd_stride=3"], data=str(folder))
    assert "method.pd_stride" not in config.adapt
    source, _ = read_source(config, lambda *_: None)
    found = adapted(config, source, lambda *_: None)
    assert found.method.pd_stride == 3  # type: ignore[union-attr]
    assert "method.pd_stride" not in found.adapted
    assert found.inference.layout == "random"


def test_a_resumed_run_keeps_what_its_start_has_chosen() -> None:
    config = load_config(preset="photos")
    chosen = load_config(preset="photos", overrides=["method.pd_stride=2", "inference.draws=3"])
    stored = chosen.model_copy(update={"adapt": (), "adapted": {"method.pd_stride": "why"}})
    resumed = as_stored(config, stored)
    assert (resumed.method.pd_stride, resumed.inference.draws) == (2, 3)  # type: ignore[union-attr]
    assert (resumed.adapt, resumed.adapted) == ((), {"method.pd_stride": "why"})


def test_a_key_that_cannot_be_chosen_is_refused() -> None:
    with pytest.raises(UserError, match=r"^adapt"):
        load_config(preset="photos", overrides=['adapt=["optimizer.lr"]'])
