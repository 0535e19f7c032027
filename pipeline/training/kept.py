"""Which of two networks a run holds in the end: the one that it started from, or the one that it adapted."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from pipeline.evaluation.trust_measures import TrustMeasures

LEAST_GAIN: Final = 0.05
"""Of noise left plus structure lost, in parts of the noise's energy: a gain of 0.02 has gone with a loss of 0.15 dB
(docs/default-models.md)."""

ADAPTED: Final = "adapted"
"""Folder below a run that holds the adapted network where the start was kept."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What is kept, and why."""

    kept: Literal["start", "adapted"]
    why: str


def choose(start: TrustMeasures, adapted: TrustMeasures) -> Choice:
    """Decide by what was measured on the same held-out crops; in doubt the start stays.

    The adapted network is kept if it passes the gate or the start fails too, and if noise left plus structure lost,
    by which networks are compared without a clean image (docs/trust.md), is smaller by `LEAST_GAIN`.
    """
    from pipeline.evaluation.trust_gate import judge

    gates = judge(start), judge(adapted)
    if gates[0].passed and not gates[1].passed:
        return Choice("start", f"the adapted network fails the gate: {gates[1].why}")
    before, after = (one.noise_left + one.structure_lost for one in (start, adapted))
    if not (math.isfinite(before) and math.isfinite(after)):
        return Choice("start", "the noise of the held-out crops could not be measured, so nothing shows a gain")
    text = f"noise left plus structure lost {after:.0%}, of the start {before:.0%}"
    if after < before - LEAST_GAIN:
        return Choice("adapted", text)
    small = f"; it takes {LEAST_GAIN:.0%} less to be sure of a gain" if after < before else ""
    return Choice("start", text + small)


def keep_start(run_dir: Path, start: Path) -> None:
    """Put the start's weights in the place of the adapted ones, which are kept below `ADAPTED`."""
    weights, aside = run_dir / "weights", run_dir / ADAPTED
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(weights, aside)
    # The card last: a network whose hash it does not name is refused by whoever loads it meanwhile.
    for name in ("model.safetensors", "model.json"):
        temporary = weights / f".{name}.start"
        shutil.copyfile(start / name, temporary)
        temporary.replace(weights / name)
