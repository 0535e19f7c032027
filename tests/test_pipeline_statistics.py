"""Intervals that cover, p-values that are uniform when nothing is there, and both exact where they can be."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy import stats

from pipeline.evaluation.statistics import EXACT_UP_TO, RESAMPLES, holm, paired, sign_flip_p, spread, summarise

NOTHING = {"difference": None, "interval": None, "p": None, "wins": 0, "losses": 0, "n": 0}


def test_the_mean_leaves_out_equal_images_and_says_how_many_are_left() -> None:
    found = summarise([30.0, None, math.inf, 32.0, math.nan])
    assert found == {"mean": 31.0, "interval": None, "n": 2}
    assert summarise([None, math.inf]) == {"mean": None, "interval": None, "n": 0}
    assert summarise([]) == {"mean": None, "interval": None, "n": 0}


def test_intervals_need_six_values_and_hold_the_mean() -> None:
    values = [25.0, 31.0, 28.5, 40.0, 22.0, 29.0]
    assert summarise(values[:5])["interval"] is None
    found = summarise(values)
    low, high = found["interval"]
    assert min(values) <= low < found["mean"] < high <= max(values)
    assert summarise([7.0] * 6)["interval"] == [7.0, 7.0]


def test_the_same_values_give_the_same_digits_and_another_seed_nearly_the_same() -> None:
    values = list(np.random.default_rng(0).normal(30, 3, 40))
    assert summarise(values) == summarise(values)
    other = summarise(values, seed=1)["interval"]
    assert other != summarise(values)["interval"]
    # A percentile of 10,000 resamples is known to about a tenth of a standard error at this tail.
    assert other == pytest.approx(summarise(values)["interval"], abs=0.15 * 3 / math.sqrt(40))


@pytest.mark.parametrize("count", [10, 40])
def test_95_of_100_intervals_cover_the_mean(count: int) -> None:
    generator, trials = np.random.default_rng(count), 300
    samples = generator.normal(30, 3, (trials, count))
    intervals = np.array([summarise(list(row), seed=index)["interval"] for index, row in enumerate(samples)])
    covered = np.mean((intervals[:, 0] <= 30) & (intervals[:, 1] >= 30))
    # Four standard deviations of a share of 300, and 2 of 100 that the bootstrap itself lacks at 10 values.
    slack = 4 * math.sqrt(0.95 * 0.05 / trials)
    assert 0.93 - slack < covered
    # Not by being wide: Student's interval, exact for these draws, is as wide.
    student = 2 * stats.t.ppf(0.975, count - 1) * samples.std(axis=1, ddof=1) / math.sqrt(count)
    assert np.mean(intervals[:, 1] - intervals[:, 0]) == pytest.approx(np.mean(student), rel=0.05)


def test_paired_by_hand() -> None:
    """Differences 1, 2, -1: the sums of the 8 sign patterns are 4, 2, 0, -2, 2, 0, -2, -4, six as far out as 2."""
    found = paired([31.0, 32.0, 29.0], [30.0, 30.0, 30.0])
    assert found == {
        "difference": pytest.approx(2 / 3),
        "interval": None,
        "p": 0.75,
        "wins": 2,
        "losses": 1,
        "n": 3,
    }
    assert paired([4.0, 3.0, 2.0, 1.0], [0.0] * 4)["p"] == 2 / 16
    assert paired([], []) == NOTHING


def test_swapping_the_methods_turns_the_signs_alone() -> None:
    generator = np.random.default_rng(2)
    a, b = list(generator.normal(30, 3, 30)), list(generator.normal(30, 3, 30))
    one, other = paired(a, b), paired(b, a)
    assert other["difference"] == pytest.approx(-one["difference"])
    assert (other["wins"], other["losses"]) == (one["losses"], one["wins"])
    assert other["p"] == pytest.approx(one["p"], abs=0.02)
    assert other["interval"] == pytest.approx([-one["interval"][1], -one["interval"][0]], abs=0.1)


def test_lower_is_better_for_a_distance() -> None:
    found = paired([0.1, 0.2, 0.3], [0.2, 0.3, 0.3], higher_is_better=False)
    assert (found["wins"], found["losses"], found["n"]) == (2, 0, 3)
    assert found["difference"] == pytest.approx(-0.2 / 3)


@pytest.mark.parametrize("infinity", [None, math.inf])
def test_images_that_both_methods_restore_exactly_are_ties(infinity: float | None) -> None:
    found = paired([infinity, 31.0], [infinity, 30.0])
    assert found == {"difference": 0.5, "interval": None, "p": 1.0, "wins": 1, "losses": 0, "n": 2}


@pytest.mark.parametrize("infinity", [None, math.inf])
def test_an_image_that_one_method_restores_exactly_is_won_and_has_no_difference(infinity: float | None) -> None:
    found = paired([infinity, 31.0, 30.0], [40.0, 30.0, infinity])
    assert found == {"difference": 1.0, "interval": None, "p": 1.0, "wins": 2, "losses": 1, "n": 3}
    assert paired([infinity], [40.0]) == NOTHING | {"wins": 1, "n": 1}


def test_values_that_are_no_numbers_are_no_comparison() -> None:
    assert paired([math.nan, 31.0], [30.0, math.nan]) == NOTHING
    with pytest.raises(ValueError, match="values of the same images, got 1 and 2"):
        paired([1.0], [1.0, 2.0])


def test_small_sets_get_the_p_value_of_scipys_exact_test() -> None:
    generator = np.random.default_rng(4)
    a, b = generator.normal(0.5, 1, 9), generator.normal(0, 1, 9)
    exact = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert paired(list(a), list(b))["p"] == pytest.approx(exact, abs=1e-12)


def test_random_sign_patterns_agree_with_all_of_them() -> None:
    differences = np.random.default_rng(5).normal(0.3, 1, EXACT_UP_TO + 1)
    sums = np.zeros(1)
    for value in differences:
        sums = np.add.outer(sums, (value, -value)).ravel()
    exact = np.mean(np.abs(sums) >= abs(differences.sum()) - 1e-9)
    assert 0.01 < exact < 0.99
    found = sign_flip_p(differences)
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / RESAMPLES))
    assert found == sign_flip_p(differences)


def test_sums_that_are_equal_but_for_rounding_count_as_equal() -> None:
    differences = [7, -6, -8, 7, -9]
    assert sign_flip_p(np.array(differences) / 10) == sign_flip_p(np.array(differences, dtype=float)) == 20 / 32


def test_a_p_value_is_never_zero() -> None:
    assert sign_flip_p(np.full(100, 1.0)) == 1 / (1 + RESAMPLES)
    assert sign_flip_p(np.zeros(100)) == 1.0
    assert sign_flip_p(np.full(6, 0.1)) == 2 / 64


@pytest.mark.parametrize("count", [10, 25])
def test_p_values_are_uniform_when_neither_method_is_better(count: int) -> None:
    generator, trials = np.random.default_rng(count), 400
    ps = [sign_flip_p(row, seed=index) for index, row in enumerate(generator.laplace(0, 1, (trials, count)))]
    # 1.95 / sqrt(n): a false alarm in 1 of 1000 seeds, and the seed is fixed.
    assert stats.kstest(ps, "uniform").statistic < 1.95 / math.sqrt(trials)


def test_a_real_difference_is_found() -> None:
    generator = np.random.default_rng(8)
    hardness = generator.normal(30, 4, 24)
    found = paired(list(hardness + 0.4 + generator.normal(0, 0.3, 24)), list(hardness))
    assert found["p"] < 0.001
    low, high = found["interval"]
    slack = 4 * 0.3 / math.sqrt(24)
    assert 0.4 - slack < low < 0.4 < high < 0.4 + slack


def test_spread_over_seeds() -> None:
    assert spread([30.0, 31.0, 32.0]) == {"mean": 31.0, "sd": pytest.approx(1.0), "n": 3}
    assert spread([30.0, None]) == {"mean": 30.0, "sd": None, "n": 1}
    assert spread([]) == {"mean": None, "sd": None, "n": 0}


def test_holm_by_hand() -> None:
    """0.01 * 4, 0.02 * 3, then 0.03 * 2 = 0.06, and 0.04 * 1 not below it; the order is kept."""
    assert holm([0.04, 0.01, None, 0.03, 0.02]) == [
        pytest.approx(0.06),
        pytest.approx(0.04),
        None,
        pytest.approx(0.06),
        pytest.approx(0.06),
    ]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_sidds_1280_blocks_take_well_under_a_second() -> None:
    generator = np.random.default_rng(0)
    a, b = list(generator.normal(37, 3, 1280)), list(generator.normal(37, 3, 1280))
    paired(a[:20], b[:20])  # loads what is loaded once
    start = time.process_time()
    summarise(a)
    paired(a, b)
    assert time.process_time() - start < 2
