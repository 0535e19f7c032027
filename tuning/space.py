"""What is searched: the mask ratios of a configuration, as axes that map to overrides of its keys.

Axes are independent, so that any search algorithm can sample them; constraints (low <= high, strides that
divide the crop) hold by construction. An axis is named by the dotted key it sets, with a suffix where a key
takes two numbers.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from models import AsymmetricMasks, MaskedTraining
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.schema import TrainConfig

_MASK_COUNTS = (2, 3, 4, 5)
_PD_STRIDES = (1, 2, 3, 4, 5)
_MAX_INPUT_RATIO = 0.95
_MAX_ATTENTION_RATIO = 0.9
_DIGITS = 4
"""Decimals of a ratio: finer differences cannot be told apart, and short numbers can be copied by hand."""

Point = dict[str, Any]
"""One value for each axis."""


@dataclass(frozen=True, slots=True)
class Uniform:
    """A number between two bounds."""

    size: ClassVar[None] = None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few values."""

    values: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.values)


Axis = Uniform | Choice


def axes(config: TrainConfig) -> dict[str, Axis]:
    """Return the axes that make sense for the method and network of `config`.

    A range of input ratios is sampled as its lower bound and the share of what is left above it, which never
    puts low above high. Strides are those that divide the crop, so that all trials train on the same pixels,
    and the configuration's own.
    """
    if isinstance(config.method, MaskedTraining):
        highest = _highest(config.method)
        space: dict[str, Axis] = {
            "method.input_ratio.low": Uniform(0.0, highest),
            "method.input_ratio.width": Uniform(0.0, 1.0),
        }
        attention = _attention_ratio(config)
        if attention is not None:
            space["network.attention_ratio"] = Uniform(0.0, max(_MAX_ATTENTION_RATIO, attention))
        return space
    crop, own = config.data.crop, _asymmetric(config)
    strides = {stride for stride in _PD_STRIDES if crop % stride == 0 and crop >= 2 * stride}
    return {
        "method.mask_count": Choice(tuple(sorted({*_MASK_COUNTS, own.mask_count}))),
        "method.pd_stride": Choice(tuple(sorted(strides | {own.pd_stride}))),
    }


def _asymmetric(config: TrainConfig) -> AsymmetricMasks:
    if not isinstance(config.method, AsymmetricMasks):
        raise UserError(
            f"method.kind: expected 'masked' or 'asymmetric', which have masks, found {config.method.kind!r}"
        )
    return config.method


def _attention_ratio(config: TrainConfig) -> float | None:
    """Return the attention ratio to search around; None without one, or with a range or one a block, which stay."""
    network = config.network
    if network.kind != "masked_swin" or network.attention_ratios or isinstance(network.attention_ratio, tuple):
        return None
    return network.attention_ratio


def own_point(config: TrainConfig) -> Point:
    """Return the point of the configuration itself, which every search tries first."""
    if isinstance(config.method, MaskedTraining):
        low, high = config.method.input_ratio
        left = _highest(config.method) - low
        point: Point = {
            "method.input_ratio.low": low,
            "method.input_ratio.width": (high - low) / left if left > 0 else 0.0,
        }
        attention = _attention_ratio(config)
        if attention is not None:
            point["network.attention_ratio"] = attention
        return point
    own = _asymmetric(config)
    return {"method.mask_count": own.mask_count, "method.pd_stride": own.pd_stride}


def first_points(config: TrainConfig, seed: int) -> list[Point]:
    """Return the points to try before any random one, the configuration's own first.

    If all axes are finite these are all points, in an order given by `seed`: drawing with replacement would
    train some of them twice.
    """
    own, space = own_point(config), axes(config)
    if size(config) is None:
        return [own]
    values = [axis.values for axis in space.values() if isinstance(axis, Choice)]
    grid = [dict(zip(space, combination, strict=True)) for combination in itertools.product(*values)]

    def order(point: Point) -> str:
        return hashlib.sha256(f"{seed} {json.dumps(point)}".encode()).hexdigest()

    return [own, *sorted((point for point in grid if point != own), key=order)]


def size(config: TrainConfig) -> int | None:
    """Return the number of different points, or None where there is no end of them."""
    count = 1
    for axis in axes(config).values():
        if axis.size is None:
            return None
        count *= axis.size
    return count


def overrides(config: TrainConfig, point: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `point` changes in `config`, as `{dotted.key: value}`.

    Multi-mask inference hides as much as training did: a network fills in no more than it learned to.
    """
    if isinstance(config.method, MaskedTraining):
        low = float(point["method.input_ratio.low"])
        high = low + float(point["method.input_ratio.width"]) * (_highest(config.method) - low)
        low = round(low, _DIGITS)
        changed: dict[str, Any] = {"method.input_ratio": [low, max(low, round(high, _DIGITS))]}
        if "network.attention_ratio" in point:
            changed["network.attention_ratio"] = round(float(point["network.attention_ratio"]), _DIGITS)
        return changed
    changed = {key: int(point[key]) for key in ("method.mask_count", "method.pd_stride")}
    if config.inference.mode == "multi_mask":
        changed["inference.mask_count"] = changed["method.mask_count"]
    return changed


def trial_key(changed: Mapping[str, Any]) -> str:
    """Return a short name for a trial that depends on its overrides alone."""
    return hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]


def plain_numbers(changed: Mapping[str, Any]) -> dict[str, float]:
    """Return the overrides as one number a name, ranges as `low` and `high`, for plots and tables."""
    numbers: dict[str, float] = {}
    for key, value in changed.items():
        if isinstance(value, list):
            numbers |= {f"{key}.low": value[0], f"{key}.high": value[1]}
        elif not key.startswith("inference."):  # follows a key of the method
            numbers[key] = value
    return numbers


def _highest(method: MaskedTraining) -> float:
    return max(_MAX_INPUT_RATIO, method.input_ratio[1])
