"""Where noise levels come from: lines, tables and sensors, against the reference's draws and published numbers."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, kstest

from noise.levels import TRUSTED_PHONES, LevelLine, LevelTable, SensorLevels
from noise.sensors import CAMERAS, ELD_RANGE, PHONES
from noise.shot_read import NoiseLevel, sample_noise_level

SHARED = Path(__file__).parents[2] / "shared" / "oracles"
DRAWS = 4000
ODDS = 1e-5
"""Of a false alarm, in every test of a distribution here."""


def draws(spec, count=DRAWS, seed=1):
    generator = torch.Generator().manual_seed(seed)
    levels = [spec.draw(generator) for _ in range(count)]
    return np.log([level.shot for level in levels]), np.log([level.read for level in levels])


def test_the_default_line_is_that_of_brooks_draw_for_draw():
    ours, theirs = (torch.Generator().manual_seed(7) for _ in range(2))
    for _ in range(20):
        assert LevelLine().draw(ours) == sample_noise_level(theirs)


def test_default_levels_and_the_reference_draws_are_of_one_distribution():
    path = SHARED / "rawsynth_samplers.npz"
    if not path.exists():
        pytest.skip(f"{path.name} is too large to be part of the repository")
    data = np.load(path)
    log_shot, log_read = draws(LevelLine())
    their_shot, their_read = np.log(data["sample_shot"]), np.log(data["sample_read"])
    assert ks_2samp(log_shot, their_shot).pvalue > ODDS
    assert ks_2samp(log_read, their_read).pvalue > ODDS
    assert ks_2samp(log_read - 2.18 * log_shot, their_read - 2.18 * their_shot).pvalue > ODDS


def test_a_line_of_one_s_own_has_its_slope_intercept_and_deviation():
    log_shot, log_read = draws(LevelLine(shot=(1e-3, 1e-2), slope=1.5, intercept=-2.0, std=0.4))
    assert kstest(log_shot, "uniform", args=(math.log(1e-3), math.log(10))).pvalue > ODDS
    assert kstest(log_read - (1.5 * log_shot - 2.0), "norm", args=(0, 0.4)).pvalue > ODDS


def test_a_table_is_followed_between_its_points_in_logarithms():
    table = LevelTable(points=((1e-4, 1e-7), (1e-3, 1e-5), (1e-2, 1e-5)))
    log_shot, log_read = draws(table)
    assert kstest(log_shot, "uniform", args=(math.log(1e-4), math.log(100))).pvalue > ODDS
    below = log_shot < math.log(1e-3)
    np.testing.assert_allclose(log_read[below], math.log(1e-7) + 2 * (log_shot[below] - math.log(1e-4)), rtol=1e-12)
    np.testing.assert_allclose(log_read[~below], math.log(1e-5), rtol=1e-12)


def test_a_table_scatters_around_itself_by_its_deviation():
    _, log_read = draws(LevelTable(points=((1e-3, 1e-5),), std=0.3))
    assert kstest(log_read, "norm", args=(math.log(1e-5), 0.3)).pvalue > ODDS


def test_a_table_of_one_point_is_a_constant():
    level = LevelTable(points=((7e-4, 3e-6),)).draw(torch.Generator())
    np.testing.assert_allclose((level.shot, level.read), (7e-4, 3e-6), rtol=1e-12)


@pytest.mark.parametrize("name", PHONES)
def test_a_phone_stays_within_its_published_profiles(name):
    log_shot, log_read = draws(SensorLevels(name=name), count=200)
    points = np.log(PHONES[name])
    for drawn, column in ((log_shot, 0), (log_read, 1)):
        assert points[:, column].min() - 1e-12 <= drawn.min() <= drawn.max() <= points[:, column].max() + 1e-12


def test_the_pixel_profiles_are_those_in_its_dng_files():
    # Noise Flow's table of SIDD, Pixel at ISO 100 and 3200.
    assert PHONES["pixel"][0] == (2.28e-4, 2e-6)
    assert PHONES["pixel"][-1] == (7.029e-3, 1.79e-4)


@pytest.mark.parametrize("name", CAMERAS)
def test_a_camera_s_levels_are_its_calibration_in_normalised_units(name):
    log_shot, log_read = draws(SensorLevels(name=name))
    calibration = CAMERAS[name]
    log_gain = log_shot + math.log(ELD_RANGE)
    low, high = np.log(calibration.gain)
    assert kstest(log_gain, "uniform", args=(low, high - low)).pvalue > ODDS
    log_scale = log_read / 2 + math.log(ELD_RANGE)
    slope, bias, sigma = calibration.gaussian
    assert kstest(log_scale - (slope * log_gain + bias), "norm", args=(0, sigma)).pvalue > ODDS


def test_at_low_iso_real_cameras_read_far_noisier_than_the_default_line():
    for name in ("pixel", "A7S2", "5D4"):
        log_shot, log_read = draws(SensorLevels(name=name), count=400)
        low = log_shot < np.log(3e-4)
        above = np.median(log_read[low] - (2.18 * log_shot[low] + 1.20))
        assert above > math.log(20), name


def test_random_sensors_are_all_drawn_and_the_unreliable_phone_is_not():
    generator = torch.Generator().manual_seed(2)
    constant = SensorLevels(name="iphone_7").draw(generator)
    drawn = [SensorLevels(name="random_phone").draw(generator) for _ in range(400)]
    assert constant not in drawn
    share = np.mean([level.read == pytest.approx(2e-6) for level in drawn])  # the S6 is the one with constant read
    assert abs(share - 1 / len(TRUSTED_PHONES)) < 5 * math.sqrt(0.25 * 0.75 / 400) + 0.1  # and others near ISO 100
    highest = max(SensorLevels(name="random_camera").draw(generator).shot for _ in range(400))
    assert highest > CAMERAS["D850"].gain[1] / ELD_RANGE  # reached by the 700D alone


@pytest.mark.parametrize("spec", [LevelLine(), SensorLevels(), LevelTable(points=((1e-3, 1e-5), (1e-2, 1e-4)))])
def test_every_source_draws_as_many_numbers(spec):
    ours, other = (torch.Generator().manual_seed(3) for _ in range(2))
    assert isinstance(spec.draw(ours), NoiseLevel)
    LevelLine().draw(other)
    assert torch.rand((), generator=ours) == torch.rand((), generator=other)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LevelLine(shot=(0.0, 0.1)), "shot must be a range 0 < lowest"),
        (lambda: LevelLine(shot=(0.1, 2.0)), "shot must be a range"),
        (lambda: LevelLine(std=-1.0), "std must be finite and >= 0, got -1"),
        (lambda: LevelLine(intercept=30.0), "intercept .* ln read"),
        (lambda: LevelLine(slope=math.nan), "ln read at nan"),
        (lambda: LevelTable(points=()), "points must hold at least one"),
        (lambda: LevelTable(points=((1e-3, 0.0),)), r"above 0 and at most 1, got \(0.001, 0.0\)"),
        (lambda: LevelTable(points=((1e-2, 1e-5), (1e-3, 1e-5))), "rising shot"),
        (lambda: SensorLevels(name="pixel_9"), "name must be one of pixel, .*, random_camera, got 'pixel_9'"),
    ],
)
def test_levels_that_cannot_be_drawn_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
