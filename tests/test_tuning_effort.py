"""What trials are judged on: less where trials are short, the same for all trials of a search."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models import InferenceSpec, UNet, UNetSpec
from pipeline.config import dump, load_config
from pipeline.training.intake import read_source
from tuning.effort import Effort, judging_effort
from tuning.judge import Judge
from tuning.plan import Plan
from tuning.score import choose_scores


def plan_of(*overrides: str, preset: str = "tune_masks", **more: Any) -> Plan:
    return Plan(
        config=dump(load_config(preset=preset, overrides=list(overrides), data="photos")), samples=4, seed=0, **more
    )


# A step of tune_masks trains on 8 crops of 120x120 in 4 passes, so a fiftieth of 100 steps is 64 passes over a crop.
@pytest.mark.parametrize(
    ("steps", "search", "passes", "draws", "least"),
    [
        (100, ["method.pd_stride"], 4, 2, 1),  # two masks, two draws
        (100, ["method.mask_count"], 7, 2, 1),  # 2, 3, 4 or 5 masks
        # Lattices, all but one of the six, are judged at one draw, so two and three of that one cost hardly more.
        (100, ["method.hole"], 2 * (3 + 1 + 3 + 3 + 5 + 9) / 6, 3, 3),
        (1000, ["method.hole", "method.mask_count"], 3.5 * 24 / 6, 3, 3),
    ],
)
def test_a_fiftieth_of_the_training_is_judging_or_half_of_the_area_at_one_draw(
    steps: int, search: list[str], passes: float, draws: int, least: int
) -> None:
    plan = plan_of(f"training.steps={steps}", search=search)
    for whole in (1, 16, 200):
        worth = 0.02 * steps * 8 * 4 / passes / whole
        found = judging_effort(plan, whole, 120 * 120)
        assert found.area == pytest.approx(min(1, max(0.5, worth)))
        assert found.draws == (draws if worth >= 0.5 else least)
        assert found.early.draws == least


def test_it_is_all_of_them_in_long_trials_and_half_in_short_ones() -> None:
    for steps, parts, draws in (
        (20000, "the whole of", "2 draws"),
        (9, "the middles, 88x88 pixels, of", "1 draw "),
    ):
        plan = plan_of(f"training.steps={steps}", search=["optimizer.lr"], objectives=["trust", "blind_l1"])
        found = choose_scores(plan)
        assert [(score.count, score.side) for score in found] == [(16, 120), (32, 120)]
        for score in found:
            assert f"{parts} {score.count} held-out" in score.definition
            assert f"at {draws}" in score.definition


def test_middles_are_whole_patches_about_as_large_as_asked_for() -> None:
    assert [Effort(1.0, 1).side(length) for length in (120, 61, 7)] == [120, 61, 7]
    assert [Effort(0.5, 1).side(length) for length in (256, 120, 64, 60, 7)] == [184, 88, 48, 40, 7]
    assert Effort(0.8, 2).early == Effort(0.4, 1)
    # Where lattices are searched too, random masks would else be stopped for what more draws mend.
    assert Effort(1.0, 4, 3).early == Effort(0.5, 3, 3)
    assert Effort(0.4, 1).early.side(120) == 56


def test_the_inference_of_the_configuration_counts_with_two_draws_at_most() -> None:
    plans = [
        plan_of("training.steps=100", f"inference.draws={draws}", *more, search=["method.pd_stride"])
        for draws, more in ((1, []), (2, []), (8, []), (8, ["inference.mode=direct"]))
    ]
    found = [judging_effort(plan, 24, 120 * 120) for plan in plans]
    assert [effort.area for effort in found] == pytest.approx([1, 64 / 24 / 4, 64 / 24 / 4, 1])
    assert [effort.draws for effort in found] == [1, 2, 2, 1]


@pytest.mark.parametrize(
    ("changed", "draws"),
    [
        ({}, 4),
        ({"layout": "lattice"}, 1),
        ({"hole": (1, 3)}, 1),
        ({"hole": (3, 3), "hole_shape": "diamond"}, 1),
        ({"mode": "direct", "hole": (1, 3)}, 4),
        ({"draws": 3}, 3),
    ],
)
def test_lattices_which_are_few_are_judged_at_one_draw(changed: dict[str, Any], draws: int) -> None:
    own = InferenceSpec(mode="multi_mask", mask_count=3, draws=8)
    own = replace(own, **changed)
    assert Effort(1.0, 4).inference(own, stochastic=False) == replace(own, draws=draws)
    # Where attention is masked too, no two draws are alike.
    assert Effort(1.0, 4).inference(own, stochastic=True) == replace(own, draws=min(own.draws, 4))


@pytest.mark.parametrize("preset", ["tune_masks", "camera"])
def test_a_trial_is_judged_on_middles_and_on_smaller_ones_before_its_end(
    preset: str, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["training.steps=9", "data.crop=60", "training.batch=2", "network.width=4", "network.depth=1"]
    config = load_config(preset=preset, overrides=lines, data=str(photo_folder))
    search = ["method.hole"] if preset == "tune_masks" else ["optimizer.lr"]
    plan = Plan(config=dump(config), samples=2, seed=0, search=search, objectives=["blind_l1"] * (preset != "camera"))
    (score,) = scores = choose_scores(plan)
    assert (score.count, score.effort.area) == (32, 0.5)
    judge = Judge(scores, config, read_source(config, lambda *_: None)[0])
    network = UNet(UNetSpec(width=4, depth=1)).eval()
    shown: list[int] = []
    monkeypatch.setattr(network, "forward", lambda image, **_: shown.append(image.numel()) or image)
    judge(network, last=False)
    early = sum(shown)
    judge(network, last=True)
    passes = 2 if preset == "tune_masks" else 1
    draws = score.effort.least
    assert draws == (3 if preset == "tune_masks" else 1)
    assert early == 32 * passes * draws * 3 * 32 * 32
    whole = 4 * 3 * 60 * 60  # of four, what the network itself changes
    assert sum(shown) - early == 32 * passes * draws * 3 * 40 * 40 + whole


@pytest.mark.parametrize("ablation", ["amsnet-ratio", "table1"])
def test_tables_of_the_papers_count_with_their_own_configuration(ablation: str) -> None:
    preset = "amsnet" if ablation == "amsnet-ratio" else "masked_swin"
    plan = plan_of("training.steps=1", preset=preset, ablation=ablation)
    assert judging_effort(plan, 16, 120 * 120) == Effort(0.5, 1)
