"""What trials are judged on, and at how many draws: judging is to cost little beside training, in short trials too."""

from __future__ import annotations

import itertools
import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from models import describe_inference
from tuning.objective import trial_config
from tuning.space import Choice, axes, overrides, own_point

if TYPE_CHECKING:
    from pipeline.schema import TrainConfig
    from tuning.plan import Plan

_DRAWS: Final = 2
"""More make all trials better by much the same, and judging many times as long (docs/results/tune.md)."""

_WORTH: Final = 0.02
"""Of the passes of training, those of judging at the end of a trial."""

_HALF: Final = 0.5
"""Less than half of the data rank trials worse than one draw on half of them does (docs/results/tune.md)."""

_PASSES_A_STEP: Final = 3
"""Forwards, and backwards, which takes about twice as long."""

_DEAR: Final = ("method.mask_count", "method.hole")
"""What is searched and changes how many passes a picture takes."""


@dataclass(frozen=True, slots=True)
class Effort:
    """What a trial is judged on at its end."""

    count: int
    """Crops or pictures."""

    draws: int
    """Random draws of the masks, at most; the configuration may have fewer."""

    @property
    def at_draws(self) -> str:
        """Say how many draws."""
        return f"at {self.draws} draw{'s' if self.draws > 1 else ''} of the masks at most"


def judging_effort(plan: Plan, whole: int, pixels: int) -> Effort:
    """Return what trials of a search are judged on at their end; the same for all its trials.

    It is as much as costs a fiftieth of the training of a trial, by counting passes of the network: all crops at two
    draws if that is no more, else fewer of them, half at least, else half at one draw. Larger holes and more masks take
    more passes, so they count with the mean over what is searched.

    Args:
        plan: the search.
        whole: how many crops or pictures there are.
        pixels: of each of them that a network is shown.
    """
    config = plan.base()
    trained = config.training.steps * config.training.batch * config.data.crop**2 * _PASSES_A_STEP
    share = _WORTH * trained / (whole * pixels * _passes(config, plan))
    return Effort(max(1, round(whole * min(1.0, max(_HALF, share)))), _DRAWS if share >= _HALF else 1)


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
    inference = replace(config.inference, draws=min(config.inference.draws, _DRAWS))
    return int(describe_inference(inference, stochastic=config.network.kind == "masked_swin")["passes"])
