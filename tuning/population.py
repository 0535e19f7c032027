"""A population that is trained together: after equal parts of the training the worst take over from the best.

Population-based training (Jaderberg et al., arXiv 1711.09846), in step: all members train one interval, then a quarter
of them, the worst, go on from weights and optimiser of one of the best quarter, with values near its own. What happens
after an interval is a pure function of the scores and the seed, and is written down before anybody trains on, so that
a search that was killed goes on to the same end.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pipeline.errors import UserError
from pipeline.training.rundir import write_json
from tuning.axes import Axis, Choice, LogUniform, Point
from tuning.objective import rungs
from tuning.space import axes, first_points, overrides

if TYPE_CHECKING:
    from pipeline.schema import TrainConfig
    from tuning.plan import Plan

INTERVALS: Final = 8
"""Parts of the training, after each of which but the last members may take over."""

_QUANTILE: Final = 4
"""One member in so many is among the best, or among the worst."""

_LEAST_MEMBERS: Final = 4
_REDRAW: Final = 0.25
"""Probability that a value is drawn anew instead of moved."""

_FACTOR: Final = 1.25
_SHIFT: Final = 0.1
"""Of the width of an axis."""

GIVEN: Final = "given"
"""Key of the configuration as given, trained from start to end beside the population; with the seed, if another."""

_SHAPES: Final = ("network.width", "network.dim")
_NAME = "population.json"


@dataclass(frozen=True, slots=True)
class Seat:
    """What one member does in one interval."""

    point: Point
    """Values of what is searched."""

    parent: int | None
    """Member whose weights it begins with; itself where it goes on, None at the start."""


@dataclass(slots=True)
class Generation:
    """All members in one interval."""

    seats: list[Seat]
    scores: list[float | None] = field(default_factory=list)
    """At the end of the interval, once all are through; None for a member that failed."""


def interval_count(config: TrainConfig) -> int:
    """Return the intervals of a training."""
    return min(INTERVALS, config.training.steps)


def judgements(plan: Plan) -> int:
    """Return the parts that the training of every trial is counted in: intervals of a population, else rungs."""
    return interval_count(plan.base()) if plan.scheduler == "pbt" else rungs(plan.base())


def step_after(config: TrainConfig, intervals: int) -> int:
    """Return the step at which so many intervals are over."""
    return math.ceil(intervals * config.training.steps / interval_count(config) - 1e-9)


def member_key(number: int) -> str:
    """Return what a member's folder is called."""
    return f"member{number:02d}"


def check_population(plan: Plan) -> None:
    """Refuse what a population cannot do.

    Raises:
        UserError: a table of a paper, Optuna, a shape of the network, a clock, or too few members.
    """
    config = plan.base()
    shapes = [key for key in plan.search if key in _SHAPES]
    if shapes:
        raise UserError(
            f"--search {shapes[0]}: expected what can change in the middle of training, which weights of another shape "
            "cannot; leave it out, or use --scheduler asha"
        )
    if plan.ablation is not None:
        raise UserError(
            "--scheduler pbt, --ablation: expected one of them; the rows of a table are trained as they are"
        )
    if plan.searcher != "random":
        raise UserError(f"--searcher {plan.searcher}: expected random with --scheduler pbt, which draws by itself")
    if config.training.minutes:
        raise UserError(
            f"training.minutes: expected 0 with --scheduler pbt, whose intervals are steps, found "
            f"{config.training.minutes:g}; set training.minutes=0 and training.steps"
        )
    if plan.samples < _LEAST_MEMBERS:
        raise UserError(
            f"--samples: expected {_LEAST_MEMBERS} members or more for --scheduler pbt, found {plan.samples}"
        )


def first_generation(plan: Plan) -> Generation:
    """Return where the members start: the configuration itself, and points of the space by the plan's seed."""
    config = plan.base()
    points, space = first_points(config, plan.seed, plan.search)[: plan.samples], axes(config, plan.search)
    for number in range(len(points), plan.samples):
        random = np.random.default_rng([plan.seed, 0, number])
        points.append({name: _drawn(axis, random) for name, axis in space.items()})
    return Generation([Seat(point, None) for point in points])


