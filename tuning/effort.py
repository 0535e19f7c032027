"""What trials are judged on, and at how many draws: judging is to cost little beside training, in short trials too."""

from __future__ import annotations

import itertools
import math
import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from models import InferenceSpec, Partition, describe_inference
from pipeline.evaluation.trust_flat import APART
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
"""Of each crop: less ranks trials worse than one draw on half of it does (docs/results/tune.md)."""

_TENTH: Final = 1.1
"""Draws that cost no more than this, beside one, are taken: lattices are judged at one, and may cost nearly all."""

_PASSES_A_STEP: Final = 4
"""Forwards, and backwards, which takes nearly three times as long."""

_DEAR: Final = ("method.mask_count", "method.hole")
"""What is searched and changes how many passes a picture takes."""


@dataclass(frozen=True, slots=True)
class Effort:
    """What a trial is judged on at its end."""

    area: float
    """Part of each crop or picture, of which the middle counts: a few whole ones would tell less."""

    draws: int
    """Random draws of the masks, at most; the configuration may have fewer."""

    least: int = 1
    """Draws that cost hardly more than one."""

    @property
    def early(self) -> Effort:
        """What it is judged on before: it is compared at the same rung only, and each judging costs."""
        return replace(self, area=self.area * _HALF, draws=self.least)

    @property
    def at_draws(self) -> str:
        """Say how many draws."""
        return f"at {self.draws} draw{'s' if self.draws > 1 else ''} of the masks at most"

    def side(self, length: int) -> int:
        """Return how many pixels of a side of so many are judged."""
        # Multiples of it, for patches whose noise is known lie so far apart.
        return min(length, max(1, round(math.sqrt(self.area) * length / APART)) * APART) if self.area < 1 else length

    def inference(self, own: InferenceSpec, *, stochastic: bool) -> InferenceSpec:
        """Return the inference that a trial is judged with.

        Args:
            own: that of its configuration.
            stochastic: whether its network has attention masks to draw.
        """
        # Of lattices there are a few, which give the same but for the last digits (docs/results/tune.md).
        same = own.mode == "multi_mask" and Partition.of(own).distinct is not None and not stochastic
        return replace(own, draws=1 if same else min(own.draws, self.draws))


def judging_effort(plan: Plan, whole: int, pixels: int) -> Effort:
    """Return what trials of a search are judged on at their end; the same for all its trials.

    It is as much as costs a fiftieth of the training of a trial, by counting passes of the network: all at two draws
    if that is no more, else the middles of the crops, half of their area at least, else half of it at one draw, or at
    as many as cost hardly more. Larger holes and more masks take more passes, so they count with the mean over what is
    searched.

    Args:
        plan: the search.
        whole: how many crops or pictures there are.
        pixels: of each of them that a network is shown.
    """
    config = plan.base()
    trained = config.training.steps * config.training.batch * config.data.crop**2 * _PASSES_A_STEP
    searched = _searched(config, plan)
    passes = {
        draws: statistics.fmean(_passes_of(one, draws) for one in searched)
        for draws in range(1, max(_DRAWS, config.inference.draws) + 1)
    }
    # A draw that costs nothing changes nothing.
    more = [draws for draws in passes if draws > 1 and passes[draws] > passes[draws - 1]]
    least = max([1, *(draws for draws in more if passes[draws] <= _TENTH * passes[1])])
    draws = max([least, *(draws for draws in more if draws <= _DRAWS)])
    share = _WORTH * trained / (whole * pixels * passes[draws])
    return Effort(min(1.0, max(_HALF, share)), draws if share >= _HALF else least, least)


def _searched(config: TrainConfig, plan: Plan) -> list[TrainConfig]:
    """Return the configurations of the space that differ in how many passes a picture takes."""
    if plan.ablation is not None:
        return [config]
    own = own_point(config, plan.search)
    space = {name: axis.values for name, axis in axes(config, plan.search).items() if isinstance(axis, Choice)}
    dear = [name for name in _DEAR if name in space]
    points = [
        own | dict(zip(dear, values, strict=True)) for values in itertools.product(*(space[name] for name in dear))
    ]
    return [trial_config(config, overrides(config, point)) for point in points]


def _passes_of(config: TrainConfig, draws: int) -> int:
    """Return the passes over a picture that judging takes at so many draws."""
    stochastic = config.network.kind == "masked_swin"
    inference = Effort(1.0, draws).inference(config.inference, stochastic=stochastic)
    return int(describe_inference(inference, stochastic=stochastic)["passes"])
