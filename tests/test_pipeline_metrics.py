import math
from pathlib import Path

import numpy as np
import pytest

from pipeline.evaluation.metrics import DEFINITIONS, measure, psnr_rgb_u8, ssim_gauss11_rgb

ORACLES = Path(__file__).parent / "oracles"


@pytest.fixture(scope="module")
def oracle():
    return dict(np.load(ORACLES / "metrics.npz"))


def test_psnr_equals_the_papers_implementation(oracle):
    assert psnr_rgb_u8(oracle["img_out"], oracle["img_gt"]) == pytest.approx(float(oracle["psnr_b0"]), abs=1e-9)


def test_ssim_equals_the_papers_implementation(oracle):
    got = ssim_gauss11_rgb(oracle["img_out"], oracle["img_gt"])
    assert got == pytest.approx(float(oracle["ssim_b0"]), abs=1e-9)


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
    assert psnr_rgb_u8(clean.astype(np.uint16) * 257, clean) == math.inf


def test_equal_images_have_ssim_one_and_any_size_from_11_works():
    image = np.random.default_rng(0).random((11, 14, 1))
    assert ssim_gauss11_rgb(image, image) == pytest.approx(1)
    with pytest.raises(ValueError, match="11x11"):
        ssim_gauss11_rgb(image[:10], image[:10])


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        psnr_rgb_u8(np.zeros((4, 4, 3)), np.zeros((4, 4, 1)))


def test_every_metric_has_a_definition(oracle):
    assert measure(oracle["img_out"], oracle["img_gt"]).keys() == DEFINITIONS.keys()
