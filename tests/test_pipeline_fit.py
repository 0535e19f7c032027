"""Fitting a network to one photo alone: settings, training, and files."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import build, denoise
from pipeline.data.folders import scan
from pipeline.data.images import Image, Metadata, read_image, write_image
from pipeline.inference.averaged import average_strides, brightened
from pipeline.inference.fit import FitDenoiser, FitOptions, fit_files
from pipeline.inference.fit_image import FitProgress, _Excused, _Fit, _windows, fit_image
from pipeline.inference.fit_settings import FitSettings, choose_settings
from pipeline.inference.manifest import MANIFEST_NAME
from pipeline.inference.outputs import OutputOptions

Run = Callable[..., tuple[int, dict[str, Any] | None, str]]


def noisy_photo(photo: np.ndarray, sigma: float, *, side: int = 96, blur: float = 0.0, channels: int = 3) -> np.ndarray:
    """The photo with Gaussian noise, correlated by a blur of ``blur`` pixels; (side, side, channels) float32."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(3).standard_normal((side, side, channels))
    if blur:
        noise = gaussian_filter(noise, (blur, blur, 0))
        noise /= noise.std()
    clean = photo[:side, :side, :channels] / 255
    return np.clip(clean + sigma / 255 * noise, 0, 1).astype(np.float32)


def smooth_scene(side: int = 160) -> np.ndarray:
    """A scene with large flat areas, in which noise can be measured: (side, side, 3) uint8."""
    rows, columns = np.mgrid[:side, :side] / side
    scene = np.stack([0.3 + 0.3 * rows, 0.5 + 0.2 * columns, 0.6 - 0.3 * rows * columns], axis=2)
    scene[side // 3 : side // 2, side // 4 : side // 2] = 0.8
    return np.rint(255 * scene).astype(np.uint8)


def psnr(image: np.ndarray, clean: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((np.clip(image, 0, 1) - clean) ** 2)))


def settings_of(image: np.ndarray, **asked: Any) -> FitSettings:
    return choose_settings(image, **{"steps": 4, "draws": 1, **asked})


def test_white_noise_needs_no_downsampling_and_correlated_noise_does() -> None:
    scene = smooth_scene()
    white = settings_of(noisy_photo(scene, 20, side=160), draws=None)
    assert (white.method.pd_stride, white.strides) == (1, (1,))
    assert white.sigma_255 == pytest.approx(20, rel=0.15)
    strong = settings_of(noisy_photo(scene, 20, side=160, blur=0.8), draws=None)
    weak = settings_of(noisy_photo(scene, 4, side=160, blur=1.2), draws=None)
    assert strong.method.pd_stride == weak.method.pd_stride == 4
    assert strong.strides == weak.strides == (1, 2, 3, 4)
    assert (strong.inference.layout, strong.inference.draws) == ("random", 4)
    assert (weak.inference.layout, weak.inference.draws) == ("lattice", 1)
    assert settings_of(noisy_photo(scene, 4, side=160, blur=1.2), draws=3).inference.draws == 3
    for settings in (white, strong, weak):
        assert settings.crop % settings.method.pd_stride == 0
        told = settings.told()
        assert f"trained on stride {settings.method.pd_stride}" in told
        assert f"used on stride{'s' if len(settings.strides) > 1 else ''} 1" in told
        assert f"noise {settings.sigma_255:.1f}/255" in told


def test_a_small_picture_allows_no_large_stride() -> None:
    settings = settings_of(noisy_photo(smooth_scene(), 20, side=20, blur=1.5))
    assert settings.method.pd_stride == 1
    assert "its size allows no more" in settings.told()
    with pytest.raises(ValueError, match="at least 16x16 pixels to fit a network to, found 40x15"):
        settings_of(np.zeros((15, 40, 3), np.float32))


def test_a_picture_without_noise_stays_as_it_is() -> None:
    clean = (smooth_scene() / 255).astype(np.float32)
    result = fit_image(clean, settings_of(clean))
    assert np.array_equal(result.denoised, clean)
    assert result.measures["steps"] == 0
    assert "no noise found" in result.settings.told()


@pytest.mark.parametrize(
    ("side", "threads", "minutes", "draws"), [(32, 1, 1.0, 4), (512, 1, 5.0, 4), (512, 2, 2.5, 4), (1500, 8, 5.0, 2)]
)
def test_time_and_draws_follow_from_the_size(side: int, threads: int, minutes: float, draws: int) -> None:
    image = np.random.default_rng(0).random((side, side, 1), dtype=np.float32) / 2  # strong noise
    settings = choose_settings(image, threads=threads)
    assert settings.minutes == minutes
    assert settings.inference.draws == draws


def test_a_fit_takes_noise_away(photo: np.ndarray) -> None:
    clean = photo[:80, :80] / 255
    noisy = noisy_photo(photo, 25, side=80)
    result = fit_image(noisy, settings_of(noisy, steps=50, draws=4))
    assert psnr(result.denoised, clean) > psnr(noisy, clean) + 5
    assert result.measures["held_out_255"] < result.measures["held_out_start_255"]
    assert result.measures["removed_255"] == pytest.approx(25, rel=0.25)


