"""Photon transfer from flat-field pairs, and the masked border: what they tell, and what they are immune to."""

import math

import numpy as np
import pytest

from noise.masked_border import measure_border
from noise.photon_transfer import photon_transfer, photon_transfer_of_pairs

SHOT, READ = 2e-3, 3e-5


def exposure(clean, rng, *, shot=SHOT, read=READ):
    return clean + np.sqrt(shot * clean + read) * rng.standard_normal(clean.shape)


def vignette(peak, shape=(480, 640)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    distance = np.hypot(y / shape[0] - 0.5, x / shape[1] - 0.5) / 0.71
    return peak * (1 - 0.95 * distance**2)


def test_a_vignetted_pair_tells_the_line_and_is_immune_to_unequal_pixels_and_dust():
    rng = np.random.default_rng(0)
    clean = vignette(0.9) * (1 + 0.03 * rng.standard_normal((480, 640)))
    clean[100:110, 200:210] *= 0.3
    line = photon_transfer(exposure(clean, rng), exposure(clean, rng))
    assert line.method == "flat pair"
    assert line.shot == pytest.approx(SHOT, rel=0.03)
    assert line.shot_interval[0] < SHOT < line.shot_interval[1]
    assert line.read_interval[0] < READ < line.read_interval[1]
    assert line.prnu == 0


def test_exposures_that_differ_in_brightness_are_taken_for_what_they_are():
    rng = np.random.default_rng(1)
    clean = vignette(0.8)
    line = photon_transfer(exposure(clean, rng), exposure(1.02 * clean, rng))
    assert line.shot == pytest.approx(1.0 * SHOT, rel=0.04)


def test_one_even_exposure_cannot_tell_and_says_what_could_be():
    rng = np.random.default_rng(2)
    clean = np.full((480, 640), 0.4)
    line = photon_transfer(exposure(clean, rng), exposure(clean, rng))
    assert line.shot is None
    assert line.read is None
    variance = SHOT * 0.4 + READ
    assert line.shot_interval[1] == pytest.approx(variance / 0.4, rel=0.05)
    assert line.read_interval[1] == pytest.approx(variance, rel=0.05)


def test_several_exposures_tell_both_within_their_intervals():
    rng = np.random.default_rng(3)
    pairs = []
    for peak in (0.0, 0.02, 0.1, 0.4, 0.8):
        clean = np.full((256, 256), peak)
        pairs.append((exposure(clean, rng), exposure(clean, rng)))
    line = photon_transfer_of_pairs(pairs, clip=(-1.0, 1.0))
    # 65536 pixels a pair: the variance of each is known to sqrt(2 / 65536 / 0.64) = 0.7 %.
    assert line.shot == pytest.approx(SHOT, rel=0.03)
    assert line.read == pytest.approx(READ, rel=0.05)
    assert line.shot_interval[1] - line.shot_interval[0] < 0.06 * SHOT


def test_clipped_blocks_do_not_count():
    rng = np.random.default_rng(4)
    clean = np.broadcast_to(np.linspace(0.2, 1.4, 640), (480, 640))
    pair = [exposure(clean, rng).clip(0, 1) for _ in range(2)]
    line = photon_transfer(*pair)
    assert line.shot == pytest.approx(SHOT, rel=0.05)
    assert max(point[0] for point in line.curve) < 1


def test_a_pair_without_pixels_between_black_and_white_is_refused():
    with pytest.raises(ValueError, match="64x64 pixels away from black and white"):
        photon_transfer(np.ones((128, 128)), np.ones((128, 128)))
    with pytest.raises(ValueError, match="of one shape, got"):
        photon_transfer(np.ones((128, 128)), np.ones((64, 128)))


def border(rng, *, read=4e-6, row=0.0, column=0.0, black=0.0, shape=(600, 40)):
    """Packed border (4, h, w): white noise, and offsets that a sensor row or column shares."""
    height, width = shape
    rows = row * rng.standard_normal((2, height, 1))
    columns = column * rng.standard_normal((2, 1, width))
    planes = [
        rows[plane // 2] + columns[plane % 2] + math.sqrt(read) * rng.standard_normal(shape) for plane in range(4)
    ]
    return np.stack(planes) + black


def test_a_border_tells_read_noise_and_black_level():
    found = measure_border(border(np.random.default_rng(0), black=-0.002))
    # Diagonal differences of 600x40 pixels: 2.25 of them make one sample, sd sqrt(2 * 2.25 / 24000) = 1.4 %.
    np.testing.assert_allclose(found.read, 4e-6, rtol=0.07)
    np.testing.assert_allclose(found.black, -0.002, atol=5 * 2e-3 / math.sqrt(24_000))
    assert all(low < 4e-6 < high for low, high in found.read_intervals)
    assert found.row == 0
    assert found.column == 0
    assert [line.method for line in found.lines()] == ["masked border"] * 4
    assert found.lines()[0].shot is None


def test_row_and_column_noise_are_told_apart_from_read_noise():
    found = measure_border(border(np.random.default_rng(1), row=1.5e-3, column=1e-3))
    np.testing.assert_allclose(found.read, 4e-6, rtol=0.07)
    # 600 rows (sd of a deviation 1/sqrt(1200) = 3 %), 80 columns (8 %).
    assert found.row == pytest.approx(1.5e-3, rel=0.15)
    assert found.column == pytest.approx(1e-3, rel=0.35)


def test_hot_pixels_and_lit_columns_at_the_edge_do_not_count():
    rng = np.random.default_rng(2)
    planes = border(rng)
    planes[:, :, -2:] += 0.2  # still in the light
    planes[:, :1] -= 0.1  # leads in
    hot = rng.random(planes.shape) < 2e-3
    planes[hot] = 0.9
    found = measure_border(planes)
    np.testing.assert_allclose(found.read, 4e-6, rtol=0.08)
    np.testing.assert_allclose(found.black, 0, atol=1e-4)
    assert found.pixels == 4 * 599 * 38
    assert found.row < 5e-4


def test_integers_of_less_than_one_level_of_noise_are_measured_too():
    step = 1 / 991
    planes = border(np.random.default_rng(4), read=(0.7 * step) ** 2, black=0.3 * step)
    found = measure_border(np.round(planes / step) * step)
    np.testing.assert_allclose(found.black, 0.3 * step, atol=5 * 0.76 * step / math.sqrt(24_000))
    np.testing.assert_allclose(found.read, (0.7**2 + 1 / 12) * step**2, rtol=0.08)


def test_too_small_a_border_tells_nothing():
    assert measure_border(border(np.random.default_rng(3), shape=(12, 40))) is None
    with pytest.raises(ValueError, match="four planes"):
        measure_border(np.zeros((3, 40, 40)))
