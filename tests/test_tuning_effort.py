"""What trials are judged on: less where trials are short, the same for all trials of a search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models import UNet, UNetSpec
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


# A step of tune_masks trains on 8 crops of 120x120 in 3 passes, so a fiftieth of 100 steps is 48 passes over a crop.
@pytest.mark.parametrize(
    ("steps", "search", "passes"),
    [
        (100, ["method.pd_stride"], 4),  # two masks, two draws
        (100, ["method.mask_count"], 7),  # 2, 3, 4 or 5 masks
        (100, ["method.hole"], 4 * (1 + 1 + 3 + 3 + 9 + 9) / 6),
        (1000, ["method.hole", "method.mask_count"], 7 * 26 / 6),
    ],
)
def test_a_fiftieth_of_the_training_is_judging_or_half_of_the_crops_at_one_draw(
    steps: int, search: list[str], passes: float
) -> None:
    plan = plan_of(f"training.steps={steps}", search=search)
    for whole in (1, 16, 200):
        worth = 0.02 * steps * 8 * 3 / passes
        found = judging_effort(plan, whole, 120 * 120)
        assert found.count == max(1, round(min(whole, max(whole / 2, worth))))
        assert found.draws == (2 if worth >= whole / 2 else 1)


def test_it_is_all_of_them_in_long_trials_and_half_in_short_ones() -> None:
    for steps, counts, draws in ((20000, (16, 32), "2 draws"), (9, (8, 16), "1 draw ")):
        plan = plan_of(f"training.steps={steps}", search=["method.hole"], objectives=["trust", "blind_l1"])
        found = choose_scores(plan)
        assert tuple(score.effort.count for score in found) == counts
        for score in found:
            assert f"{score.effort.count} held-out" in score.definition
            assert f"at {draws}" in score.definition


def test_the_inference_of_the_configuration_counts_with_two_draws_at_most() -> None:
    plans = [
        plan_of("training.steps=100", f"inference.draws={draws}", *more, search=["method.pd_stride"])
        for draws, more in ((1, []), (2, []), (8, []), (8, ["inference.mode=direct"]))
    ]
    assert [judging_effort(plan, 40, 120 * 120).count for plan in plans] == [24, 20, 20, 40]


@pytest.mark.parametrize("preset", ["tune_masks", "camera"])
def test_a_trial_is_judged_on_as_many_and_on_half_before_its_end(
    preset: str, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["training.steps=9", "data.crop=60", "training.batch=2", "network.width=4", "network.depth=1"]
    config = load_config(preset=preset, overrides=lines, data=str(photo_folder))
    search = ["method.hole"] if preset == "tune_masks" else ["optimizer.lr"]
    plan = Plan(config=dump(config), samples=2, seed=0, search=search, objectives=["blind_l1"] * (preset != "camera"))
    (score,) = scores = choose_scores(plan)
    assert score.effort == Effort(16, 1)
    judge = Judge(scores, config, read_source(config, lambda *_: None)[0])
    network = UNet(UNetSpec(width=4, depth=1)).eval()
    shown: list[int] = []
    monkeypatch.setattr(network, "forward", lambda image, **_: shown.append(image.numel()) or image)
    judge(network, last=False)
    early = sum(shown)
    judge(network, last=True)
    passes = 2 if preset == "tune_masks" else 1
    crop = 3 * 60 * 60
    assert early == 8 * passes * crop
    assert sum(shown) - early == (16 * passes + 4) * crop  # four more for what the network itself changes


@pytest.mark.parametrize("ablation", ["amsnet-ratio", "table1"])
def test_tables_of_the_papers_count_with_their_own_configuration(ablation: str) -> None:
    preset = "amsnet" if ablation == "amsnet-ratio" else "masked_swin"
    plan = plan_of("training.steps=1", preset=preset, ablation=ablation)
    assert judging_effort(plan, 16, 120 * 120) == Effort(8, 1)
