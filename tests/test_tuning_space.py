"""The search space: only configurations that can be trained, each once, the base configuration first."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import load_config
from pipeline.schema import TrainConfig
from tuning.objective import rungs, trial_config
from tuning.space import (
    Choice,
    Uniform,
    axes,
    first_points,
    overrides,
    own_point,
    plain_numbers,
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
    assert plain_numbers({"method.input_ratio": [0.55, 0.75]}) == {
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
