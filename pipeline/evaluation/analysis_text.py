"""What an analysis says, in words: its numbers, who is ahead, and what that does not mean."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

# Standard errors that a difference must exceed to be told.
_SURE = 2.0


class _Value(NamedTuple):
    """A number, its standard error, and its values without each batch."""

    value: float | None
    error: float | None
    without: list[float | None]


_Values = dict[tuple[str, str], _Value]
"""By the labels of model and noise."""


def conclude(result: dict[str, Any]) -> list[str]:
    """Sentences made of the numbers of ``result`` (`pipeline.evaluation.analysis.analyze`) and of nothing else."""
    labels = [model["label"] for model in result["models"]]
    reference = result["reference"]
    again = next(row["name"] for row in result["noises"] if row["again"])
    others = [row["name"] for row in result["noises"] if not row["again"] and row["name"] != reference]
    cka = {
        (row["model"], row["b"]): _Value(row["same_layer"][-1], row["same_layer_error"][-1], row["deepest_without"])
        for row in result["cka"]["noise"]
        if row["examples"] == "places"
    }
    srga = {(row["model"], row["noise"]): _Value(row["srga"], row["error"], row["without"]) for row in result["srga"]}
    lines = [f"deepest features under {reference} and under other noise, CKA of places and SRGA:"]
    for noise in (*others, again):
        lines.append(f"{noise}: CKA {_each(labels, cka, noise, '.3f')}; SRGA {_each(labels, srga, noise, '.2f')}")
    lines.append(f"({again}) is chance alone: the same noise with another seed")
    if len(labels) > 1:
        lines.append("highest CKA: " + _leaders(labels, others, cka, largest=True))
        lines.append("lowest SRGA: " + _leaders(labels, others, srga, largest=False))
    psnr = result["psnr_rgb_u8"]
    for noise in (reference, *others):
        values = ", ".join(f"{psnr[label][noise]:.2f} dB ({label})" for label in labels)
        lines.append(f"denoised patches, {noise}: {values}")
    lines.append("alike features are no proof of good pictures: a network that only blurs has them too")
    return lines


def _leaders(labels: list[str], others: list[str], values: _Values, *, largest: bool) -> str:
    """Who is ahead, and under which noises."""
    ahead: dict[str | None, list[str]] = {}
    for noise in others:
        ahead.setdefault(_best({label: values[label, noise] for label in labels}, largest=largest), []).append(noise)
    return "; ".join(f"{label or 'no clear one'} under {', '.join(noises)}" for label, noises in ahead.items())


def _best(values: dict[str, _Value], *, largest: bool) -> str | None:
    """Who is ahead of every other by more than two standard errors of the difference."""
    if any(one.value is None or None in one.without or len(one.without) < 2 for one in values.values()):
        return None
    sign = 1 if largest else -1
    first = max(values, key=lambda label: sign * (values[label].value or 0.0))
    for label, other in values.items():
        pairs = zip(values[first].without, other.without, strict=True)
        error = _error([(a or 0.0) - (b or 0.0) for a, b in pairs])
        if label != first and abs((values[first].value or 0.0) - (other.value or 0.0)) <= _SURE * error:
            return None
    return first


def _error(without: list[float]) -> float:
    """`pipeline.evaluation.cka.jackknife_error` of a list."""
    mean = math.fsum(without) / len(without)
    return math.sqrt((len(without) - 1) / len(without) * math.fsum((value - mean) ** 2 for value in without))


def _each(labels: list[str], values: _Values, noise: str, form: str) -> str:
    parts = []
    for label in labels:
        one = values[label, noise]
        spread = "" if one.error is None else f" ± {one.error:{form}}"
        parts.append(f"unknown ({label})" if one.value is None else f"{one.value:{form}}{spread} ({label})")
    return ", ".join(parts)
