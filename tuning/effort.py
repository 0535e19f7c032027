"""How much of the data trials are judged on: judging is to cost little beside training, however short the trials."""

from __future__ import annotations

import itertools
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from models import describe_inference
from tuning.objective import trial_config
from tuning.space import Choice, axes, overrides, own_point

if TYPE_CHECKING:
    from pipeline.schema import TrainConfig
    from tuning.plan import Plan

DRAWS: Final = 2
"""At the end. More make all trials better by much the same, and judging many times as long; before the end one draw
ranks them as well (docs/results/tune.md)."""

_WORTH: Final = 0.02
"""Of the passes of training, those of judging at the end of a trial."""

_LEAST: Final = 0.25
_LEAST_PIXELS: Final = 300 * 300
"""A quarter of small crops ranks trials noticeably worse (docs/results/tune.md)."""

_PASSES_A_STEP: Final = 3
"""Forwards, and backwards, which takes about twice as long."""

_DEAR: Final = ("method.mask_count", "method.hole")
"""What is searched and changes how many passes a picture takes."""


def judged_count(plan: Plan, whole: int, pixels: int) -> int:
    """Return how many of the data a trial of a search is judged on at its end; the same for all its trials.

    It is as many as cost a fiftieth of the training of a trial, by counting passes of the network, but a quarter of
    them and 300x300 pixels at least: larger holes and more masks take more passes, so they count with the mean over what is searched.

    Args:
        plan: the search.
        whole: how many crops or pictures there are.
        pixels: of each of them that a network is shown.
    """
    config = plan.base()
    trained = config.training.steps * config.training.batch * config.data.crop**2 * _PASSES_A_STEP
    share = _WORTH * trained / (whole * pixels * _passes(config, plan))
    return max(1, round(whole * min(1.0, max(_LEAST, _LEAST_PIXELS / (whole * pixels), share))))


def _passes(config: TrainConfig, plan: Plan) -> float:
    """Return the passes over a picture that judging takes, on average over the space."""
    if plan.ablation is not None:
        return _passes_of(config)
    own = own_point(config, plan.search)
    space = {name: axis.values for name, axis in axes(config, plan.search).items() if isinstance(axis, Choice)}
    dear = [name for name in _DEAR if name in space]
    points = [
        own | dict(zip(dear, values, strict=True)) for values in itertools.product(*(space[name] for name in dear))
    ]
    return statistics.fmean(_passes_of(trial_config(config, overrides(config, point))) for point in points)


def _passes_of(config: TrainConfig) -> int:
    inference = replace(config.inference, draws=min(config.inference.draws, DRAWS))
    return int(describe_inference(inference, stochastic=config.network.kind == "masked_swin")["passes"])
