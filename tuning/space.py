"""The space of a search: the axes of what is searched, its points, and the overrides that a point stands for."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError
from tuning.axes import Axis as Axis
from tuning.axes import Choice as Choice
from tuning.axes import LogUniform as LogUniform
from tuning.axes import Point as Point
from tuning.axes import Uniform as Uniform
from tuning.parameters import PARAMETERS, usual

if TYPE_CHECKING:
    from pipeline.schema import TrainConfig

SEED = "seed"
"""Axis of the training seed, in repetitions of a trial."""

FIXED = "fixed"
"""Axis whose value is the overrides themselves, as JSON: the rows of an ablation."""


def searched(config: TrainConfig, search: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the keys that are searched: those asked for, or the mask ratios of the method.

    Raises:
        UserError: an unknown key, one twice, or one that the configuration has no use for.
    """
    for key in search:
        if key not in PARAMETERS:
            raise UserError(f"--search: expected one of {', '.join(PARAMETERS)}, found {key!r}")
        if not PARAMETERS[key].axes(config):
            raise UserError(f"--search {key}: expected a configuration with {PARAMETERS[key].needs}, found another")
    if len(set(search)) < len(search):
        raise UserError(f"--search: expected each key once, found {', '.join(search)}")
    keys = tuple(search) or usual(config)
    if not keys:
        raise UserError(
            f"method.kind: expected 'masked' or 'asymmetric', which have masks, found {config.method.kind!r}"
        )
    return keys


def axes(config: TrainConfig, search: Sequence[str] = ()) -> dict[str, Axis]:
    """Return the axes of what is searched, by name: the dotted key, with a suffix where it takes two numbers."""
    return {name: axis for key in searched(config, search) for name, axis in PARAMETERS[key].axes(config).items()}


def own_point(config: TrainConfig, search: Sequence[str] = ()) -> Point:
    """Return the point of the configuration itself, which every search tries first."""
    return {name: value for key in searched(config, search) for name, value in PARAMETERS[key].own(config).items()}


def first_points(config: TrainConfig, seed: int, search: Sequence[str] = ()) -> list[Point]:
    """Return the points to try before any random one, the configuration's own first.

    If all axes are finite these are all points, in an order given by `seed`: drawing with replacement would
    train some of them twice.
    """
    own, space = own_point(config, search), axes(config, search)
    if size(config, search) is None:
        return [own]
    values = [axis.values for axis in space.values() if isinstance(axis, Choice)]
    grid = [dict(zip(space, combination, strict=True)) for combination in itertools.product(*values)]

    def order(point: Point) -> str:
        return hashlib.sha256(f"{seed} {json.dumps(point)}".encode()).hexdigest()

    return [own, *sorted((point for point in grid if point != own), key=order)]


def size(config: TrainConfig, search: Sequence[str] = ()) -> int | None:
    """Return the number of different points, or None where there is no end of them."""
    sizes = [axis.size for axis in axes(config, search).values()]
    known = [one for one in sizes if one is not None]
    return math.prod(known) if len(known) == len(sizes) else None


def overrides(config: TrainConfig, point: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `point` changes in `config`, as `{dotted.key: value}`."""
    changed: dict[str, Any] = dict(json.loads(point[FIXED])) if FIXED in point else {}
    for parameter in PARAMETERS.values():
        if any(name in point for name in parameter.axes(config)):
            changed |= parameter.changed(config, point)
    # With the configuration's own seed it is the trial itself, which may go on where it was stopped.
    if SEED in point and int(point[SEED]) != config.seed:
        changed[SEED] = int(point[SEED])
    return changed


def trial_key(changed: Mapping[str, Any]) -> str:
    """Return a short name for a trial that depends on its overrides alone."""
    return hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]


def plain_values(changed: Mapping[str, Any]) -> dict[str, float | str]:
    """Return the overrides as one value a name, ranges as `low` and `high`, for plots and tables.

    Keys of inference that follow one of the method are left out, and so is the seed.
    """
    values: dict[str, float | str] = {}
    for key, value in changed.items():
        section, _, name = key.partition(".")
        if key == SEED or (section == "inference" and f"method.{name}" in changed and name != "pd_stride"):
            continue
        if name == "hole":
            values[key] = "x".join(map(str, value))
        elif isinstance(value, list):
            values |= {f"{key}.low": value[0], f"{key}.high": value[1]}
        else:
            values[key] = value
    return values
