import math
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.evaluation.metrics import (
    DEFAULT_METRICS,
    METRICS,
    definitions,
    measure,
    pick_metrics,
    psnr_rgb_u8,
    ssim_gauss11_rgb,
)

ORACLES = Path(__file__).parent / "oracles"


@pytest.fixture(scope="module")
def oracle():
    return dict(np.load(ORACLES / "metrics.npz"))


STORED = {
    "psnr_rgb_u8": ("psnr_b0", 1e-9),
    "psnr_rgb_u8_border1": ("psnr_b1", 1e-9),
    "ssim_gauss11_rgb": ("ssim_b0", 1e-9),
    "ssim_gauss11_rgb_border1": ("ssim_b1", 1e-9),
    "psnr_y": ("psnr_y_b0", 1e-7),
    "psnr_y_border1": ("psnr_y_b1", 1e-7),
    "ssim_gauss11_y": ("ssim_y_b0", 1e-7),
    "ssim_gauss11_y_border1": ("ssim_y_b1", 1e-7),
}
"""Metric -> value of the masked-training paper's own code, and how exactly it was stored."""


@pytest.fixture(scope="module")
def photo():
    """A clean 8-bit photo and a noisy float one that leaves [0, 1] at both ends."""
    from skimage import data

    clean = data.astronaut()[100:180, 180:276]
    noisy = clean / 255 + np.random.default_rng(3).normal(0, 0.08, clean.shape)
    assert noisy.min() < 0
    assert noisy.max() > 1
    return noisy.astype(np.float32), clean


def plain(names=METRICS):
    """The metrics that need no weights."""
    return [name for name in names if not name.startswith("lpips")]


@pytest.mark.parametrize("name", STORED)
def test_metrics_equal_the_stored_values_of_the_masked_papers_code(oracle, name):
    key, tolerance = STORED[name]
    image, clean = (oracle[which][..., ::-1] for which in ("img_out", "img_gt"))
    assert METRICS[name].run(image, clean) == pytest.approx(float(oracle[key]), abs=tolerance)


def test_ssim_equals_scikit_image_with_the_same_settings(oracle):
    from skimage.metrics import structural_similarity

    out, clean = oracle["img_out"].astype(np.float64), oracle["img_gt"].astype(np.float64)
    maps = [
        structural_similarity(
            out[..., channel],
            clean[..., channel],
            win_size=11,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
            full=True,
        )[1][5:-5, 5:-5]
        for channel in range(3)
    ]
    assert ssim_gauss11_rgb(oracle["img_out"], oracle["img_gt"]) == pytest.approx(float(np.mean(maps)), abs=1e-7)


def test_psnr_of_a_known_error():
    clean = np.full((16, 16, 3), 100, np.uint8)
    assert psnr_rgb_u8(clean + np.uint8(5), clean) == pytest.approx(20 * math.log10(255 / 5))
    assert psnr_rgb_u8(clean, clean) == math.inf
    one_channel = clean.copy()
    one_channel[..., 0] += 5
    # All channels jointly: a third of the squared error, not the mean of three decibels.
    assert psnr_rgb_u8(one_channel, clean) == pytest.approx(20 * math.log10(255 / 5) + 10 * math.log10(3))


def test_floats_are_clipped_and_rounded_not_cut():
    clean = np.full((16, 16, 1), 100, np.uint8)
    assert psnr_rgb_u8(np.full((16, 16, 1), 100.4 / 255), clean) == math.inf
    assert psnr_rgb_u8(np.full((16, 16, 1), 99.6 / 255), clean) == math.inf
    white = np.full((16, 16, 1), 255, np.uint8)
    assert psnr_rgb_u8(np.full((16, 16, 1), 1.7), white) == math.inf


