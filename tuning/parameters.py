"""What can be searched: each parameter is named by the dotted key it sets, and knows its axes and their bounds.

Constraints (low <= high, strides that divide the crop, a layout only where the hole leaves one to choose) hold by
construction: every point of the axes is a configuration that can be trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from models import AsymmetricMasks, MaskedTraining
from tuning.axes import Axis, Choice, LogUniform, Point, Uniform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.schema import TrainConfig

_MASK_COUNTS = (2, 3, 4, 5)
_PD_STRIDES = (1, 2, 3, 4, 5)
_HOLES = ("1x1 random", "1x1 lattice", "1x3 box", "3x1 box", "3x3 diamond", "3x3 box")
_MAX_INPUT_RATIO = 0.95
_MAX_ATTENTION_RATIO = 0.9
_SLOWER, _FASTER = 8, 4
"""Of a preset's learning rate. What was searched beyond four times of it came to nothing (docs/results/tune.md)."""
_WIDTH_FACTORS = (0.5, 0.75, 1, 1.5, 2)
_DIGITS = 4
"""Decimals of a ratio: finer differences cannot be told apart, and short numbers can be copied by hand."""


class Parameter(Protocol):
    """One thing that can be searched."""

    @property
    def text(self) -> str:
        """What it is and between what bounds, for help and documentation."""

    @property
    def needs(self) -> str:
        """What a configuration must have for it."""

    def axes(self, config: TrainConfig) -> dict[str, Axis]:
        """Return the axes by name; none where the configuration has no such thing."""

    def own(self, config: TrainConfig) -> Point:
        """Return where the configuration itself lies on them."""

    def changed(self, config: TrainConfig, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return the dotted keys that a point of the axes sets."""


@dataclass(frozen=True, slots=True)
class Range:
    """Two numbers, low <= high: the lower bound and the share of what is left above it."""

    key: str
    highest: float
    text: str
    needs: str

    def axes(self, config: TrainConfig) -> dict[str, Axis]:
        """Return two axes, or one where the configuration has one number."""
        value = self._value(config)
        if value is None:
            return {}
        if isinstance(value, float):
            return {self.key: Uniform(0.0, max(self.highest, value))}
        return {f"{self.key}.low": Uniform(0.0, max(self.highest, value[1])), f"{self.key}.width": Uniform(0.0, 1.0)}

    def own(self, config: TrainConfig) -> Point:
        """Return the bounds that the configuration has."""
        value = self._value(config)
        if value is None or isinstance(value, float):
            return {} if value is None else {self.key: value}
        low, high = value
        left = max(self.highest, high) - low
        return {f"{self.key}.low": low, f"{self.key}.width": (high - low) / left if left > 0 else 0.0}

    def changed(self, config: TrainConfig, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return the range, or the number."""
        value = self._value(config)
        if value is None or isinstance(value, float):
            return {self.key: round(float(point[self.key]), _DIGITS)}
        low = float(point[f"{self.key}.low"])
        high = low + float(point[f"{self.key}.width"]) * (max(self.highest, value[1]) - low)
        low = round(low, _DIGITS)
        return {self.key: [low, max(low, round(high, _DIGITS))]}

    def _value(self, config: TrainConfig) -> float | tuple[float, float] | None:
        section, name = self.key.split(".")
        # One ratio for each block says more than a search can.
        if getattr(config.network, "attention_ratios", ()) and section == "network":
            return None
        value = getattr(getattr(config, section), name, None)
        return float(value) if isinstance(value, int | float) else value


@dataclass(frozen=True, slots=True)
class Count:
    """One of a few integers, the configuration's own among them."""

    key: str
    text: str
    needs: str = "method.kind 'asymmetric'"

    def axes(self, config: TrainConfig) -> dict[str, Axis]:
        """Return one axis."""
        own = self.own(config)
        if not own:
            return {}
        values: tuple[int, ...] = _MASK_COUNTS
        if self.key.endswith("pd_stride"):
            crop = config.data.crop
            # So that all trials train on the same pixels.
            values = tuple(stride for stride in _PD_STRIDES if crop % stride == 0 and crop >= 2 * stride)
        return {self.key: Choice(tuple(sorted({*values, own[self.key]})))}

    def own(self, config: TrainConfig) -> Point:
        """Return the configuration's own."""
        section, name = self.key.split(".")
        return {self.key: getattr(getattr(config, section), name)} if _asymmetric(config) else {}

    def changed(self, config: TrainConfig, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return it; multi-mask inference hides as much as training did: a network fills in what it learned to."""
        value = int(point[self.key])
        follows = self.key == "method.mask_count" and config.inference.mode == "multi_mask"
        return {self.key: value, **({"inference.mask_count": value} if follows else {})}


@dataclass(frozen=True, slots=True)
class Hole:
    """Size and shape of the hole, and, where it is one pixel, the layout of the masks."""

    text: str = "hole, its shape and the layout of the masks together: " + ", ".join(_HOLES)
    needs: str = "method.kind 'asymmetric'"

    def axes(self, config: TrainConfig) -> dict[str, Axis]:
        """Return one axis of names."""
        own = self.own(config)
        return {"method.hole": Choice(tuple(dict.fromkeys((*_HOLES, own["method.hole"]))))} if own else {}

    def own(self, config: TrainConfig) -> Point:
        """Return the name of the configuration's own hole."""
        method = config.method
        if not isinstance(method, AsymmetricMasks):
            return {}
        rows, columns = method.hole
        return {"method.hole": f"{rows}x{columns} {method.layout if rows * columns == 1 else method.hole_shape}"}

    def changed(self, config: TrainConfig, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return hole, shape and layout, for multi-mask inference as well."""
        assert isinstance(config.method, AsymmetricMasks)
        size, _, kind = str(point["method.hole"]).partition(" ")
        hole = [int(side) for side in size.split("x")]
        one = hole == [1, 1]
        values: dict[str, Any] = {
            "hole": hole,
            "hole_shape": config.method.hole_shape if one else kind,
            "layout": kind if one else config.method.layout,
        }
        sections = ("method", "inference") if config.inference.mode == "multi_mask" else ("method",)
        return {f"{section}.{name}": value for section in sections for name, value in values.items()}


@dataclass(frozen=True, slots=True)
class Rate:
    """The peak learning rate, in factors."""

    text: str = f"learning rate, by factors: from 1/{_SLOWER} to {_FASTER} times that of the configuration"
    needs: str = ""

    def axes(self, config: TrainConfig) -> dict[str, Axis]:
        """Return one axis."""
        rate = config.optimizer.lr
        return {"optimizer.lr": LogUniform(rate / _SLOWER, min(1.0, rate * _FASTER))}

    def own(self, config: TrainConfig) -> Point:
        """Return the configuration's own."""
        return {"optimizer.lr": config.optimizer.lr}

    def changed(self, config: TrainConfig, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return it, short enough to be copied by hand."""
        rate = float(point["optimizer.lr"])
        return {"optimizer.lr": rate if rate == config.optimizer.lr else float(f"{rate:.3g}")}


@dataclass(frozen=True, slots=True)
class Width:
    """Channels of the network, those that every head and level can share."""

    name: str
    text: str = "channels of the network: 0.5, 0.75, 1, 1.5 and 2 times those of the configuration"
    needs: str = ""

    def axes(self, config: TrainConfig) -> dict[str, Axis]:
        """Return one axis."""
        own = getattr(config.network, self.name, None)
        if own is None:
            return {}
        unit = math.lcm(4, *getattr(config.network, "heads", ()))
        values = {int(own * factor) for factor in _WIDTH_FACTORS if own * factor % unit == 0}
        return {f"network.{self.name}": Choice(tuple(sorted(values | {own})))}

    def own(self, config: TrainConfig) -> Point:
        """Return the configuration's own."""
        own = getattr(config.network, self.name, None)
        return {} if own is None else {f"network.{self.name}": own}

    def changed(self, config: TrainConfig, point: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Return it."""
        return {f"network.{self.name}": int(point[f"network.{self.name}"])}


def _asymmetric(config: TrainConfig) -> bool:
    return isinstance(config.method, AsymmetricMasks)


_MASKS = "mask count k, of which a mask hides 1/k: 2 to 5; that of multi-mask inference follows"
_STRIDE = "1 to 5, those that divide the crop"
PARAMETERS: Final[dict[str, Parameter]] = {
    "method.input_ratio": Range(
        "method.input_ratio",
        _MAX_INPUT_RATIO,
        f"range of the share of hidden pixels, low <= high <= {_MAX_INPUT_RATIO}",
        "method.kind 'masked'",
    ),
    "network.attention_ratio": Range(
        "network.attention_ratio",
        _MAX_ATTENTION_RATIO,
        f"share of tokens hidden from attention, at most {_MAX_ATTENTION_RATIO}; low and high where it is a range",
        "network.kind 'masked_swin' without network.attention_ratios",
    ),
    "method.mask_count": Count("method.mask_count", _MASKS),
    "method.pd_stride": Count("method.pd_stride", f"PD stride of training: {_STRIDE}"),
    "inference.pd_stride": Count("inference.pd_stride", f"PD stride of inference: {_STRIDE}"),
    "method.hole": Hole(),
    "optimizer.lr": Rate(),
    "network.width": Width("width", needs="network.kind 'unet' or 'nafnet'"),
    "network.dim": Width("dim", needs="network.kind 'masked_swin' or 'restormer'"),
}
"""All that can be searched, by the key that is given to ``--search``."""


def usual(config: TrainConfig) -> tuple[str, ...]:
    """Return what is searched unless told: the mask ratios of the method; none where it has no masks."""
    if isinstance(config.method, MaskedTraining):
        # A range of attention ratios is a decision of its own; it is searched when asked for.
        attention = isinstance(getattr(config.network, "attention_ratio", None), int | float)
        attention = attention and not getattr(config.network, "attention_ratios", ())
        return ("method.input_ratio", *(("network.attention_ratio",) if attention else ()))
    return ("method.mask_count", "method.pd_stride") if _asymmetric(config) else ()
