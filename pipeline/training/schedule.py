"""Learning rate and averaging decay as pure functions of progress."""

from __future__ import annotations

import math
from typing import Literal


def run_progress(step: int, seconds: float, *, steps: int, minutes: float) -> float:
    """Return the fraction of a run that is over, by steps or (`minutes` > 0) by the clock, whichever is further."""
    return max(step / steps, seconds / (60 * minutes)) if minutes else step / steps


def learning_rate(
    peak: float,
    progress: float,
    step: int,
    *,
    schedule: Literal["cosine", "constant", "halve"],
    warmup_steps: int,
) -> float:
    """Return the learning rate of optimiser step `step` (from 0).

    Args:
        peak: rate after the warm-up.
        progress: fraction of the run that is over, in [0, 1]; by steps, or by the clock when minutes bound the run.
        step: optimiser step, for the linear warm-up.
        schedule: `cosine` falls to zero; `halve` halves at 1/2 and again at 3/4 of the run.
        warmup_steps: steps of the warm-up.
    """
    rate = peak * min(1.0, (step + 1) / (warmup_steps + 1))
    if schedule == "cosine":
        return rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    if schedule == "halve":
        return rate * (0.25 if progress >= 0.75 else 0.5 if progress >= 0.5 else 1.0)
    return rate


def ema_decay(limit: float, step: int) -> float:
    """Return the averaging decay of step `step`: short at first, so that the random start is soon forgotten."""
    return min(limit, (1 + step) / (10 + step))