def test_sixteen_bit_images_are_measured_as_eight():
    clean = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    deep = clean.astype(np.uint16) * 257
    assert measure(deep, clean, ("psnr_rgb_u8", "psnr_rgb_float")) == {
        "psnr_rgb_u8": math.inf,
        "psnr_rgb_float": math.inf,
    }
    # Less than half a grey level is nothing to the one, and an error to the other.
    assert psnr_rgb_u8(deep + 64, clean) == math.inf
    assert METRICS["psnr_rgb_float"].run(deep + 64, clean) == pytest.approx(20 * math.log10(65535 / 64))


def test_equal_images_have_ssim_one_and_any_size_from_11_works():
    image = np.random.default_rng(0).random((11, 14, 1))
    assert ssim_gauss11_rgb(image, image) == pytest.approx(1)
    with pytest.raises(ValueError, match="11x11"):
        ssim_gauss11_rgb(image[:10], image[:10])


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        psnr_rgb_u8(np.zeros((4, 4, 3)), np.zeros((4, 4, 1)))


def test_the_uniform_window_equals_scikit_images_default(photo):
    from skimage.metrics import structural_similarity

    noisy, clean = photo
    eight = np.rint(np.clip(noisy.astype(np.float64), 0, 1) * 255).astype(np.uint8)
    theirs = structural_similarity(eight, clean, channel_axis=-1)
    assert METRICS["ssim_uniform7_rgb"].run(noisy, clean) == pytest.approx(float(theirs), abs=1e-9)


def test_sample_covariance_equals_scikit_image_with_gaussian_weights(photo):
    from skimage.metrics import structural_similarity

    noisy, clean = photo
    eight = np.rint(np.clip(noisy.astype(np.float64), 0, 1) * 255).astype(np.uint8)
    theirs = structural_similarity(eight, clean, channel_axis=-1, gaussian_weights=True, sigma=1.5, win_size=11)
    assert METRICS["ssim_gauss11_sample_rgb"].run(noisy, clean) == pytest.approx(float(theirs), abs=1e-9)


def test_float_metrics_equal_scikit_image_on_the_clipped_floats(photo):
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    noisy, clean = np.clip(photo[0].astype(np.float64), 0, 1), photo[1] / 255
    assert METRICS["psnr_rgb_float"].run(*photo) == pytest.approx(
        peak_signal_noise_ratio(clean, noisy, data_range=1), abs=1e-9
    )
    _, full = structural_similarity(
        noisy,
        clean,
        channel_axis=-1,
        gaussian_weights=True,
        use_sample_covariance=False,
        data_range=1,
        full=True,
    )
    assert METRICS["ssim_gauss11_rgb_float"].run(*photo) == pytest.approx(float(full[5:-5, 5:-5].mean()), abs=1e-9)


@pytest.mark.parametrize("name", ["ssim_matlab_volume", "ssim_matlab_volume_float"])
@pytest.mark.parametrize("channels", [3, 1])
def test_the_volume_ssim_equals_a_three_dimensional_convolution(photo, name, channels):
    """Restated from MATLAB's documentation of `ssim`: one 3-D kernel, values in [0, 1], dynamic range 1."""
    from scipy.ndimage import convolve

    noisy, clean = photo[0][:24, :20, :channels], photo[1][:24, :20, :channels]
    x, y = np.clip(noisy.astype(np.float64), 0, 1), clean / 255
    if name == "ssim_matlab_volume":
        x = np.round(x * 255) / 255
    step = np.arange(-5, 6)
    z = step if channels == 3 else np.zeros(1)
    squares = step[:, None, None] ** 2 + step[None, :, None] ** 2 + z[None, None, :] ** 2
    kernel = np.exp(-squares / (2 * 1.5**2))
    kernel /= kernel.sum()

    def mean(volume):
        return convolve(volume, kernel, mode="nearest")

    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean(x) * mean(y) + c1) / (mean(x) ** 2 + mean(y) ** 2 + c1)
    contrast = (2 * (mean(x * y) - mean(x) * mean(y)) + c2) / (
        mean(x * x) - mean(x) ** 2 + mean(y * y) - mean(y) ** 2 + c2
    )
    assert METRICS[name].run(noisy, clean) == pytest.approx(float((luminance * contrast).mean()), abs=1e-9)


