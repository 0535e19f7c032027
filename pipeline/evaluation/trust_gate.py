"""Whether a denoiser passes, in words that say what to do about it.

The limits separate good denoisers from ones that are bad in a known way, on photos and on made noise: docs/trust.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pipeline.evaluation.trust_measures import TrustMeasures, measures_as_json

LEAST_GAIN: Final = 0.01
MOST_NOISE_LEFT: Final = 0.45
MOST_LEFT_UNSURE: Final = 0.8
"""Where hardly anything is flat, texture passes for noise, and keeping it is no fault."""

MOST_WHITER: Final = 0.35
MOST_STRUCTURE_LOST: Final = 0.75
MOST_DETAIL: Final = 0.3
SOME_STRUCTURE: Final = 0.15
MOST_BIAS: Final = 1.5
MOST_BIAS_OF_NOISE: Final = 0.15
MOST_ERROR: Final = 0.8
MOST_SELF: Final = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One measure beside its limit."""

    name: str
    """What is measured, in a few words."""

    found: str
    """What was found."""

    limit: str
    """What passes."""

    meaning: str
    """What it tells."""

    failed: str = ""
    """Why it does not pass; empty if it does."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether a denoiser can be trusted, and why not."""

    passed: bool
    why: str
    """Reasons why it failed; if it passed, what that rests on."""


def judge(measures: TrustMeasures) -> Gate:
    """Return whether a denoiser passes, and the reasons in plain words."""
    reasons = [check.failed for check in checks(measures) if check.failed]
    if reasons:
        return Gate(False, "; ".join(reasons))
    caution = "" if measures.reliable else "; hardly anything is flat, so noise and structure could not be told apart"
    return Gate(True, summary(measures) + caution)


def gate_as_json(measures: TrustMeasures) -> dict[str, Any]:
    """Return the verdict on a denoiser as its card holds it: passed, why, measures."""
    gate = judge(measures)
    return {"passed": gate.passed, "why": gate.why, "measures": measures_as_json(measures)}


def summary(measures: TrustMeasures) -> str:
    """Say the measures in one short line."""
    parts = [f"held-out loss {measures.losses.loss:.4f}"] if measures.losses else []
    if math.isfinite(measures.noise_left):
        parts += [f"noise left {measures.noise_left:.0%}", f"structure lost {measures.structure_lost:.0%}"]
    return ", ".join([*parts, f"bias {max(measures.bias, key=abs):+.1f}"])


def checks(measures: TrustMeasures) -> list[Check]:
    """Return every measure that applies, beside its limit."""
    if not all(math.isfinite(value) for value in measures.bias):
        return [
            Check(
                name="output",
                found="not finite",
                limit="finite",
                meaning="A network that diverged.",
                failed="the output is not finite: training diverged; lower optimizer.lr",
            )
        ]
    found = [*_learnt(measures), _bias(measures)]
    if measures.blind:
        found.append(_blind(measures))
    if math.isfinite(measures.noise_left):
        found += [*_noise(measures), *_structure(measures), _error(measures)]
    return found


def _learnt(measures: TrustMeasures) -> Iterator[Check]:
    if measures.losses is None:
        return
    losses = measures.losses
    gain = 1 - losses.loss / losses.loss_fill if losses.loss_fill else 0.0
    least = max(LEAST_GAIN, 2 * losses.loss_error / max(losses.loss_fill, 1e-12))
    bad = not gain >= least
    yield Check(
        name="held-out loss",
        found=f"{losses.loss:.4f}, {gain:.1%} below that of the fill",
        limit=f"at least {least:.1%} below",
        meaning="How well hidden pixels are predicted, against showing the mean of their neighbours.",
        failed=(
            "hidden pixels are predicted no better than by the mean of their neighbours "
            f"(held-out loss {losses.loss:.4f} against {losses.loss_fill:.4f}): train longer, or lower optimizer.lr"
        )
        if bad
        else "",
    )