def next_generation(last: Generation, number: int, plan: Plan, mode: str) -> Generation:
    """Return what the members do in interval `number` (from 0) after the scores of the one before.

    A member that failed takes over from one of the best as well.
    """
    space = axes(plan.base(), plan.search)
    sign = -1 if mode == "max" else 1
    scored = [(sign * score, member) for member, score in enumerate(last.scores) if score is not None]
    order = [member for _, member in sorted(scored)]
    count = max(1, len(last.seats) // _QUANTILE)
    best = order[:count]
    losers = {member for member, score in enumerate(last.scores) if score is None}
    for member in reversed(order[count:]):
        if len(losers) < count:
            losers.add(member)
    seats = []
    for member, seat in enumerate(last.seats):
        if member not in losers:
            seats.append(Seat(seat.point, member))
            continue
        random = np.random.default_rng([plan.seed, number, member])
        parent = best[int(random.integers(len(best)))]
        seats.append(Seat(moved(last.seats[parent].point, space, random), parent))
    return Generation(seats)


def moved(point: Point, space: Mapping[str, Axis], random: np.random.Generator) -> Point:
    """Return a point near another one; each value may be drawn anew instead, with probability 1/4."""
    return {
        name: _drawn(axis, random) if random.random() < _REDRAW else _near(axis, point[name], random)
        for name, axis in space.items()
    }


def _near(axis: Axis, value: Any, random: np.random.Generator) -> Any:
    up = bool(random.integers(2))
    if isinstance(axis, Choice):
        place = axis.values.index(value) + (1 if up else -1)
        return axis.values[min(max(place, 0), len(axis.values) - 1)]
    if isinstance(axis, LogUniform):
        found = value * _FACTOR if up else value / _FACTOR
    else:
        found = value + (_SHIFT if up else -_SHIFT) * (axis.high - axis.low)
    return float(min(max(found, axis.low), axis.high))


def _drawn(axis: Axis, random: np.random.Generator) -> Any:
    if isinstance(axis, Choice):
        return axis.values[int(random.integers(len(axis.values)))]
    if isinstance(axis, LogUniform):
        return float(math.exp(random.uniform(math.log(axis.low), math.log(axis.high))))
    return float(random.uniform(axis.low, axis.high))


def best_member(generation: Generation, mode: str) -> int:
    """Return the member with the best score, the first of equals."""
    sign = -1 if mode == "max" else 1
    scored = [(sign * score, member) for member, score in enumerate(generation.scores) if score is not None]
    return min(scored)[1]


def line_of(generations: Sequence[Generation], member: int) -> list[int]:
    """Return the member that trained each interval of what `member` holds after the last one."""
    line = [member]
    for generation in reversed(generations[1:]):
        parent = generation.seats[line[0]].parent
        assert parent is not None
        line.insert(0, parent)
    return line


def settings_of(config: TrainConfig, generations: Sequence[Generation], line: Sequence[int]) -> list[dict[str, Any]]:
    """Return the overrides of each interval along a line."""
    return [
        overrides(config, generation.seats[member].point) for generation, member in zip(generations, line, strict=True)
    ]


def read_population(out: Path) -> list[Generation]:
    """Return the intervals that have begun so far; none in a new search.

    Raises:
        UserError: the file is damaged.
    """
    path = out / _NAME
    if not path.is_file():
        return []
    try:
        stored = json.loads(path.read_text("utf-8"))
        return [
            Generation([Seat(seat["point"], seat["parent"]) for seat in one["seats"]], list(one["scores"]))
            for one in stored["generations"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: expected the state of a population; {error}; use a new --out") from None


def store_population(out: Path, generations: Sequence[Generation]) -> None:
    """Write down what has been decided, atomically."""
    write_json(out / _NAME, {"generations": [asdict(one) for one in generations]})
