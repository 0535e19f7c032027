"""What a target is made of: the mean of several strides, and what it lost taken back from the photograph."""

import numpy as np
import pytest
import torch
from skimage import data

from noise.measured import add_measured, gaussian_blur
from pipeline.evaluation.metrics import measure
from pipeline.inference.averaged import average_strides, brightened, noise_of
from tests.test_noise_wiener import noise_of as made_noise


@pytest.fixture(scope="module")
def world():
    """A clean photograph, the same with noise of short correlation, and estimates that blur more at each stride."""
    clean = data.astronaut()[60:220, 140:332].astype(np.float32) / 255
    first = torch.from_numpy(clean.transpose(2, 0, 1).copy())
    noise = made_noise(deviation=0.8, sigma=0.06)
    noisy = add_measured(first, noise, torch.Generator().manual_seed(3))

    def at(stride: int) -> np.ndarray:
        return gaussian_blur(noisy, 0.9 * stride).numpy().transpose(1, 2, 0)

    return clean, noisy.numpy().transpose(1, 2, 0), at


def psnr(image, clean):
    return measure(np.clip(image, 0, 1), clean)["psnr_rgb_u8"]


def test_each_step_comes_closer_to_the_truth(world):
    clean, noisy, at = world
    mean = average_strides(noisy, at, strides=(1, 2, 3), margin=0, strength=0)
    recharged = average_strides(noisy, at, strides=(1, 2, 3), strength=0)
    filtered = average_strides(noisy, at, strides=(1, 2, 3))
    assert psnr(mean, clean) + 1 < psnr(recharged, clean)
    assert psnr(recharged, clean) + 0.5 < psnr(filtered, clean)
    assert psnr(noisy, clean) + 2 < psnr(filtered, clean)


def test_without_recharging_and_filter_it_is_the_mean_of_different_strides(world):
    _, noisy, at = world
    asked = []

    def listening(stride: int) -> np.ndarray:
        asked.append(stride)
        return at(stride)

    mean = average_strides(noisy, listening, strides=(3, 1, 3), margin=0, strength=0)
    assert asked == [1, 3]
    assert np.allclose(mean, (at(1) + at(3)) / 2, atol=1e-6)


def test_a_picture_too_small_to_measure_is_averaged_only(world):
    _, noisy, at = world
    corner = noisy[:20, :40]
    found = average_strides(corner, lambda stride: at(stride)[:20, :40], strides=(1, 2))
    assert np.array_equal(found, average_strides(corner, lambda s: at(s)[:20, :40], strides=(1, 2), strength=0))
    assert np.array_equal(brightened(corner, found), found)


def test_dark_noisy_areas_are_brightened_most_and_a_known_noise_is_not_measured_again(world):
    _, noisy, at = world
    found = average_strides(noisy, at, strides=(1, 2))
    lighter = brightened(noisy, found)
    change = lighter - found.clip(0, 1)
    dark, light = found.mean(-1) < 0.2, found.mean(-1) > 0.6
    assert change[dark].mean() > 3 * change[light].mean() > 0
    assert np.array_equal(lighter, brightened(noisy, found, noise=noise_of(noisy, found)))
    assert np.array_equal(brightened(noisy, found, tone=0), found)
