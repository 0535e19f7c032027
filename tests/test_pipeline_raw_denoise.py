"""From one noisy raw to a network and back to a DNG: better than the file, blind, without a colour grid."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest
import rawpy

from noise.shot_read import NoiseLevel
from pipeline.config import load_config
from pipeline.data.images import read_image
from pipeline.inference.denoiser import load_denoiser
from pipeline.inference.manifest import MANIFEST_NAME
from pipeline.inference.raw_denoiser import RawDenoiser
from pipeline.training.intake import data_card, read_source
from pipeline.training.loop import run_loop
from pipeline.training.rank import local_rank
from raw.cfa import CFA_PATTERNS
from raw.dng import write_dng
from raw.files import read_raw
from raw.raw_file import RawFile
from tests.raw_scene import BLACK, WHITE, Scene, write_scene

LEVEL = NoiseLevel(shot=4e-3, read=2e-5)
SETTINGS = [
    "data.crop=32",
    "network.width=16",
    "inference.draws=1",
    "training.batch=4",
    "training.steps=120",
    "training.minutes=0",
    "trust.every=0",
    "cluster.workers=0",
]


@dataclass(frozen=True)
class Trained:
    """A model, and the raw it was trained on."""

    model: Path
    scene: Scene

    @property
    def denoiser(self) -> RawDenoiser:
        return RawDenoiser(load_denoiser(str(self.model)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    from skimage import data

    folder = tmp_path_factory.mktemp("raw_denoise")
    (folder / "raws").mkdir()
    scene = write_scene(folder / "raws" / "a.dng", data.astronaut()[:320, :352], LEVEL, pattern="GBRG")
    config = load_config(preset="raw", overrides=SETTINGS, data=str(folder / "raws"))
    spec, manifest = read_source(config, lambda *_: None)
    (folder / "run").mkdir()
    run_loop(config, folder / "run", data_card(config, manifest), local_rank(spec, config.training.batch))
    return Trained(folder / "run", scene)


def denoised(unveil, trained: Trained, source: Path, out: Path, *arguments: object) -> tuple[RawFile, dict]:
    code, result, error = unveil("denoise", source, "--model", trained.model, "--out", out, "--json", *arguments)
    assert code == 0, error
    return read_raw(out / source.name), result


def test_one_noisy_raw_is_enough_to_make_it_better(unveil, trained: Trained, tmp_path: Path) -> None:
    made, result = denoised(unveil, trained, trained.scene.path, tmp_path)
    before, after = trained.scene.psnr(trained.scene.noisy), trained.scene.psnr(made.mosaic)
    assert after > before + 4.0
    assert result["files"][0]["note"] is None
    assert (trained.model / "pictures").is_dir()


def test_a_raw_converter_finds_the_same_facts_in_the_dng(unveil, trained: Trained, tmp_path: Path) -> None:
    before, (after, _) = read_raw(trained.scene.path), denoised(unveil, trained, trained.scene.path, tmp_path)
    for field in fields(RawFile):
        if field.name not in ("mosaic", "noise_profile", "daylight_balance", "rgb_cam", "white_balance"):
            np.testing.assert_equal(getattr(after, field.name), getattr(before, field.name), err_msg=field.name)
    np.testing.assert_allclose(after.white_balance, before.white_balance, rtol=1e-6)
    np.testing.assert_allclose(after.rgb_cam, before.rgb_cam, atol=1e-5)
    # The noise that the profile tells of is gone.
    assert before.noise_profile is not None
    assert after.noise_profile is None
    with rawpy.imread(str(trained.scene.path)) as noisy, rawpy.imread(str(tmp_path / "a.dng")) as clean:
        assert (clean.raw_pattern == noisy.raw_pattern).all()
        assert clean.black_level_per_channel == noisy.black_level_per_channel
        assert clean.white_level == noisy.white_level
        assert clean.camera_whitebalance == pytest.approx(noisy.camera_whitebalance, rel=1e-6)
        assert clean.postprocess().shape == noisy.postprocess().shape == (352, 320, 3)  # turned upright


@pytest.mark.parametrize("pattern", CFA_PATTERNS)
def test_every_pattern_and_odd_sizes_gain_alike_and_show_no_grid(
    unveil, trained: Trained, tmp_path: Path, photo: np.ndarray, pattern
) -> None:
    scene = write_scene(tmp_path / "b.dng", photo, LEVEL, pattern=pattern, size=(201, 223), seed=5)
    made, _ = denoised(unveil, trained, scene.path, tmp_path / "out")
    assert made.mosaic.shape == (201, 223)
    assert scene.psnr(made.mosaic) > scene.psnr(scene.noisy) + 3.0
    for border in (np.s_[-1:, :], np.s_[:, -1:]):
        errors = [np.mean((mosaic[border].astype(float) - scene.clean[border]) ** 2) for mosaic in
                  (made.mosaic, scene.noisy)]  # fmt: skip
        assert errors[0] < 0.7 * errors[1]
    for row in (0, 1):
        for column in (0, 1):
            phase = np.s_[row::2, column::2]
            mean, kept = scene.noisy[phase].mean() - 2048, made.mosaic[phase].mean() - 2048
            assert kept == pytest.approx(mean, rel=2e-3)


def test_every_cell_is_predicted_without_its_own_values(trained: Trained) -> None:
    planes = np.random.default_rng(0).uniform(0.0, 0.6, (4, 40, 44)).astype(np.float32)
    denoiser = trained.denoiser
    before = denoiser.predicted(planes, LEVEL)
    changed = planes.copy()
    changed[:, 20, 21] = (0.9, -0.01, 0.5, 1.4)
    after = denoiser.predicted(changed, LEVEL)
    np.testing.assert_array_equal(after[:, 20, 21], before[:, 20, 21])
    assert np.abs(after - before).max() > 1e-3


def test_highlights_stay_clipped_where_they_were_and_nowhere_else(
    unveil, trained: Trained, tmp_path: Path, photo: np.ndarray
) -> None:
    scene = write_scene(tmp_path / "b.dng", photo, LEVEL)
    mosaic = scene.noisy.copy()
    mosaic[40:80, 40:80] = WHITE
    mosaic[10, 10] = WHITE + 500  # a hot pixel beyond white
    write_dng(tmp_path / "b.dng", mosaic, black_levels=BLACK, white_level=WHITE, noise=[(LEVEL.shot, LEVEL.read)])
    made, _ = denoised(unveil, trained, tmp_path / "b.dng", tmp_path / "out")
    clipped = mosaic >= WHITE
    np.testing.assert_array_equal(made.mosaic[clipped], mosaic[clipped])
    assert made.mosaic[~clipped].max() < WHITE


def test_another_camera_is_denoised_and_the_note_says_what_is_new(
    unveil, trained: Trained, tmp_path: Path, photo: np.ndarray
) -> None:
    level = NoiseLevel(shot=2e-2, read=2e-4)
    scene = write_scene(tmp_path / "b.dng", photo, level, model="Camera Y")
    made, result = denoised(unveil, trained, scene.path, tmp_path / "out")
    assert result["files"][0]["note"] == (
        "Made Camera Y is not among the cameras trained on (Made Camera X); "
        "shot noise 0.02 is outside of the 0.004 to 0.004 trained on; "
        "read noise 0.0002 is outside of the 2e-05 to 2e-05 trained on"
    )
    assert scene.psnr(made.mosaic) > scene.psnr(scene.noisy) + 3.0


def test_little_noise_is_not_paid_for_with_detail(unveil, trained: Trained, tmp_path: Path, photo: np.ndarray) -> None:
    """A blind prediction alone is 10 dB worse than such a file."""
    level = NoiseLevel(shot=1e-4, read=1e-6)
    scene = write_scene(tmp_path / "b.dng", photo, level)
    made, _ = denoised(unveil, trained, scene.path, tmp_path / "out")
    assert scene.psnr(made.mosaic) > scene.psnr(scene.noisy) + 0.5


def test_pictures_are_the_denoised_raw_developed(unveil, trained: Trained, tmp_path: Path) -> None:
    source = trained.scene.path
    for name, kind in (("a.dng", "dng"), ("a.tif", "tiff"), ("a.png", "png"), ("a.jpg", "jpeg")):
        code, _, error = unveil("denoise", source, "--model", trained.model, "--out", tmp_path, "--format", kind)
        assert code == 0, error
        assert (tmp_path / name).is_file()
    expected = read_image(tmp_path / "a.dng").pixels
    for name in ("a.tif", "a.png"):
        np.testing.assert_array_equal(read_image(tmp_path / name).pixels, expected)
    assert sorted(path.name for path in tmp_path.glob("a.*")) == ["a.dng", "a.jpg", "a.png", "a.tif"]
    assert not list(tmp_path.glob(".*"))


def test_strength_mixes_the_numbers_of_the_sensor_and_depth_is_that_of_the_format(
    unveil, trained: Trained, tmp_path: Path
) -> None:
    source = trained.scene.path
    made = {}
    for strength in ("0", "0.5", "1"):
        out = tmp_path / strength
        code, _, error = unveil("denoise", source, "--model", trained.model, "--out", out, "--strength", strength)
        assert code == 0, error
        made[strength] = read_raw(out / source.name).mosaic.astype(float)
    np.testing.assert_array_equal(made["0"], read_raw(source).mosaic)
    np.testing.assert_allclose(made["0.5"], (made["0"] + made["1"]) / 2, atol=0.5)
    code, _, error = unveil("denoise", source, "--model", trained.model, "--out", tmp_path / "x", "--bit-depth", "8")
    assert code == 2
    assert "--bit-depth: expected 16 for DNG" in error
    arguments = ("--out", tmp_path / "x", "--format", "tiff", "--bit-depth", "8")
    code, _, error = unveil("denoise", source, "--model", trained.model, *arguments)
    assert code == 0, error
    assert read_image(tmp_path / "x" / "a.tif").pixels.dtype == np.uint8


def test_what_is_no_raw_is_left_out_or_refused_in_one_line(
    unveil, trained: Trained, tmp_path: Path, photo_folder: Path
) -> None:
    code, _, error = unveil("denoise", photo_folder, "--model", trained.model, "--out", tmp_path / "out")
    assert code == 2
    assert "expected camera raw files for a model trained on raw, found none" in error
    (photo_folder / "a.dng").write_bytes(trained.scene.path.read_bytes())
    write_dng(photo_folder / "linear.dng", np.full((64, 64, 3), 100, np.uint16), pattern=None)
    code, result, _ = unveil("denoise", photo_folder, "--model", trained.model, "--out", tmp_path / "out", "--json")
    assert (code, result["ok"], result["failed"]) == (3, 1, 1)
    assert "3 files that are no raw files left out" in result["warning"]
    assert result["files"][1]["error"].endswith("linear.dng: expected a Bayer mosaic, found linear")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.dng", MANIFEST_NAME]


def test_no_input_is_written_over_and_outputs_are_left_alone(unveil, trained: Trained, tmp_path: Path) -> None:
    source = trained.scene.path
    before = source.read_bytes()
    code, _, error = unveil("denoise", source, "--model", trained.model, "--out", source.parent, "--overwrite")
    assert code == 2
    assert "expected an output that is no input" in error
    assert source.read_bytes() == before
    (tmp_path / "a.dng").write_bytes(b"mine")
    _, result, _ = unveil("denoise", source, "--model", trained.model, "--out", tmp_path, "--json")
    assert result["skipped"] == 1
    assert (tmp_path / "a.dng").read_bytes() == b"mine"


def test_what_is_up_to_date_is_skipped(unveil, trained: Trained, tmp_path: Path) -> None:
    denoised(unveil, trained, trained.scene.path, tmp_path)
    for more, found in (
        ((), (0, 1)),
        (("--format", "png"), (1, 0)),
        (("--draws", 3), (1, 0)),
        (("--draws", 3), (0, 1)),
    ):
        _, result = denoised(unveil, trained, trained.scene.path, tmp_path, "--skip-existing", *more)
        assert (result["ok"], result["skipped"]) == found, more


def test_options_and_pictures_that_a_raw_model_does_not_take_are_one_line(
    unveil, trained: Trained, tmp_path: Path
) -> None:
    call = ("denoise", trained.scene.path, "--model", trained.model, "--out", tmp_path)
    code, _, error = unveil(*call, "--offset", "level")
    assert code == 2
    assert "--offset: expected keep with a model trained on raw" in error
    code, _, error = unveil(*call, "--format", "gif")
    assert code == 2
    assert "--format: expected one of png, tiff, tif, jpeg, jpg, exr, dng" in error
    from pipeline.errors import UserError

    with pytest.raises(UserError, match="expected one trained on pictures, found one for raw files"):
        load_denoiser(str(trained.model))(np.zeros((8, 8, 3), np.float32))
