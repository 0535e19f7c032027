"""The noise measurement against noise of known strength and correlation, and its honesty about texture."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter
from skimage import data

from noise.camera_noise import CameraNoise
from noise.levels import LevelLine
from noise.measure import estimate_noise
from noise.recipe import corrupt

SHARED = Path(__file__).parents[2] / "shared"
SIZE = 256


def slope(channels=3):
    """A picture without texture: a different gentle ramp in each channel."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    return np.stack([0.3 + 0.2 * x + 0.1 * (c + 1) * y for c in range(channels)], axis=-1)


def white(shape, sigma, seed):
    return np.random.default_rng(seed).normal(size=shape) * sigma / 255


@pytest.mark.parametrize("sigma", [1.0, 5.0, 25.0, 50.0])
def test_white_noise_on_a_slope_is_measured_exactly(sigma):
    estimate = estimate_noise(slope() + white((SIZE, SIZE, 3), sigma, 1))
    # A standard deviation of n normals is known to sigma / sqrt(2n) = 0.3 %, 5 sd; the choice of patches by
    # their variance, corrected to first order, leaves up to 3 %.
    np.testing.assert_allclose(estimate.sigma, sigma, rtol=0.045)
    assert estimate.reliable
    assert estimate.interval[0] < sigma < estimate.interval[1]
    assert estimate.pd_stride == 1
    assert estimate.mask_ratio == 0.2
    assert np.abs(estimate.horizontal + estimate.vertical).max() < 0.1


def test_channels_are_measured_apart():
    noise = white((SIZE, SIZE, 3), 1.0, 2) * np.array([4.0, 8.0, 16.0])
    estimate = estimate_noise(slope() + noise)
    np.testing.assert_allclose(estimate.sigma, [4, 8, 16], rtol=0.05)
    np.testing.assert_allclose(estimate.channel_correlation, np.eye(3), atol=0.03)


def test_noise_common_to_the_channels_is_seen_as_such():
    noise = np.repeat(white((SIZE, SIZE, 1), 10.0, 3), 3, axis=2)
    estimate = estimate_noise(slope() + noise)
    np.testing.assert_allclose(estimate.channel_correlation, 1, atol=0.01)


@pytest.mark.parametrize(("width", "stride"), [(2, 2), (3, 3), (4, 3)])
def test_correlated_noise_keeps_its_whole_strength(width, stride):
    noise = uniform_filter(white((SIZE, SIZE, 3), 30.0, 4), size=(width, width, 1), mode="wrap")
    estimate = estimate_noise(slope() + noise)
    # A box of width w leaves sigma / w and a triangular autocorrelation 1 - lag / w.
    np.testing.assert_allclose(estimate.sigma, 30 / width, rtol=0.12)
    triangle = np.maximum(1 - np.arange(1, 6) / width, 0)
    # Removing a plane takes lowest frequencies away, which lowers the correlation at all lags.
    np.testing.assert_allclose(estimate.horizontal, triangle, atol=0.15)
    np.testing.assert_allclose(estimate.vertical, triangle, atol=0.15)
    assert estimate.pd_stride == stride
    assert estimate.mask_ratio >= 0.5


def test_directions_of_correlation_are_not_mixed_up():
    noise = uniform_filter(white((SIZE, SIZE, 3), 30.0, 5), size=(1, 3, 1), mode="wrap")
    estimate = estimate_noise(slope() + noise)
    assert estimate.horizontal[0] > 0.5
    assert abs(estimate.vertical[0]) < 0.1


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee"])
@pytest.mark.parametrize("sigma", [10.0, 25.0, 50.0])
def test_white_noise_on_a_photograph_is_measured_within_ten_percent(name, sigma):
    clean = getattr(data, name)()[..., :3] / 255
    noisy = np.round((clean + white(clean.shape, sigma, 6)).clip(0, 1) * 255) / 255
    estimate = estimate_noise(noisy)
    assert abs(np.mean(estimate.sigma) / sigma - 1) < 0.1
    assert estimate.reliable
    assert estimate.pd_stride == 1


@pytest.mark.parametrize("seed", [0, 3])
def test_camera_noise_on_a_photograph_is_measured_within_fifteen_percent(seed):
    clean = torch.from_numpy(data.chelsea()).permute(2, 0, 1).contiguous()
    recipe = CameraNoise(levels=LevelLine(shot=(0.004, 0.012)))
    made = corrupt(clean, recipe, torch.Generator().manual_seed(seed))
    sigma = 255 * (made.noisy - made.clean).std(dim=(1, 2)).mean().item()
    estimate = estimate_noise(made.noisy.permute(1, 2, 0).numpy())
    assert abs(np.mean(estimate.sigma) / sigma - 1) < 0.15
    assert estimate.pd_stride == 2
    assert estimate.mask_ratio > 0.2


@pytest.mark.parametrize("name", ["brick", "gravel"])
def test_an_image_of_texture_alone_is_called_unreliable(name):
    estimate = estimate_noise(getattr(data, name)() / 255)
    assert not estimate.reliable
    assert estimate.interval[1] > 5 * estimate.interval[0]


