"""What is made of trials once they are trained: leaders, the front, importance, sentences, pictures, tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

from pipeline.config import dump, load_config
from pipeline.errors import UserError
from tuning.ablations import ABLATIONS, rows_of, table_as_markdown, table_of
from tuning.conclusion import conclude, spell
from tuning.importance import importance_of
from tuning.pareto import front
from tuning.plan import Plan, check_plan
from tuning.plots import draw_all
from tuning.results import explained
from tuning.score import choose_scores
from tuning.space import trial_key
from tuning.summary import Summary, Trial, find_leaders, ranked, repetitions

RUNGS = 9


def trial(
    number: int, overrides: dict[str, Any], score: float, *, rung: int = RUNGS, seed: int = 0, **more: Any
) -> Trial:
    history = [{"rung": at, "score": score + 0.01 * (RUNGS - at), "step": at} for at in range(1, rung + 1)]
    seeded = {**overrides, **({"seed": seed} if seed else {})}
    values: dict[str, Any] = {
        "key": trial_key(seeded),
        "number": number,
        "overrides": overrides,
        "seed": seed,
        "state": "finished" if rung == RUNGS else "stopped",
        "score": history[-1]["score"],
        "scores": {},
        "parts": {},
        "rung": rung,
        "step": rung,
        "seconds": 1.0,
        "judging": 0.1,
        "preset": False,
        "error": None,
        "history": history,
    }
    return Trial(**(values | more))


def summary_of(trials: list[Trial], repeats: list[Trial] | None = None, mode: str = "min") -> Summary:
    leaders = find_leaders(trials, repeats or [], mode)
    best = min(trials, key=lambda one: (-one.rung, (1 if mode == "min" else -1) * (one.score or 0)))
    if leaders:
        best = next(one for one in trials if one.key == leaders[0].key)
    return Summary(
        out="",
        best=best,
        score_name="trust",
        score_mode=mode,
        score_definition="a score",
        rungs=RUNGS,
        trials=trials,
        failed=0,
        best_config=None,
        mlflow_run_id="",
        seconds=1.0,
        leaders=leaders,
        repeats=repeats or [],
    )


def plan(**more: Any) -> Plan:
    return Plan(config=dump(load_config(preset=more.pop("preset", "quick"))), samples=12, seed=0, **more)


def rate_trials(count: int = 16, noise: float = 0.0) -> list[Trial]:
    """The score depends on the stride alone; the rate is there to mislead."""
    random = np.random.default_rng(0)
    rows = [
        ({"method.pd_stride": 1 + at % 4, "optimizer.lr": float(random.uniform(1e-3, 1e-2))}, random.normal())
        for at in range(count)
    ]
    return [
        trial(at, values, 0.5 - 0.1 * values["method.pd_stride"] + noise * extra)
        for at, (values, extra) in enumerate(rows)
    ]


def test_what_decides_the_score_is_found_and_what_does_not_is_within_chance() -> None:
    found = importance_of(rate_trials(noise=0.01))
    assert found is not None
    assert next(iter(found.shares)) == "method.pd_stride"
    assert found.shares["method.pd_stride"] > 0.8 > found.chance["method.pd_stride"]
    assert found.shares["optimizer.lr"] < found.chance["optimizer.lr"]
    assert found.direction["method.pd_stride"] < -0.9


def test_scores_that_are_chance_are_said_to_be_chance() -> None:
    random = np.random.default_rng(1)
    trials = [trial(at, {"optimizer.lr": float(random.uniform())}, float(random.normal())) for at in range(24)]
    found = importance_of(trials)
    assert found is not None
    assert found.shares["optimizer.lr"] <= found.chance["optimizer.lr"]
    text = " ".join(conclude(summary_of(trials), plan(), found))
    assert "No more than shuffled scores would give: optimizer.lr" in text
    assert "mattered: it explains" not in text


def test_scores_of_different_rungs_are_not_compared() -> None:
    """Those that go on have better scores by training longer; at the rung that all reached nothing differs."""
    trials = [trial(at, {"method.pd_stride": 1 + at % 2}, 0.5, rung=9 if at % 2 else 1) for at in range(12)]
    assert importance_of(trials) is None
    assert importance_of(rate_trials(7)) is None  # too few to say anything


def test_leaders_are_ranked_by_the_mean_of_the_most_seeds() -> None:
    lucky, steady, given = {"method.pd_stride": 1}, {"method.pd_stride": 2}, {"method.pd_stride": 3}
    trials = [
        trial(0, given, 0.5, preset=True),
        trial(1, lucky, 0.30),
        trial(2, steady, 0.35),
        trial(3, {"method.pd_stride": 4}, 0.1, rung=3),
    ]
    repeats = [trial(1, lucky, 0.5, seed=1), trial(2, steady, 0.36, seed=1), trial(0, given, 0.5, seed=1)]
    leaders = find_leaders(trials, repeats, "min")
    assert [one.number for one in leaders] == [2, 1, 0]
    assert leaders[0].mean == pytest.approx(0.355)
    assert leaders[0].sd == pytest.approx(0.01 / 2**0.5)
    assert summary_of(trials, repeats).best == trials[2]
    assert [one.number for one in find_leaders(trials, repeats, "max")] == [0, 1, 2]


def test_a_network_that_does_nothing_never_wins_over_one_that_does() -> None:
    given, killed = {"optimizer.lr": 0.002}, {"optimizer.lr": 0.1}
    trials = [trial(0, given, 0.5, preset=True, effect=8.0), trial(1, killed, 0.1, effect=0.08)]
    repeats = [trial(0, given, 0.5, seed=1, effect=8.0), trial(1, killed, 0.1, seed=1, effect=0.08)]
    assert [one.number for one in ranked(trials, "min")] == [0, 1]
    assert [one.number for one in find_leaders(trials, repeats, "min")] == [0, 1]
    summary = summary_of(trials, repeats)
    assert summary.best == trials[0]
    text = " ".join(conclude(summary, plan(), None))
    assert "Dead: trial 1: the network changes noisy crops by less than rounding to 8 bits does" in text
    assert "never the winner where another one lives" in text
    dead = [replace(one, effect=0.01) for one in trials]
    text = " ".join(conclude(replace(summary, trials=dead, best=dead[0]), plan(), None))
    assert "Dead: trials 0, 1: the networks change" in text
    assert "All that were trained as long are dead" in text
    assert "Dead" not in " ".join(conclude(summary_of(rate_trials()), plan(), None))


def test_the_base_is_repeated_with_the_leaders_even_where_it_was_stopped() -> None:
    trials = [
        trial(0, {"method.pd_stride": 2}, 0.9, rung=1, preset=True),
        trial(1, {"method.pd_stride": 3}, 0.3),
        trial(2, {"method.pd_stride": 4}, 0.4),
    ]
    rows = repetitions(summary_of(trials), plan(seeds=2, leaders=1))
    assert [(row["method.pd_stride"], row["seed"]) for row in rows] == [(3, 0), (2, 0), (3, 1), (2, 1)]


def test_the_conclusion_says_whether_the_winner_is_more_than_luck() -> None:
    def text(spread: float) -> str:
        given, better = {"method.pd_stride": 2}, {"method.pd_stride": 3}
        trials = [trial(0, given, 0.5, preset=True), trial(1, better, 0.4)]
        repeats = [
            trial(number, values, mean + spread * sign, seed=seed)
            for number, values, mean in ((0, given, 0.5), (1, better, 0.4))
            for seed, sign in ((1, 1), (2, -1))
        ]
        return " ".join(conclude(summary_of(trials, repeats), plan(seeds=3), None))

    assert "trial 1, method.pd_stride=3: trust 0.4 ± 0.005 over 3 seeds" in text(0.005)
    assert "more than chance between seeds explains" in text(0.005)
    assert "no more than chance between seeds (" in text(0.2)
    assert "whether trial 1 is better than trial 0" in text(0.2)
    assert "PSNR: trust is measured without clean pictures" in text(0.2)
    alone = " ".join(conclude(summary_of([trial(0, {}, 0.5, preset=True)]), plan(), None))
    assert "no trial was trained with a second seed" in alone


def test_the_front_is_what_no_other_beats_in_everything() -> None:
    assert front([(1, 5), (2, 2), (3, 3), (5, 1), (2, 2)]) == [0, 1, 4, 3]
    assert front([(1, 1), (0, 0)]) == [1]


def test_overrides_are_spelt_as_they_are_typed() -> None:
    changed = {
        "method.input_ratio": [0.75, 0.85],
        "optimizer.lr": 2e-3,
        "method.mask_count": 3,
        "inference.mask_count": 3,
    }
    assert spell(changed) == "method.input_ratio=[0.75,0.85], optimizer.lr=0.002, method.mask_count=3"
    assert spell({}) == "as given"
    hole = {"method.hole": [3, 3], "method.hole_shape": "box", "inference.hole": [3, 3]}
    assert spell(hole) == "method.hole=[3,3], method.hole_shape=box"


def test_pictures_show_numbers_and_names_stopped_trials_and_seeds(tmp_path: Path) -> None:
    holes = ({"method.hole": [1, 1]}, {"method.hole": [3, 3]})
    trials = [
        trial(at, {**values, **holes[at % 2]}, score, rung=9 if at < 5 else 3, preset=at == 0)
        for at, (values, score) in enumerate((one.overrides, one.score or 0) for one in rate_trials(12))
    ]
    repeats = [trial(at, trials[at].overrides, 0.2, seed=1) for at in range(3)]
    summary = explained(summary_of(trials, repeats), plan())
    assert summary.importance["trials"] >= 8
    made = draw_all(tmp_path, summary, importance_of(trials))
    assert [path.name for path in made] == ["scores.png", "survival.png", "parallel.png", "importance.png"]
    for path in made:
        assert np.ptp(iio.imread(path)) > 100


def test_the_pictures_of_one_trial_as_given_are_none(tmp_path: Path) -> None:
    assert draw_all(tmp_path, summary_of([trial(0, {}, 0.5)]), None) == []


@pytest.mark.parametrize("name", ABLATIONS)
def test_each_row_of_a_paper_s_table_is_a_configuration(name: str) -> None:
    ablation = ABLATIONS[name]
    rows = rows_of(plan(preset=ablation.preset, ablation=name, seeds=2))
    assert len(rows) == 2 * len(ablation.rows)
    assert [row["seed"] for row in rows] == [0] * len(ablation.rows) + [1] * len(ablation.rows)
    assert len({json.dumps(row) for row in rows}) == len(rows)


def test_the_tables_rows_are_those_of_the_paper() -> None:
    ranges = [row.overrides["method.input_ratio"] for row in ABLATIONS["table3a"].rows]
    assert ranges == [
        [0.75, 0.75],
        [0.85, 0.85],
        [0.95, 0.95],
        [0.7, 0.8],
        [0.75, 0.85],
        [0.75, 0.9],
        [0.75, 0.95],
        [0.8, 0.9],
    ]
    assert [row.overrides["network.attention_ratio"] for row in ABLATIONS["table2"].rows] == [0.65, 0.75, 0.85]
    assert [len(ABLATIONS[name].rows) for name in ("table1", "amsnet-ratio", "amsnet-pd")] == [4, 4, 6]


def test_a_table_has_the_paper_s_shape_with_ours_beside_it() -> None:
    base = plan(preset="masked_swin", ablation="table1", seeds=2)
    rows = [row.overrides for row in ABLATIONS["table1"].rows]
    parts = {"kodak24 poisson 2": 24.5, "ssim_gauss11_rgb": 0.71}
    trials = [trial(at, row, 20.0 + at, parts=parts) for at, row in enumerate(rows[:3])]
    repeats = [trial(at, row, 20.2 + at, seed=1, parts=parts) for at, row in enumerate(rows[:3])]
    table = table_of(base, replace(summary_of(trials, repeats, "max"), score_name="psnr_quick"))
    assert table["rows"][1]["mean"] == pytest.approx(21.1)
    assert table["rows"][3]["mean"] is None
    lines = table_as_markdown(table).splitlines()
    assert lines[2] == "| input mask | attention mask | psnr_quick | SSIM | kodak24 poisson 2 | paper |"
    assert lines[5] == "| no | yes | 21.1 ± 0.14 | 0.7100 | 24.50 | 29.17 / 0.8227 |"
    assert lines[7] == "| yes | yes | - | - | - | 29.74 / 0.8672 |"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"scheduler": "hyperband"}, "--scheduler: expected one of asha, none, pbt, found 'hyperband'"),
        ({"searcher": "grid"}, "--searcher: expected one of random, optuna, found 'grid'"),
        ({"gpu_hours": 1}, "--gpu-hours: expected trials with GPUs"),
        ({"ablation": "table1", "search": ["optimizer.lr"]}, "--ablation, --search: expected one of them"),
    ],
)
def test_a_plan_whose_parts_do_not_go_together_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_plan(plan(**more))


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({}, ["trust"]),
        ({"preset": "camera"}, ["psnr_synthetic"]),
        ({"objectives": ["noise_left", "structure_lost"]}, ["noise_left", "structure_lost"]),
        ({"objectives": ["blind_l1"]}, ["blind_l1_pd2"]),
    ],
)
def test_the_score_is_the_most_telling_that_the_data_allow(more: dict[str, Any], names: list[str]) -> None:
    assert [score.name for score in choose_scores(plan(**more))] == names


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"objectives": ["psnr"]}, "--objective psnr: expected clean pictures to compare with: --pairs, or --suite"),
        ({"objectives": ["ssim"]}, "--objective: expected one of psnr, trust, .*, found 'ssim'"),
        ({"objectives": ["trust", "trust"]}, "--objective: expected each once"),
        ({"objectives": ["trust"], "preset": "camera"}, "--objective trust: expected noisy photos"),
        ({"suite": "quick"}, "--suite, --clean: expected both"),
    ],
)
def test_an_objective_without_its_data_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose_scores(plan(**more))
