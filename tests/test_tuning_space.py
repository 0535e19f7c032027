"""The search space: only configurations that can be trained, each once, the base configuration first."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import load_config
from pipeline.errors import UserError
from pipeline.schema import TrainConfig
from tuning.objective import milestones, rungs, trial_config
from tuning.space import (
    Choice,
    LogUniform,
    Uniform,
    axes,
    first_points,
    overrides,
    own_point,
    plain_values,
    size,
    trial_key,
)

SWIN = ["network.kind=masked_swin", "network.dim=12", "network.depths=[2]", "network.heads=[2]"]


def masked(*more: str) -> TrainConfig:
    return load_config(preset="camera", overrides=more)


def asymmetric(*more: str) -> TrainConfig:
    return load_config(preset="quick", overrides=more)


@given(low=st.floats(0, 1), width=st.floats(0, 1), attention=st.floats(0, 1))
def test_every_point_of_the_box_is_a_range_that_the_schema_accepts(low: float, width: float, attention: float) -> None:
    config = masked(*SWIN)
    box = {name: (axis.low, axis.high) for name, axis in axes(config).items() if isinstance(axis, Uniform)}
    shares = {
        "method.input_ratio.low": low,
        "method.input_ratio.width": width,
        "network.attention_ratio": attention,
    }
    assert box.keys() == shares.keys()
    point = {name: box[name][0] + share * (box[name][1] - box[name][0]) for name, share in shares.items()}
    changed = trial_config(config, overrides(config, point))
    assert 0 <= changed.method.input_ratio[0] <= changed.method.input_ratio[1] <= 0.95
    assert 0 <= changed.network.attention_ratio <= 0.9


def test_low_and_width_mean_what_their_names_say() -> None:
    config = masked()
    point = {"method.input_ratio.low": 0.55, "method.input_ratio.width": 0.5}
    assert overrides(config, point) == {"method.input_ratio": [0.55, 0.75]}
    assert plain_values({"method.input_ratio": [0.55, 0.75]}) == {
        "method.input_ratio.low": 0.55,
        "method.input_ratio.high": 0.75,
    }


def test_attention_masks_are_searched_only_where_the_network_has_them() -> None:
    assert "network.attention_ratio" not in axes(masked())
    assert "network.attention_ratio" in axes(masked(*SWIN))


@pytest.mark.parametrize(
    ("crop", "strides"),
    [(120, (1, 2, 3, 4, 5)), (32, (1, 2, 4)), (20, (1, 2, 4, 5)), (8, (1, 2, 4)), (10, (1, 2, 5))],
)
def test_strides_divide_the_crop(crop: int, strides: tuple[int, ...]) -> None:
    config = asymmetric(f"data.crop={crop}")
    assert axes(config)["method.pd_stride"] == Choice(strides)
    for point in first_points(config, seed=0):
        assert trial_config(config, overrides(config, point)).data.crop == crop


def test_the_own_stride_and_count_are_searched_whatever_they_are() -> None:
    config = asymmetric("method.pd_stride=7", "method.mask_count=9", "data.crop=32")
    assert axes(config) == {
        "method.mask_count": Choice((2, 3, 4, 5, 9)),
        "method.pd_stride": Choice((1, 2, 4, 7)),
    }


@pytest.mark.parametrize(
    "config",
    [
        asymmetric(),
        asymmetric("method.pd_stride=5", "method.mask_count=4", "inference.mask_count=4"),
        masked(),
        masked("method.input_ratio=[0.8, 0.9]"),
        masked("method.input_ratio=[0.97, 0.99]"),
        masked("method.input_ratio=[0.3, 1.0]"),
        masked(*SWIN, "network.attention_ratio=0.95"),
    ],
)
def test_the_first_point_is_the_configuration_itself(config: TrainConfig) -> None:
    point = first_points(config, seed=3)[0]
    assert point == own_point(config)
    assert trial_config(config, overrides(config, point)) == config


def test_a_finite_space_is_gone_through_once_in_the_order_of_the_seed() -> None:
    config = asymmetric()
    points = first_points(config, seed=0)
    keys = [trial_key(overrides(config, point)) for point in points]
    assert size(config) == 20
    assert len(set(keys)) == len(keys) == 20
    assert first_points(config, seed=0) == points
    assert first_points(config, seed=1) != points
    assert size(masked()) is None


def test_multi_mask_inference_follows_the_mask_count_of_training() -> None:
    point = {"method.mask_count": 4, "method.pd_stride": 1}
    assert overrides(asymmetric(), point)["inference.mask_count"] == 4
    assert "inference.mask_count" not in overrides(asymmetric("inference.mode=direct"), point)


def test_a_trial_s_name_depends_on_its_values_and_not_on_their_order() -> None:
    first: dict[str, Any] = {"a": 1, "b": [0.1, 0.2]}
    assert trial_key(first) == trial_key({"b": [0.1, 0.2], "a": 1})
    assert trial_key(first) != trial_key({"a": 2, "b": [0.1, 0.2]})


@pytest.mark.parametrize(("steps", "count"), [(1, 1), (2, 1), (3, 3), (8, 3), (9, 9), (3000, 9)])
def test_short_trials_are_judged_less_often(steps: int, count: int) -> None:
    assert rungs(asymmetric(f"training.steps={steps}")) == count
    assert milestones(count) == [rung for rung in (1, 3, 9) if rung <= count]
    assert milestones(count, early=False) == [count]


EVERYTHING = {
    "asymmetric": (
        "method.mask_count",
        "method.pd_stride",
        "inference.pd_stride",
        "method.hole",
        "optimizer.lr",
        "network.width",
    ),
    "masked": ("method.input_ratio", "network.attention_ratio", "optimizer.lr", "network.dim"),
}


def value_at(axis: Uniform | LogUniform | Choice, share: float) -> float | int | str:
    if isinstance(axis, Choice):
        return axis.values[min(int(share * len(axis.values)), len(axis.values) - 1)]
    if isinstance(axis, LogUniform):
        return axis.low * (axis.high / axis.low) ** share
    return axis.low + share * (axis.high - axis.low)


@pytest.mark.parametrize("kind", EVERYTHING)
@given(data=st.data())
def test_whatever_is_searched_every_point_can_be_trained(kind: str, data: st.DataObject) -> None:
    config = (
        asymmetric("data.crop=40")
        if kind == "asymmetric"
        else masked(*SWIN, "network.heads=[3]", "network.attention_ratio=[0.6,0.8]")
    )
    chosen = tuple(data.draw(st.lists(st.sampled_from(EVERYTHING[kind]), min_size=1, unique=True)))
    space = axes(config, chosen)
    point = {name: value_at(axis, data.draw(st.floats(0, 1))) for name, axis in space.items()}
    changed = trial_config(config, overrides(config, point))  # the schema refuses what cannot be
    assert changed.data == config.data
    if kind == "asymmetric":
        assert config.data.crop % changed.method.pd_stride == config.data.crop % changed.inference.pd_stride == 0
        assert (changed.inference.hole, changed.inference.layout) == (changed.method.hole, changed.method.layout)
    elif "network.attention_ratio" in chosen:
        low, high = changed.network.attention_ratio
        assert 0 <= low <= high <= 0.9
    untouched = {"noise", "training", "trust", "tracking", "seed", "adapt", "student", "cluster", "feed"}
    assert all(getattr(changed, name) == getattr(config, name) for name in untouched)


@pytest.mark.parametrize("kind", EVERYTHING)
def test_the_first_of_everything_is_still_the_configuration_itself(kind: str) -> None:
    config = asymmetric("optimizer.lr=0.00123456") if kind == "asymmetric" else masked(*SWIN)
    assert trial_config(config, overrides(config, own_point(config, EVERYTHING[kind]))) == config


def test_a_layout_is_a_choice_only_where_the_hole_is_one_pixel() -> None:
    config = asymmetric()
    holes = axes(config, ["method.hole"])["method.hole"]
    assert isinstance(holes, Choice)
    found = [overrides(config, {"method.hole": hole}) for hole in holes.values]
    assert len({json.dumps(one) for one in found}) == len(found) == 6
    assert [one["method.layout"] for one in found if one["method.hole"] != [1, 1]] == ["random"] * 4
    assert plain_values(found[-1]) == {
        "method.hole": "3x3",
        "method.hole_shape": "box",
        "method.layout": "random",
    }


def test_the_rate_is_searched_by_factors_and_widths_are_shared_by_all_heads() -> None:
    assert axes(asymmetric("optimizer.lr=0.5"), ["optimizer.lr"]) == {"optimizer.lr": LogUniform(0.0625, 1.0)}
    assert axes(asymmetric("optimizer.lr=0.002"), ["optimizer.lr"]) == {"optimizer.lr": LogUniform(0.00025, 0.008)}
    assert axes(asymmetric("network.width=24"), ["network.width"])["network.width"] == Choice((12, 24, 36, 48))
    swin = masked(*SWIN, "network.dim=24", "network.heads=[6]")
    assert axes(swin, ["network.dim"])["network.dim"] == Choice((12, 24, 36, 48))


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (["method.ratio"], r"--search: expected one of method.input_ratio, .*, found 'method.ratio'"),
        (["network.attention_ratio"], r"--search network.attention_ratio: expected .*network.kind 'masked_swin'"),
        (["network.dim"], r"--search network.dim: expected a configuration with network.kind 'masked_swin' or"),
        (["optimizer.lr", "optimizer.lr"], r"--search: expected each key once"),
    ],
)
def test_what_cannot_be_searched_is_told_with_what_could(search: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        axes(asymmetric(), search)
