import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pipeline.errors import UserError
from pipeline.evaluation.baselines import BASELINES, noise_sigma, pick_baselines
from pipeline.evaluation.metrics import psnr_rgb_u8


def scene(sigma, blur=0.0, channels=3):
    """A ramp with an edge, and noise of the given standard deviation in 1/255, blurred noise if asked."""
    generator = np.random.default_rng(5)
    ramp = np.linspace(0.3, 0.6, 128)[None, :, None] * np.ones((128, 128, channels))
    ramp[:, 64:] += 0.15
    noise = generator.normal(size=ramp.shape)
    if blur:
        noise = gaussian_filter(noise, (blur, blur, 0))
        noise /= noise.std()
    return np.clip(ramp + sigma / 255 * noise, 0, 1).astype(np.float32), ramp.astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", sorted(BASELINES))
def test_every_baseline_gains_at_least_3_db_on_white_noise(name, channels):
    noisy, clean = scene(15, channels=channels)
    before = noisy.copy()
    denoised = BASELINES[name](noisy)
    assert denoised.shape == noisy.shape
    assert denoised.dtype == np.float32
    assert psnr_rgb_u8(denoised, clean) > psnr_rgb_u8(noisy, clean) + 3
    assert np.array_equal(noisy, before)


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_every_baseline_gains_on_spatially_correlated_noise(name):
    """The usual wavelet estimate takes such noise for almost none, and the denoiser would do nothing."""
    noisy, clean = scene(8, blur=1.0)
    assert psnr_rgb_u8(BASELINES[name](noisy), clean) > psnr_rgb_u8(noisy, clean) + 0.5


def test_sigma_is_on_the_scale_of_the_picture_and_never_zero():
    assert noise_sigma(scene(10)[0]) == pytest.approx(10 / 255, rel=0.15)
    assert noise_sigma(np.full((64, 64, 3), 0.5, np.float32)) > 0


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (17, 12)])
def test_sigma_of_a_picture_below_the_estimators_size_is_finite(size):
    assert 0 < noise_sigma(scene(10)[0][: size[0], : size[1]]) < 1


def test_an_unknown_name_lists_what_exists():
    with pytest.raises(UserError, match=r"expected names of nlm, tv.*, found 'best'"):
        pick_baselines(["nlm", "best"])
    if "bm3d" not in BASELINES:
        with pytest.raises(UserError, match="pip install bm3d"):
            pick_baselines(["bm3d"])
    assert list(pick_baselines(("tv", "nlm", "tv"))) == ["tv", "nlm"]


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_baselines_can_be_called_side_by_side(name):
    """As `evaluate` does; a library with one pool of threads for all callers would abort the process."""
    from concurrent.futures import ThreadPoolExecutor

    noisy, _ = scene(15)
    with ThreadPoolExecutor(max_workers=3) as pool:
        results = list(pool.map(BASELINES[name], [noisy] * 6))
    # BM3D adds up its groups in the order in which its threads end.
    assert all(np.abs(result - results[0]).max() < 1 / 255 for result in results)
