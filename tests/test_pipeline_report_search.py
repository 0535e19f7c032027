"""Pictures of a search in the report: what is drawn where."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from pipeline.evaluation.report import render_report
from pipeline.evaluation.report_charts import Scale
from pipeline.evaluation.report_data import ReportData
from pipeline.evaluation.report_search import importance, parallel, schedule, settings, survival
from pipeline.evaluation.report_tune import tune_board
from tests.report_data import population, tune


def corners(path: str) -> list[tuple[float, float]]:
    """Of path data, as shares of the box from its lower left."""
    pairs = [tuple(map(float, pair.split(","))) for pair in re.findall(r"[\d.]+,[\d.]+", path)]
    return [(x / 1000, 1 - y / 1000) for x, y in pairs]


def series(chart: dict[str, Any], label: str) -> dict[str, str]:
    (found,) = (one["paths"] for one in chart["series"] if one.get("label") == label)
    return dict(found)


def trial(number: int, score: float, *, state: str = "finished", **overrides: Any) -> dict[str, Any]:
    return {"key": f"t{number}", "number": number, "state": state, "score": score, "overrides": overrides}


def test_the_best_trial_is_a_line_from_its_settings_to_its_score() -> None:
    trials = [
        trial(0, 1.0, **{"optimizer.lr": 0.2, "method.hole": [1, 1], "seed.kept": 3}),
        trial(1, 5.0, **{"optimizer.lr": 0.1, "method.hole": [3, 3], "seed.kept": 3}),
        trial(2, 2.0, state="stopped", **{"optimizer.lr": 0.15, "method.hole": [1, 3], "seed.kept": 3}),
    ]
    made = parallel({"best": {"key": "t1"}, "score_name": "psnr"}, trials)
    assert made is not None
    assert [axis["name"].replace("\u200b", "") for axis in made["axes"]] == ["optimizer.lr", "method.hole", "psnr"]
    assert [mark["text"] for mark in made["axes"][1]["marks"]] == ["1x1", "1x3", "3x3"]
    assert [mark["text"] for mark in made["axes"][2]["marks"]] == ["1", "5"]
    assert np.allclose(corners(series(made, "best")["line"]), [(0, 0), (0.5, 1), (1, 1)])
    assert np.allclose(corners(series(made, "stopped early")["thin"]), [(0, 0.5), (0.5, 0.5), (1, 0.25)])
    assert parallel({}, trials[:1]) is None


def test_settings_that_follow_others_are_not_shown_and_ranges_are_two_numbers() -> None:
    overrides = {"method.input_ratio": [0.1, 0.5], "method.hole": [3, 1], "inference.hole": [3, 1], "method.k": 2}
    expected = {"method.input_ratio.low": 0.1, "method.input_ratio.high": 0.5, "method.hole": "3x1", "method.k": 2.0}
    assert settings(overrides) == expected
    assert settings({"method.pd_stride": 2, "inference.pd_stride": 1}).keys() == {
        "method.pd_stride",
        "inference.pd_stride",
    }


def test_survival_counts_the_trials_that_were_trained_on() -> None:
    found = tune()
    left, scores = survival(found, found["trials"])
    # Ten trials to the first part, six of them to the third; the frame is 8 % higher than ten.
    heights = [round(10.8 * height) for _, height in corners(left["series"][0]["paths"]["line"])]
    assert heights == [10, 10, 6, 6]
    assert corners(left["series"][0]["paths"]["line"])[1][0] == pytest.approx(1 / 3, abs=1e-3)
    assert series(scores, "best")["line"].count("M") == 1
    assert series(scores, "stopped early")["dots"].count("M") == 4
    assert survival(found, [one | {"state": "finished"} for one in found["trials"]]) == []


def test_a_leader_is_at_its_mean_with_its_deviation_as_a_bar() -> None:
    found = tune()
    board = tune_board(found)
    assert board is not None
    assert [chart["title"] for chart in board["charts"]] == [
        "optimizer.lr",
        "method.input_ratio.low",
        "method.input_ratio.high",
    ]
    (leader,) = found["leaders"]
    others = [one["score"] for one in found["trials"] if one["key"] != leader["key"]]
    low, high = leader["mean"] - leader["sd"], leader["mean"] + leader["sd"]
    y = Scale.around([*others, leader["mean"], low, high])
    paths = series(board["charts"][0], "best")
    assert [height for _, height in corners(paths["outline"])] == pytest.approx([y.at(low), y.at(high)], abs=1e-3)
    assert corners(paths["big"])[0][1] == pytest.approx(y.at(leader["mean"]), abs=1e-3)


def test_what_does_not_pass_chance_is_grey() -> None:
    made = importance(tune())
    assert made is not None
    assert [(row["label"], row["clear"], *row["cells"]) for row in made["rows"]] == [
        ("optimizer.lr", True, "61%", "30%"),
        ("method.input_ratio.low", False, "12%", "34%"),
    ]
    assert importance({}) is None


def test_a_schedule_is_drawn_over_the_steps_with_the_scores_of_those_it_came_from() -> None:
    found = population()
    found["population"]["schedule"][0] |= {
        "member": "b",
        "settings": found["population"]["members"][1]["intervals"][0]["settings"],
    }
    rate, masks, score = schedule(found, found["trials"])
    y = Scale.around([0.0008, 0.01])
    own = corners(series(rate, "the winner's schedule")["line"])
    assert [round(at, 2) for at, _ in own] == [0, 0.33, 0.33, 0.67, 0.67, 1]
    assert [height for _, height in own] == pytest.approx(
        [y.at(value) for value in (0.01, 0.01, 0.001, 0.001, 0.00125, 0.00125)], abs=1e-3
    )
    assert masks["title"] == "method.mask_count"
    heights = Scale.around([15.0, 22.5])
    line = corners(series(score, "the winner and those it took over from")["line"])
    assert [height for _, height in line] == pytest.approx([heights.at(one) for one in (15.0, 21.0, 22.5)], abs=1e-3)
    assert "dashed" in series(score, "as given")
    board = tune_board(found)
    assert board is not None
    assert (board["parallel"], board["charts"], board["survival"]) == (None, [], [])


def test_a_setting_that_is_no_number_has_its_names_at_the_axis() -> None:
    found = population()
    for member in found["population"]["members"]:
        for at, piece in enumerate(member["intervals"]):
            piece["settings"] = {"method.hole": [3, 3] if at else [1, 1]}
    for at, piece in enumerate(found["population"]["schedule"]):
        piece["settings"] = {"method.hole": [3, 3] if at else [1, 1]}
    hole, _ = schedule(found, found["trials"])
    assert [tick["text"] for tick in hole["y"]] == ["1x1", "3x3"]


def test_the_page_holds_them_all() -> None:
    html = render_report(ReportData(title="t", tune=tune()))
    for text in (
        "All values of each trial",
        "Trials in training",
        "Scores on the way",
        "What mattered",
        "standard dev",
    ):
        assert text in html
    html = render_report(ReportData(title="t", tune=population()))
    assert "Settings changed on the way" in html
    assert "All values of each trial" not in html