def test_equal_steps_and_seed_give_equal_bytes_and_another_seed_does_not(photo: np.ndarray) -> None:
    noisy = noisy_photo(photo, 25, side=48)
    results = [fit_image(noisy, settings_of(noisy, seed=seed)).denoised for seed in (1, 1, 2)]
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_nothing_is_learned_from_held_out_pixels(photo: np.ndarray) -> None:
    noisy = noisy_photo(photo, 25, side=48)
    settings = settings_of(noisy)
    for share, learns in ((0.0, True), (0.5, True), (1.0, False)):
        fit = _Fit(noisy, replace(settings, held_out=share), "cpu")
        before = [weights.clone() for weights in fit.state.network.parameters()]
        fit.train(0.0)
        fit.train(0.1)
        after = list(fit.state.network.parameters())
        assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True)) == learns


def test_only_held_out_pixels_are_excused() -> None:
    truth, held = torch.rand(2, 3, 8, 8), torch.rand(2, 1, 8, 8) < 0.5
    excused = _Excused(torch.nn.Identity(), truth, held)
    shown = torch.zeros(2, 3, 8, 8)
    assert torch.equal(excused(shown), torch.where(held, truth, 0.0))


def test_a_training_that_goes_astray_is_not_kept(photo: np.ndarray) -> None:
    noisy = noisy_photo(photo, 25, side=32)
    settings = settings_of(noisy, steps=20)
    seen: list[FitProgress] = []
    astray = replace(settings, optimizer=replace(settings.optimizer, lr=0.5, schedule="constant"))
    result = fit_image(noisy, astray, on_progress=seen.append)
    assert [now.step for now in seen] == list(range(1, 21))
    assert seen[-1].held_out_255 > 2 * result.measures["held_out_start_255"]
    assert seen[-1].best_255 == pytest.approx(result.measures["held_out_255"], abs=1e-3)
    assert result.measures["held_out_255"] == result.measures["held_out_start_255"]
    assert result.measures["best_step"] == 0
    untrained = build(settings.network, seed=settings.seed).eval()
    image = torch.from_numpy(noisy.transpose(2, 0, 1).copy())

    def denoise_at(stride: int) -> np.ndarray:
        spec = replace(result.settings.inference, pd_stride=stride)
        return denoise(untrained, image[None], spec)[0].numpy().transpose(1, 2, 0)

    expected = brightened(noisy, average_strides(noisy, denoise_at, strides=result.settings.strides))
    assert np.array_equal(result.denoised, expected)


def test_a_time_is_kept(photo: np.ndarray) -> None:
    noisy = noisy_photo(photo, 25, side=48)
    start = time.monotonic()
    result = fit_image(noisy, choose_settings(noisy, minutes=0.05, draws=1))
    assert 2.5 < time.monotonic() - start < 30  # 3 s, and patience for a busy machine
    assert result.measures["steps"] >= 1


def test_the_measured_windows_of_a_large_photo_are_bounded() -> None:
    windows = _windows(4000, 6001, 5)
    assert len(windows) == 4
    for rows, columns in windows:
        assert (rows.stop - rows.start, columns.stop - columns.start) == (256, 256)
        assert rows.start % 5 == columns.start % 5 == 0
        assert rows.stop <= 4000
        assert columns.stop <= 6001
    assert _windows(300, 400, 5) == [(slice(0, 300), slice(0, 400))]


def write(path: Path, pixels: np.ndarray, metadata: Metadata | None = None) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, Image(pixels=pixels, metadata=metadata or Metadata()))
    return pixels


def eight_bit(photo: np.ndarray, channels: int, side: int = 32) -> np.ndarray:
    colours = noisy_photo(photo, 25, side=side, channels=1 if channels < 3 else 3)
    whole = np.concatenate([colours, noisy_photo(photo, 5, side=side, channels=1)], axis=2)
    return np.rint(255 * (whole if channels in (2, 4) else colours)).astype(np.uint8)


