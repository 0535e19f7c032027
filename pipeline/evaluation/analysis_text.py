"""What an analysis says, in words: its numbers, who is ahead, and what that does not mean."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

# Standard errors that a difference must exceed to be told.
_SURE = 2.0

_Value = tuple[float | None, float | None]
"""A number and its standard error."""


def conclude(result: dict[str, Any]) -> list[str]:
    """Sentences made of the numbers of ``result`` (`pipeline.evaluation.analysis.analyze`) and of nothing else."""
    labels = [model["label"] for model in result["models"]]
    reference = result["reference"]
    again = next(row["name"] for row in result["noises"] if row["again"])
    others = [row["name"] for row in result["noises"] if not row["again"] and row["name"] != reference]
    cka: dict[tuple[str, str], _Value] = {
        (row["model"], row["b"]): (row["same_layer"][-1], row["same_layer_error"][-1])
        for row in result["cka"]["noise"]
        if row["examples"] == "places"
    }
    srga: dict[tuple[str, str], _Value] = {
        (row["model"], row["noise"]): (row["srga"], row["error"]) for row in result["srga"]
    }
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


def _leaders(labels: list[str], others: list[str], values: dict[tuple[str, str], _Value], *, largest: bool) -> str:
    """Who is ahead by more than two standard errors, and under which noises."""
    ahead: dict[str | None, list[str]] = {}
    for noise in others:
        ahead.setdefault(_best([(label, *values[label, noise]) for label in labels], largest=largest), []).append(noise)
    return "; ".join(f"{label or 'no clear one'} under {', '.join(noises)}" for label, noises in ahead.items())


def _best(rows: list[tuple[str, float | None, float | None]], *, largest: bool) -> str | None:
    known = [(value, error, label) for label, value, error in rows if value is not None and error is not None]
    if len(known) < len(rows):
        return None
    known.sort(reverse=largest)
    (first, error, label), (second, other_error, _) = known[:2]
    return label if abs(first - second) > _SURE * math.hypot(error, other_error) else None


def _each(labels: list[str], values: dict[tuple[str, str], _Value], noise: str, form: str) -> str:
    return ", ".join(_parts(labels, values, noise, form))


def _parts(labels: list[str], values: dict[tuple[str, str], _Value], noise: str, form: str) -> Iterator[str]:
    for label in labels:
        value, error = values[label, noise]
        spread = "" if error is None else f" ± {error:{form}}"
        yield f"unknown ({label})" if value is None else f"{value:{form}}{spread} ({label})"
