"""Measures without ground truth, held against noise and errors that are known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import wasserstein_distance

from pipeline.evaluation.blind import BLIND_DEFINITIONS, blind_measures, mean_measures, residual_panel

Array = np.ndarray


@pytest.fixture(scope="module")
def scene() -> Array:
    """(192, 192, 3) float32: smooth above, fine texture below, in the middle of the range."""
    generator = np.random.default_rng(0)
    texture = gaussian_filter(generator.standard_normal((192, 192)), 1.0)
    scene = np.full((192, 192, 3), 0.5) + np.linspace(-0.15, 0.15, 192)[None, :, None]
    scene[96:] += 0.06 * (texture / texture.std())[96:, :, None]
    return scene.astype(np.float32)


def white(shape: tuple[int, ...], sigma: float = 12.0, seed: int = 1) -> Array:
    return (sigma / 255 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def test_a_residual_that_is_the_noise_is_called_that(scene: Array) -> None:
    found = blind_measures(scene + white(scene.shape), scene)
    assert found["reliable"]
    assert found["noise_before_255"] == pytest.approx(12, rel=0.03)
    assert found["noise_after_255"] < 0.3
    assert found["noise_left"] < 0.001
    assert found["residual_ratio"] == pytest.approx(1, abs=0.03)
    assert found["residual_ratio_flat"] == pytest.approx(1, abs=0.03)
    assert abs(found["structure_lost"]) < 0.05
    assert abs(found["detail_correlation"]) < 0.05
    assert found["histogram_distance_255"] < 0.3
    assert max(map(abs, found["residual_correlation"])) < 0.03
    assert found["correlation_gap"] < 0.02
    assert abs(found["drift_255"]) < 0.2
    assert abs(found["residual_mean_255"]) < 0.2


def test_nothing_done_leaves_all_of_the_noise(scene: Array) -> None:
    noisy = scene + white(scene.shape)
    found = blind_measures(noisy, noisy)
    assert found["noise_after_255"] == found["noise_before_255"]
    assert (found["noise_left"], found["left_and_lost"], found["residual_ratio"]) == (1, 1, 0)
    # All of the noise is to be moved to zero: E|n| = sigma sqrt(2 / pi).
    assert found["histogram_distance_255"] == pytest.approx(12 * math.sqrt(2 / math.pi), rel=0.05)
    assert found["residual_correlation"] is None


def test_half_of_the_noise_taken_is_a_quarter_of_its_energy_left(scene: Array) -> None:
    noise = white(scene.shape)
    found = blind_measures(scene + noise, scene + noise / 2)
    assert found["noise_left"] == pytest.approx(0.25, abs=0.01)
    assert found["residual_ratio_flat"] == pytest.approx(0.5, abs=0.02)
    assert found["histogram_distance_255"] == pytest.approx(6 * math.sqrt(2 / math.pi), rel=0.06)


def test_a_blur_leaks_structure_and_looks_clean_in_flat_areas(scene: Array) -> None:
    noisy = scene + white(scene.shape)
    found = blind_measures(noisy, gaussian_filter(noisy, (2, 2, 0)))
    assert found["noise_left"] < 0.1
    assert found["structure_lost"] > 0.3
    assert found["detail_correlation"] > 0.3
    assert found["structure"] > 0.1
    assert found["residual_ratio"] > 1.1
    assert found["left_and_lost"] > blind_measures(noisy, scene)["left_and_lost"] + 0.3


def test_a_colour_cast_is_a_drift_of_colour_and_a_dimming_is_none(scene: Array) -> None:
    noisy = scene + white(scene.shape)
    cast = blind_measures(noisy, scene + np.float32([6 / 255, 0, -3 / 255]))
    assert cast["drift_by_channel_255"] == pytest.approx([6, 0, -3], abs=0.25)
    assert cast["residual_mean_by_channel_255"] == pytest.approx([-6, 0, 3], abs=0.25)
    assert cast["drift_255"] == pytest.approx(6, abs=0.25)
    luma = 6 * 0.299 - 3 * 0.114
    assert cast["luma_drift_255"] == pytest.approx(luma, abs=0.2)
    expected = math.sqrt(((6 - luma) ** 2 + luma**2 + (3 + luma) ** 2) / 3)
    assert cast["chroma_drift_255"] == pytest.approx(expected, abs=0.2)
    green = blind_measures(noisy, scene + np.float32([0, 6 / 255, 0]))
    about_luma = math.hypot(6 * 0.587, 6 * 0.413, 6 * 0.587) / math.sqrt(3)
    assert green["chroma_drift_255"] == pytest.approx(about_luma, abs=0.1)
    dimmed = blind_measures(noisy, scene - np.float32(5 / 255))
    assert dimmed["luma_drift_255"] == pytest.approx(-5, abs=0.2)
    assert dimmed["chroma_drift_255"] < 0.2
    assert dimmed["drift_error_255"] < 0.2


def test_noise_that_neighbours_share_is_missed_in_the_residual_if_it_was_left(scene: Array) -> None:
    fine, coarse = white(scene.shape, 8), gaussian_filter(white(scene.shape, 30, seed=2), (1, 1, 0))
    noisy = scene + fine + coarse
    whole, part = blind_measures(noisy, scene), blind_measures(noisy, scene + coarse)
    assert whole["noise_correlation"][0] > 0.3
    assert whole["residual_correlation"][0] == pytest.approx(whole["noise_correlation"][0], abs=0.03)
    assert whole["correlation_gap"] < 0.05
    assert abs(part["residual_correlation"][0]) < 0.05
    assert part["correlation_gap"] == pytest.approx(whole["noise_correlation"][0], abs=0.05)


def test_the_distance_of_histograms_is_that_of_scipy(scene: Array) -> None:
    """Flat everywhere and one brightness, so that one Gaussian is the fitted noise."""
    clean = np.full((160, 160, 1), 0.5, np.float32)
    noisy = clean + white(clean.shape, 10)
    denoised = noisy - np.random.default_rng(3).uniform(-0.02, 0.05, noisy.shape).astype(np.float32)
    found = blind_measures(noisy, denoised)
    gaussian = np.random.default_rng(4).normal(0, found["noise_before_255"], 400_000)
    expected = wasserstein_distance(255 * (noisy - denoised).ravel(), gaussian)
    assert found["histogram_distance_255"] == pytest.approx(expected, rel=0.05)


def test_noise_that_grows_with_brightness_is_fitted_so(scene: Array) -> None:
    clean = np.repeat(np.linspace(0.1, 0.9, 256, dtype=np.float32)[None, :, None], 256, 0)
    noise = np.sqrt(0.004 * clean) * np.random.default_rng(5).standard_normal(clean.shape).astype(np.float32)
    found = blind_measures(clean + noise, clean)
    one = np.random.default_rng(6).normal(0, found["noise_before_255"], 400_000)
    assert found["histogram_distance_255"] < 0.6 * wasserstein_distance(255 * noise.ravel(), one)


def test_a_panel_draws_densities_correlation_and_means_by_level(scene: Array) -> None:
    noisy = scene + white(scene.shape)
    panel = residual_panel(noisy, scene - np.float32(2 / 255))
    histogram = panel["histogram"]
    width = histogram["edges"][1] - histogram["edges"][0]
    assert len(histogram["density"]) == len(histogram["fitted"]) == len(histogram["edges"]) - 1
    assert sum(histogram["density"]) * width == pytest.approx(1, abs=1e-3)
    assert sum(histogram["fitted"]) * width == pytest.approx(1, abs=1e-2)
    centres = np.asarray(histogram["edges"][:-1]) + width / 2
    assert np.dot(centres, histogram["density"]) * width == pytest.approx(2, abs=0.3)
    assert np.sqrt(np.dot(centres**2, histogram["fitted"]) * width) == pytest.approx(12, rel=0.05)
    for name in ("correlation", "noise_correlation"):
        lags = np.asarray(panel[name])
        assert lags.shape == (11, 11)
        assert lags[5, 5] == pytest.approx(1)
        assert np.abs(np.delete(lags.ravel(), 60)).max() < 0.05
        assert np.allclose(lags, lags[::-1, ::-1], atol=1e-3)
    assert panel["by_level"]["mean"] == pytest.approx([2] * len(panel["by_level"]["level"]), abs=1.2)
    assert min(panel["by_level"]["level"]) > 40
    json.dumps(panel, allow_nan=False)


def test_rows_and_columns_of_the_panel_are_lags_down_and_across(scene: Array) -> None:
    streaks = gaussian_filter(white(scene.shape, 40), (0, 2, 0))
    lags = np.asarray(residual_panel(scene + streaks, scene)["correlation"])
    assert lags[5, 6] > 0.7
    assert abs(lags[6, 5]) < 0.1


@pytest.mark.parametrize("shape", [(1, 1, 3), (31, 200, 3), (32, 32, 1), (33, 40, 3)])
@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
def test_tiny_grey_and_constant_pictures_are_told_nothing_and_do_not_fail(
    shape: tuple[int, int, int], level: float
) -> None:
    image = np.full(shape, level, np.float32)
    found = blind_measures(image, image)
    assert set(found) == set(BLIND_DEFINITIONS)
    assert found["noise_left"] is found["residual_ratio"] is found["histogram_distance_255"] is None
    assert not found["reliable"]
    panel = residual_panel(image, image)
    assert panel["histogram"]["fitted"] is panel["noise_correlation"] is None
    json.dumps([found, panel], allow_nan=False)


def test_a_grey_picture_is_measured_like_a_coloured_one(scene: Array) -> None:
    grey = scene[..., :1]
    found = blind_measures(grey + white(grey.shape), grey)
    assert found["noise_before_255"] == pytest.approx(12, rel=0.05)
    assert found["chroma_drift_255"] is None
    assert len(found["drift_by_channel_255"]) == 1


def test_texture_everywhere_is_said_to_be_unreliable() -> None:
    generator = np.random.default_rng(7)
    texture = gaussian_filter(generator.standard_normal((128, 128, 3)), (1.5, 1.5, 0))
    steps = np.kron(generator.random((16, 16, 3)), np.ones((8, 8, 1)))
    noisy = (0.3 * texture / texture.std() + steps).clip(0, 1).astype(np.float32)
    assert blind_measures(noisy, noisy)["reliable"] is not True


def test_means_over_pictures_skip_what_is_not_known(scene: Array) -> None:
    noisy = scene + white(scene.shape)
    one, tiny = blind_measures(noisy, scene), blind_measures(noisy[:20], scene[:20])
    both = mean_measures([one, None, tiny])
    assert both is not None
    assert both["noise_left"] == one["noise_left"]
    channels = zip(one["residual_mean_by_channel_255"], tiny["residual_mean_by_channel_255"], strict=True)
    assert both["residual_mean_by_channel_255"] == pytest.approx([(a + b) / 2 for a, b in channels], rel=1e-4)
    grey = blind_measures(noisy[..., :1], scene[..., :1])
    mixed = mean_measures([one, grey])
    assert mixed is not None
    assert mixed["drift_by_channel_255"] is None
    assert mixed["reliable"] == 1
    assert mean_measures([None]) is None


def test_the_large_picture_costs_no_more_than_its_middle(scene: Array) -> None:
    clean = np.full((1000, 1200, 1), 0.5, np.float32)
    noise = white(clean.shape)
    noise[:100] = 0
    found = blind_measures(clean + noise, clean)
    assert found["noise_before_255"] == pytest.approx(12, rel=0.02)


def test_shapes_that_differ_are_an_error(scene: Array) -> None:
    with pytest.raises(ValueError, match=r"of one shape, got \(192, 192, 3\) and \(192, 191, 3\)"):
        blind_measures(scene, scene[:, :-1])
