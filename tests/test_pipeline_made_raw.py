"""Raw made from clean pictures: noise of the level told, pure samples, and a network that raw files gain from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models import MaskedTraining, build
from noise.shot_read import NoiseLevel
from noise.stabilised import stabilise
from pipeline.config import load_config
from pipeline.data.images import Image, write_image
from pipeline.data.made_raw import MadeRawSource, picture_side
from pipeline.data.raw_source import off_curve
from pipeline.data.source import SourceSpec, batch_source
from pipeline.errors import UserError
from pipeline.inference.denoiser import load_denoiser
from pipeline.inference.known_noise import keep_levels
from pipeline.inference.raw_denoiser import RawDenoiser
from pipeline.training.intake import data_card, read_source
from pipeline.training.loop import run_loop
from pipeline.training.rank import local_rank
from pipeline.training.step import batch_loss
from raw.files import read_raw
from tests.raw_scene import write_scene

LEVEL = NoiseLevel(shot=4e-3, read=2e-5)
PLAIN = [
    "data.crop=24",
    "data.raw_curve=linear",
    "data.raw_level_error=0",
    "noise.sensor={}",
    "noise.exposure=[0.1,0.4]",
]


def config_for(folder: Path, *overrides: str):
    return load_config(preset="shipped_raw", overrides=["cluster.workers=0", *overrides], data=str(folder))


def spec_for(folder: Path, *overrides: str) -> SourceSpec:
    return read_source(config_for(folder, *overrides), lambda *_: None)[0]


@pytest.fixture
def pictures(tmp_path: Path, photo: np.ndarray) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    write_image(folder / "a.png", Image(pixels=photo))
    write_image(folder / "b.png", Image(pixels=photo[::-1]))
    return folder


@pytest.mark.parametrize("photons", ["gaussian", "poisson"])
def test_the_noise_is_what_the_network_is_told(pictures: Path, photons: str) -> None:
    batch = batch_source(spec_for(pictures, *PLAIN, f"noise.photons={photons}")).batch(0, range(24))
    shot, read = batch["levels"].astype(np.float64).T[..., None, None, None]
    noise = (batch["noisy"].astype(np.float64) - batch["clean"]) / np.sqrt(shot * batch["clean"] + read)
    deviations = noise.std(axis=(1, 2, 3))
    assert len(np.unique(batch["levels"])) == 48
    np.testing.assert_allclose(deviations, 1.0, atol=0.06)  # of 2304 values each: 4 standard errors
    assert noise.std() == pytest.approx(1.0, abs=0.012)
    assert noise.mean() == pytest.approx(0.0, abs=0.02)
    np.testing.assert_array_equal(batch["noise"], batch["levels"])


def test_on_the_stabilising_curve_too(pictures: Path) -> None:
    # Of single photons no curve is one deviation.
    settings = [*PLAIN, "noise.levels.shot=[1e-4,2e-3]"]
    batch = batch_source(spec_for(pictures, *settings, "data.raw_curve=stabilised")).batch(0, range(24))
    linear = batch_source(spec_for(pictures, *settings)).batch(0, range(24))
    assert not batch["levels"][:, 0].any()
    noise = (batch["noisy"] - batch["clean"]).std(axis=(1, 2, 3))
    np.testing.assert_allclose(noise, np.sqrt(batch["levels"][:, 1]), rtol=0.12)
    for one, flat, level in zip(batch["noisy"], linear["noisy"], linear["levels"], strict=True):
        expected = stabilise(flat, NoiseLevel(shot=float(level[0]), read=float(level[1])))
        np.testing.assert_allclose(one, expected, atol=1e-5)


def test_a_sample_depends_on_nothing_but_its_place(pictures: Path) -> None:
    spec = spec_for(pictures, "data.crop=24")
    whole = batch_source(spec).batch(7, range(4))
    other = batch_source(spec)
    other.batch(8, range(2))
    later, sooner = other.batch(7, [2, 3]), other.batch(7, [0, 1])
    for name, values in whole.items():
        np.testing.assert_array_equal(values, np.concatenate([sooner[name], later[name]]), err_msg=name)
    assert np.abs(batch_source(spec).batch(8, range(4))["clean"] - whole["clean"]).max() > 0.01
    assert np.abs(batch_source(replace(spec, seed=1)).batch(7, range(4))["clean"] - whole["clean"]).max() > 0.01


@pytest.mark.parametrize(("resize", "scale"), [("[0.3,1.0]", 1.0), ("[1.0,1.7]", 1.7), ("[0.5,0.5]", 0.5)])
def test_samples_are_of_the_crop_whatever_the_picture_is_resized_by(pictures: Path, resize: str, scale: float) -> None:
    batch = batch_source(spec_for(pictures, "data.crop=25", f"noise.resize={resize}")).batch(0, range(6))
    assert batch["noisy"].shape == batch["clean"].shape == (6, 4, 25, 25)
    assert picture_side(25, scale) == np.ceil(50 * scale)


def test_planes_have_the_colours_of_the_picture_and_light_above_white_is_cut_off(tmp_path: Path) -> None:
    names = {"red": (200, 20, 20), "blue": (20, 20, 200), "white": (255, 255, 255)}
    found = {}
    for name, colour in names.items():
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / "a.png", Image(pixels=np.full((64, 64, 3), colour, np.uint8)))
        source = batch_source(spec_for(tmp_path / name, *PLAIN, "noise.exposure=[1,1]", "noise.resize=[1,1]"))
        found[name] = source.batch(0, range(8))
    means = {name: batch["clean"].mean(axis=(2, 3)) for name, batch in found.items()}
    assert (means["red"][:, 0] > 2 * means["red"][:, 3]).all()
    assert (means["blue"][:, 3] > 2 * means["blue"][:, 0]).all()
    assert found["white"]["noisy"].max() == 1.0


def test_a_wrong_black_level_is_left_in_both_sides(pictures: Path) -> None:
    right, wrong = (
        batch_source(spec_for(pictures, *PLAIN, f"noise.black_error=[{error},{error}]")).batch(0, range(6))
        for error in (0.0, 0.004)
    )
    for side in ("clean", "noisy"):
        difference = (wrong[side] - right[side])[right[side] < 0.99]
        np.testing.assert_allclose(difference, 0.004, atol=1e-6, err_msg=side)


def test_the_level_is_told_wrong_by_as_much_as_was_asked_for(pictures: Path) -> None:
    true = batch_source(spec_for(pictures, *PLAIN)).batch(0, range(64))
    wrong = batch_source(spec_for(pictures, *PLAIN, "data.raw_level_error=0.3")).batch(0, range(64))
    np.testing.assert_array_equal(wrong["noisy"], true["noisy"])
    off = np.log(wrong["levels"] / true["levels"])
    assert off.std() == pytest.approx(0.3, rel=0.2)
    assert abs(np.corrcoef(off.T)[0, 1]) < 0.4


def test_the_network_is_told_the_noise(pictures: Path) -> None:
    config = config_for(pictures, *PLAIN, "network.width=8", "network.depth=1", "network.residual=false")
    network = build(config.network, seed=0)
    batch = {
        name: torch.from_numpy(values)
        for name, values in batch_source(spec_for(pictures, *PLAIN)).batch(0, range(2)).items()
    }
    assert isinstance(config.method, MaskedTraining)
    told = batch_loss(config.method, network, batch)
    assert batch_loss(config.method, network, batch | {"noise": 4 * batch["noise"]}) != told
    masked = MaskedTraining(input_ratio=(0.3, 0.3))
    assert batch_loss(masked, network, batch | {"noise": 4 * batch["noise"]}) != batch_loss(masked, network, batch)
    del batch["noise"]
    with pytest.raises(ValueError, match="noise must be"):
        batch_loss(config.method, network, batch)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("noise.kind=gaussian", "noise.kind: expected 'camera' with data.domain 'raw', found 'gaussian'"),
        ("noise.jpeg=[70,90]", "noise.jpeg: expected none with data.domain 'raw'"),
        ("noise.rendering.demosaic=malvar", "noise.rendering: expected none with data.domain 'raw'"),
        ("noise.saturation=[0.5,1.5]", "noise.saturation: expected none with data.domain 'raw'"),
        ("noise.pattern=BGGR", "noise.pattern: expected 'RGGB' with data.domain 'raw' .* found 'BGGR'"),
        ("method.kind=asymmetric", "method.kind: expected 'masked' with data.domain 'raw' and a noise recipe"),
        ("network.channels=3", "network.channels: expected 4"),
        ("feed.device=trainer", "feed.device: expected 'actors' with data.domain 'raw'"),
        ("inference.mode=multi_mask", "inference.mode: expected 'direct'"),
        ("data.crop=200", r"is smaller than the 400x400 crop; set data.crop=\d+ or less"),
    ],
)
def test_settings_that_do_not_go_together_are_one_line(pictures: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        spec_for(pictures, override)
    assert "\n" not in str(caught.value)


def test_raw_files_gain_from_a_network_that_saw_none(tmp_path: Path, pictures: Path, photo: np.ndarray, unveil) -> None:
    small = ["data.crop=16", "network.width=12", "network.depth=1", "optimizer.lr=4e-3", "optimizer.ema_decay=0.9"]
    config = config_for(pictures, *small, "noise.levels.shot=[2e-3,8e-3]", "training.steps=200")
    spec, manifest = read_source(config, lambda *_: None)
    assert isinstance(batch_source(spec), MadeRawSource)
    (tmp_path / "run").mkdir()
    card = data_card(config, manifest)
    assert (card["domain"], card["clean_images_read"], card["raw"]["cameras"]) == ("raw", True, [])
    assert 2e-3 <= card["raw"]["shot"][0] < 2.1e-3
    run_loop(config, tmp_path / "run", card, local_rank(spec, config.training.batch))
    assert (tmp_path / "run" / "pictures").is_dir()
    scene = write_scene(tmp_path / "b.dng", photo, LEVEL, pattern="GBRG", size=(121, 133), seed=5)
    code, result, error = unveil("denoise", scene.path, "--model", tmp_path / "run", "--out", tmp_path / "o", "--json")
    assert code == 0, error
    assert result["files"][0]["note"] is None
    assert (result["mode"]["mode"], result["mode"]["passes"]) == ("direct", 1)
    assert scene.psnr(read_raw(tmp_path / "o" / "b.dng").mosaic) > scene.psnr(scene.noisy) + 1.5

    # A network that saw the pixel is used as it is: nothing of the noise is put back.
    denoiser = RawDenoiser(load_denoiser(str(tmp_path / "run")))
    planes = np.random.default_rng(0).uniform(0.0, 0.6, (4, 20, 24)).astype(np.float32)
    plain = off_curve(denoiser.predicted(planes, LEVEL), LEVEL, "stabilised")
    expected = keep_levels(torch.from_numpy(planes)[None], torch.from_numpy(plain)[None])[0].numpy()
    np.testing.assert_array_equal(denoiser.planes(planes, LEVEL), expected)