def test_files_keep_tree_depth_alpha_and_metadata(tmp_path: Path, photo: np.ndarray) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    deep = write(source / "sub" / "deep.png", 257 * eight_bit(photo, 4).astype(np.uint16), Metadata(icc=b"profile" * 9))
    grey = write(source / "grey.tif", eight_bit(photo, 1)[:, :27])
    write(source / "tiny.png", eight_bit(photo, 3)[:9])
    summary = fit_files(scan([source]), out, FitOptions(steps=2, draws=1))
    assert [file.status for file in summary.files.files] == ["ok", "ok", "failed"]
    error = summary.files.files[2].error
    assert error is not None
    assert "tiny.png" in error
    assert "at least 16x16 pixels" in error
    got = read_image(out / "sub" / "deep.png")
    assert (got.pixels.dtype, got.pixels.shape) == (deep.dtype, deep.shape)
    assert np.array_equal(got.pixels[..., 3], deep[..., 3])
    assert not np.array_equal(got.pixels[..., :3], deep[..., :3])
    assert got.metadata.icc == b"profile" * 9
    assert read_image(out / "grey.tif").pixels.shape == grey.shape
    assert list(summary.fits) == [file.source for file in summary.files.files[:2]]
    # The files are what the denoiser makes of them.
    alone = FitDenoiser(FitOptions(steps=2, draws=1))((grey / 255).astype(np.float32))
    assert np.abs(255 * np.clip(alone, 0, 1) - read_image(out / "grey.tif").pixels).max() <= 0.5 + 1e-3


def test_ctrl_c_leaves_the_best_so_far_and_says_so(tmp_path: Path, photo: np.ndarray) -> None:
    for name in ("a.png", "b.png", "c.png"):
        write(tmp_path / "in" / name, eight_bit(photo, 3))
    steps: dict[str, int] = {}

    def listen(source: Path, now: FitProgress) -> None:
        steps[source.name] = now.step
        if source.name == "b.png" and now.step == 8:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)  # the signal arrives meanwhile

    options = FitOptions(steps=12, draws=1, save_seconds=0)
    summary = fit_files(scan([tmp_path / "in"]), tmp_path / "out", options, listen=listen)
    assert steps == {"a.png": 12, "b.png": 8}
    assert [file.status for file in summary.files.files] == ["ok"]
    assert summary.stopped == str(tmp_path / "in" / "b.png")
    best = tmp_path / "out" / "b.unfinished.png"
    assert summary.saved == str(best)
    assert (summary.files.stopped, summary.files.left, summary.files.exit_code()) == (True, 2, 130)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", best.name, MANIFEST_NAME]
    assert not np.array_equal(read_image(best).pixels, eight_bit(photo, 3))
    # The next run makes the rest, and the picture so far gives way to the final one.
    again = fit_files(scan([tmp_path / "in"]), tmp_path / "out", options, OutputOptions(skip_existing=True))
    assert [file.status for file in again.files.files] == ["skipped", "ok", "ok"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png", "c.png", MANIFEST_NAME]


def test_the_command_says_what_was_chosen_and_how_it_ended(unveil: Run, tmp_path: Path, photo: np.ndarray) -> None:
    write(tmp_path / "in" / "a.png", eight_bit(photo, 3))
    write(tmp_path / "in" / "small.png", eight_bit(photo, 3)[:8])
    call = ("denoise", tmp_path / "in", "--fit", "--steps", 2, "--seed", 7, "--draws", 2, "--out")
    code, value, _ = unveil(*call, tmp_path / "one", "--json")
    assert code == 3
    assert value is not None
    fit = value["fits"][str(tmp_path / "in" / "a.png")]
    assert fit["settings"]["draws"] == 2
    assert fit["settings"]["seed"] == 7
    assert fit["measures"]["steps"] == 2
    assert value["stopped"] is None
    code, _, stderr = unveil(*call, tmp_path / "two")
    assert code == 3
    assert "a.png: noise " in stderr
    assert "2 draws of the masks" in stderr
    assert "1 written to" in stderr
    assert (tmp_path / "one" / "a.png").read_bytes() == (tmp_path / "two" / "a.png").read_bytes()


def test_ctrl_c_ends_the_command_with_130(unveil: Run, tmp_path: Path, photo: np.ndarray) -> None:
    write(tmp_path / "in" / "a.png", eight_bit(photo, 3))
    timer = threading.Timer(4, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        code, value, stderr = unveil(
            "denoise", tmp_path / "in", "--fit", "--minutes", 5, "--out", tmp_path / "out", "--json"
        )
    finally:
        timer.cancel()
    assert code == 130
    assert value is not None
    assert value["stopped"] == str(tmp_path / "in" / "a.png")
    assert not value["stopped_saved"]
    assert "nothing of it is saved yet" in stderr


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--fit", "--model", "x"), "--model, --fit: expected one of the two"),
        (("--model", "x", "--steps", 5), "--steps: expected with --fit only"),
        (("--fit", "--minutes", 1, "--steps", 5), "--minutes, --steps: expected one of the two"),
        (("--fit", "--minutes", 0), "--minutes: expected 0.05 to 1440, found 0"),
        (("--fit", "--attention", "off"), "--attention: expected with --model only"),
        (("--fit", "--device", "cuda:99"), "--device: expected auto, cpu or an available GPU"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    unveil: Run, photo_folder: Path, tmp_path: Path, options: tuple[object, ...], line: str
) -> None:
    code, _, stderr = unveil("denoise", photo_folder, "--out", tmp_path / "out", *options)
    assert code == 2
    assert line in " ".join(stderr.split())
    assert not (tmp_path / "out").exists()