def _bias(measures: TrustMeasures) -> Check:
    largest = max(measures.bias, key=abs)
    limit = MOST_BIAS
    if math.isfinite(measures.noise_sigma):
        limit = max(limit, MOST_BIAS_OF_NOISE * measures.noise_sigma)
    limit += 2 * measures.bias_error
    channels = ", ".join(f"{value:+.1f}" for value in measures.bias)
    return Check(
        name="bias",
        found=f"{channels} of 255",
        limit=f"at most {limit:.1f}",
        meaning="Mean of noisy minus denoised, for each channel: what is not 0 is a cast or a change of brightness.",
        failed=(
            f"brightness or colour is off by {channels} of 255: train longer, or lower optimizer.lr; "
            "--offset level mends a file"
        )
        if abs(largest) > limit
        else "",
    )


def _blind(measures: TrustMeasures) -> Check:
    return Check(
        name="own value",
        found=f"{measures.self_weight:.3f}",
        limit=f"at most {MOST_SELF}",
        meaning="How much of a pixel's own noisy value comes back at that pixel: nothing in a blind mode.",
        failed=f"it sees the pixel that it predicts ({measures.self_weight:.2f} of it), so it can copy noise"
        if abs(measures.self_weight) > MOST_SELF
        else "",
    )


def _noise(measures: TrustMeasures) -> Iterator[Check]:
    copied = (
        "it learnt the noise: train with a larger method.pd_stride or hole, or average more inference.draws"
        if measures.blind
        else "train it longer, or look at its teacher's gate"
    )
    left = measures.noise_left
    most = MOST_NOISE_LEFT if measures.reliable else MOST_LEFT_UNSURE
    yield Check(
        name="noise left",
        found=f"{left:.0%}",
        limit=f"at most {most:.0%}",
        meaning="Energy of noise that comes through, against that of the noise.",
        failed=f"{left:.0%} of the noise comes through: {copied}" if left > most else "",
    )
    if not measures.reliable:
        return
    noise, residual = measures.noise_correlation[0], measures.residual_correlation[0]
    whiter = noise - residual
    yield Check(
        name="correlation of neighbours",
        found=f"{residual:.2f} in the residual, {noise:.2f} in the noise",
        limit=f"at most {MOST_WHITER} less",
        meaning="A residual that is whiter than the noise lacks the part of the noise that neighbours share.",
        failed=f"what it removes is whiter than the noise (neighbours correlate {residual:.2f}, in the noise "
        f"{noise:.2f}): {copied}"
        if whiter > MOST_WHITER and left <= MOST_NOISE_LEFT
        else "",
    )


def _structure(measures: TrustMeasures) -> Iterator[Check]:
    lost, detail = measures.structure_lost, measures.detail_correlation
    blurred = lost > MOST_STRUCTURE_LOST or (detail > MOST_DETAIL and lost > SOME_STRUCTURE)
    yield Check(
        name="structure lost",
        found=f"{lost:.0%}",
        limit=f"at most {MOST_STRUCTURE_LOST:.0%}",
        meaning="Energy of the residual beyond that of noise at the same brightness.",
        failed=f"it blurs: the residual holds structure ({lost:.0%} of the noise energy, correlation {detail:.2f} with "
        "detail); train longer, or lower inference.pd_stride"
        if blurred
        else "",
    )
    yield Check(
        name="detail in the residual",
        found=f"{detail:.2f}",
        limit=f"at most {MOST_DETAIL}, unless structure lost is under {SOME_STRUCTURE:.0%}",
        meaning="Correlation of residual and fine detail outside flat areas: what sharpening would bring back.",
    )


def _error(measures: TrustMeasures) -> Check:
    error, other = measures.estimated_error, measures.error_of_nlm
    beside = f", that of non-local means {other:.0%}" if math.isfinite(other) else ""
    # The noise energy is that of flat areas. Where texture holds more of it, both estimates are too high, by as much.
    bad = error > MOST_ERROR and not error < other
    return Check(
        name="estimated error",
        found=f"{error:.0%}{beside}",
        limit=f"at most {MOST_ERROR:.0%}, or below that of non-local means",
        meaning="Estimated squared distance to the truth, against that of the noisy image.",
        failed=f"it is hardly closer to the truth than the noisy image (estimated error {error:.0%} of that{beside})"
        if bad
        else "",
    )