def test_half_an_image_of_texture_does_not_disturb_the_other_half():
    image = slope(1)
    image[:, : SIZE // 2, 0] = data.brick()[:SIZE, : SIZE // 2] / 255
    estimate = estimate_noise(image + white(image.shape, 8.0, 7))
    assert abs(estimate.sigma[0] / 8 - 1) < 0.15


def test_bright_areas_of_texture_alone_do_not_count_in_full():
    image = slope(1) - 0.1
    texture = uniform_filter(white((SIZE, SIZE, 1), 100.0, 10), size=(2, 2, 1))
    image[:, SIZE // 2 :] = (0.75 + texture[:, SIZE // 2 :]).clip(0.01, 0.99)
    estimate = estimate_noise(image + white(image.shape, 4.0, 11))
    # Half of the groups have variance 50^2; each may count for GROUP_RANGE = 4 times 4^2 at most.
    assert 3.5 < estimate.sigma[0] < 4 * np.sqrt((1 + 4) / 2) * 1.1
    assert not estimate.reliable


def test_white_noise_gets_the_line_of_the_wavelet_fit():
    # Variance 4e-4 x + 1e-4, a line in the level.
    clean = 0.1 + 0.7 * np.broadcast_to(np.arange(SIZE) / SIZE, (SIZE, SIZE))[..., None]
    noisy = clean + np.sqrt(4e-4 * clean + 1e-4) * white((SIZE, SIZE, 1), 255, 12)
    (line,) = estimate_noise(noisy).lines
    assert line.method == "single image"
    # One seed: 95 % intervals, with half of their width to spare.
    for (low, high), truth in ((line.shot_interval, 4e-4), (line.read_interval, 1e-4)):
        assert low - (high - low) / 2 < truth < high + (high - low) / 2
    assert line.variance(0.5) == pytest.approx(3e-4, rel=0.1)


def test_correlated_noise_gets_a_curve_from_flat_patches():
    clean = 0.1 + 0.7 * np.broadcast_to(np.arange(4 * SIZE) / (4 * SIZE), (SIZE, 4 * SIZE))[..., None]
    deviation = np.sqrt(4e-4 * clean + 1e-4)
    correlated = 2 * uniform_filter(white((SIZE, 4 * SIZE, 1), 255, 13), (2, 2, 1))  # of unit variance
    (line,) = estimate_noise(clean + deviation * correlated).lines
    assert line.method == "flat patches"
    level, variance, weight = np.array(line.curve).T
    assert level.min() < 0.2
    assert level.max() > 0.7
    # Each point is known to 1 / sqrt(weight); the choice of flat patches adds 5 %.
    np.testing.assert_allclose(variance, 4e-4 * level + 1e-4, rtol=0.05 + 5 / np.sqrt(weight.min()))
    assert line.shot_interval[0] < 4e-4 < 1.2 * line.shot_interval[1]


def test_a_finer_step_tells_fainter_noise():
    faint = slope() + white((SIZE, SIZE, 3), 0.1, 14)
    np.testing.assert_allclose(estimate_noise(faint, step=1 / 65535).sigma, 0.1, rtol=0.05)


def test_a_constant_image_has_no_noise():
    estimate = estimate_noise(np.full((64, 64, 3), 0.5))
    assert max(estimate.sigma) < 0.01
    assert estimate.pd_stride == 1


def test_clipped_areas_do_not_lower_the_estimate():
    image = slope()
    image[: SIZE // 2] = 1.0
    noisy = (image + white(image.shape, 20.0, 8)).clip(0, 1)
    np.testing.assert_allclose(estimate_noise(noisy).sigma, 20, rtol=0.06)


def test_grey_images_need_no_channel_axis():
    noisy = slope(1) + white((SIZE, SIZE, 1), 12.0, 9)
    assert estimate_noise(noisy[..., 0]) == estimate_noise(noisy)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_stairs_of_raw_noise_average_to_their_mean_variance(index):
    path = SHARED / "oracles" / "noise_estimation.npz"
    if not path.exists():
        pytest.skip(f"{path.name} is too large to be part of the repository")
    oracle = np.load(path)
    estimate = estimate_noise(oracle[f"stairs_{index}"])
    truth = 255 * np.sqrt(oracle[f"stairs_{index}_var"].mean())
    assert abs(estimate.sigma[0] / truth - 1) < 0.15


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((31, 64, 3)), r"at least 32x32 pixels, got shape \(31, 64, 3\)"),
        (np.full((64, 64), np.nan), "NaN or infinite"),
    ],
)
def test_an_image_that_cannot_be_measured_is_refused(image, message):
    with pytest.raises(ValueError, match=message):
        estimate_noise(image)


@pytest.mark.parametrize(("top", "left"), [(272, 432), (304, 368), (384, 368), (448, 304)])
def test_small_pictures_whose_levels_tell_no_line_still_have_a_noise(top, left):
    # Black corners of this photograph: a few levels next to each other, or one and nothing but that.
    crop = data.astronaut()[top : top + 32, left : left + 32].astype(np.float32) / 255
    found = estimate_noise(crop)
    assert np.isfinite(found.sigma).all()
    assert all(line.shot_interval[0] <= line.shot_interval[1] for line in found.lines)