def test_the_volume_ssim_of_a_photo_is_larger_than_the_mean_over_channels(photo):
    values = measure(*photo, ("ssim_gauss11_rgb", "ssim_matlab_volume"))
    assert values["ssim_matlab_volume"] > values["ssim_gauss11_rgb"] + 0.02


def test_the_luma_is_that_of_scikit_image(photo):
    from skimage.color import rgb2ycbcr

    noisy, clean = photo
    eight = np.rint(np.clip(noisy.astype(np.float64), 0, 1) * 255).astype(np.uint8)
    error = np.mean((rgb2ycbcr(eight)[..., 0] - rgb2ycbcr(clean)[..., 0]) ** 2)
    assert METRICS["psnr_y"].run(noisy, clean) == pytest.approx(10 * math.log10(255**2 / error), abs=1e-6)


def test_truncation_is_that_of_astype_uint8(photo):
    noisy, clean = photo
    cut = (np.clip(noisy, 0, 1) * 255).astype(np.uint8).astype(np.float64)
    expected = 10 * math.log10(255**2 / np.mean((cut - clean) ** 2))
    assert METRICS["psnr_rgb_trunc8"].run(noisy, clean) == pytest.approx(expected, abs=1e-9)
    every = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    assert METRICS["psnr_rgb_trunc8"].run(every.astype(np.float32) / np.float32(255), every) == math.inf


def test_grey_is_three_equal_channels_for_the_luma_and_itself_elsewhere(photo):
    noisy, clean = photo[0][..., :1], photo[1][..., :1]
    grey, colour = (measure(np.repeat(noisy, n, 2), np.repeat(clean, n, 2), plain()) for n in (1, 3))
    for name in plain():
        assert grey[name] == pytest.approx(colour[name], abs=1e-9), name
    # Y of grey spans 219 levels, so its error is smaller by that much.
    assert grey["psnr_y"] - grey["psnr_rgb_u8"] == pytest.approx(20 * math.log10(255 / 219), abs=1e-9)


def test_measuring_together_gives_what_each_metric_gives_alone(photo):
    together = measure(*photo, plain())
    assert list(together) == plain()
    assert together == {name: METRICS[name].run(*photo) for name in plain()}
    assert tuple(measure(*photo)) == DEFAULT_METRICS


@pytest.mark.parametrize("name", plain())
def test_every_metric_works_from_its_smallest_size_and_knows_equal_images(name):
    metric = METRICS[name]
    image = np.random.default_rng(0).random((metric.least, metric.least + 3, 3)).astype(np.float32)
    assert metric.run(image, image) == pytest.approx(math.inf if metric.unit == "dB" else 1.0)
    if metric.least > 1:
        with pytest.raises(ValueError, match=f"{name} needs at least {metric.least}x{metric.least} pixels"):
            metric.run(image[:-1], image[:-1])


def test_every_metric_has_a_definition_and_a_direction():
    assert all(name == metric.name for name, metric in METRICS.items())
    assert len({metric.short for metric in METRICS.values()}) == len(METRICS)
    for name, text in definitions(METRICS).items():
        better = "Lower" if name.startswith("lpips") else "Higher"
        assert text.endswith(f"{better} is better."), name
        assert METRICS[name].higher_is_better == (better == "Higher")


def test_unknown_metrics_are_refused_with_the_list():
    assert pick_metrics(["psnr_y", "psnr_rgb_u8", "psnr_y"]) == ("psnr_y", "psnr_rgb_u8")
    with pytest.raises(UserError, match=r"--metrics: expected names of psnr_rgb_u8, .*, found 'ssim'"):
        pick_metrics(["ssim"])
