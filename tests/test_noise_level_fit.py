"""Noise levels of one's own camera: a line from many gains, a table from few, nothing from nothing."""

import math

import numpy as np
import pytest
import torch

from noise.level_fit import Exposure, fit_levels
from noise.levels import LevelLine, LevelTable
from noise.noise_line import NoiseLine, line_through


def line(shot, read, *, told=True):
    level = np.linspace(0.02, 0.9, 20)
    curve = [(x, shot * x + read, 1e5 if told else 25.0) for x in level]
    made = line_through(curve, method="single image")
    assert (made.read is not None) == told
    return made


def test_many_gains_make_a_line_that_draws_them_again():
    rng = np.random.default_rng(0)
    shots = np.geomspace(1e-4, 1e-2, 30)
    reads = np.exp(1.9 * np.log(shots) + 0.5 + 0.2 * rng.standard_normal(30))
    # Straight to the values: a fitted curve adds its own error where read is small.
    exposures = [
        Exposure(
            line=NoiseLine(
                shot=shot, read=read, shot_interval=(shot, shot), read_interval=(read, read), method="flat pair"
            ),
            iso=index,
        )
        for index, (shot, read) in enumerate(zip(shots, reads, strict=True))
    ]
    levels = fit_levels(exposures)
    assert isinstance(levels, LevelLine)
    # sd of the slope: 0.2 / (sd of ln shot 1.37 * sqrt(30)) = 0.027; of the scatter: 0.2 / sqrt(60).
    assert levels.slope == pytest.approx(1.9, abs=0.13)
    assert levels.std == pytest.approx(0.2, abs=0.1)
    assert levels.shot == pytest.approx((1e-4, 1e-2))
    drawn = levels.draw(torch.Generator().manual_seed(0))
    assert 1e-4 <= drawn.shot <= 1e-2


def test_few_gains_make_a_table():
    exposures = [Exposure(line=line(1e-3, 2e-5), iso=400), Exposure(line=line(4e-3, 2e-4), iso=1600)]
    levels = fit_levels(exposures)
    assert isinstance(levels, LevelTable)
    np.testing.assert_allclose(levels.points, [(1e-3, 2e-5), (4e-3, 2e-4)], rtol=1e-3)


def test_exposures_of_one_iso_are_one_gain_and_their_points_are_put_together():
    # Alone none of them tells read noise; sixteen together do.
    exposures = [Exposure(line=line(1e-3, 2e-5, told=False), iso=400) for _ in range(16)]
    levels = fit_levels(exposures)
    assert isinstance(levels, LevelTable)
    assert len(levels.points) == 1
    assert levels.points[0] == pytest.approx((1e-3, 2e-5), rel=0.05)


def test_exposures_of_different_iso_are_different_gains_however_near():
    exposures = [Exposure(line=line(shot, 2e-5), iso=iso) for shot, iso in ((1e-3, 100), (1.1e-3, 125))]
    assert len(fit_levels(exposures).points) == 2


def test_without_iso_gains_are_told_apart_by_shot_noise():
    shots = (1e-3, 1.05e-3, 4e-3, 4.1e-3)
    levels = fit_levels([Exposure(line=line(shot, 2e-5)) for shot in shots])
    assert len(levels.points) == 2
    assert [round(math.log10(shot), 1) for shot, _ in levels.points] == [-3.0, -2.4]


def test_files_that_tell_nothing_give_no_levels():
    with pytest.raises(ValueError, match="none of 1 measured files tells both"):
        fit_levels([Exposure(line=line(1e-3, 2e-5, told=False))])
    with pytest.raises(ValueError, match="none of 0"):
        fit_levels([])
