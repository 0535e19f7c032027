"""Names, numbers and sentences of the report, from an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipeline.data.paths import shown
from pipeline.evaluation.metrics import METRICS

BASELINE_NAMES = {
    "nlm": "non-local means (NLM)",
    "tv": "total variation (TV)",
    "wavelet": "wavelet BayesShrink",
    "bm3d": "BM3D",
}
"""Names on the command line -> names in words."""

SHORT_NAMES = {"nlm": "NLM", "tv": "TV", "wavelet": "wavelet", "bm3d": "BM3D"}
"""Names on the command line -> names that fit under a crop."""

METRIC_NAMES = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "mae": "MAE"}
_LEVEL = 0.05
_LIKELY = 0.05
"""A difference whose p is above may be chance, and nobody is said to beat anybody."""


def headline(evaluation: Mapping[str, Any]) -> str:
    """Name of the metric that stands first."""
    names = evaluation.get("metrics") or ["psnr_rgb_u8"]
    return str(names[0])


def metric_title(name: str) -> str:
    """Short name of a metric for the head of a column."""
    family, _, rest = name.partition("_")
    short = METRIC_NAMES.get(family, family)
    return f"{short}, dB" if family == "psnr" else short if family in METRIC_NAMES else f"{short} {rest}".strip()


def larger_is_better(metric: str) -> bool:
    """Whether more of a metric is better."""
    known = METRICS.get(metric)
    return known is None or known.higher_is_better


def models(evaluation: Mapping[str, Any]) -> list[str]:
    """Labels of the evaluated models, in order."""
    return [str(model["label"]) for model in evaluation.get("models") or []]


def kind_of(method: str, labels: list[str], methods: list[str]) -> str:
    """CSS class of a method: noisy, classical or ours, with a number from the second one on."""
    if method == "noisy":
        return "noisy"
    if method not in labels:
        index = [name for name in methods if name not in {"noisy", *labels}].index(method)
        return "classical" if index == 0 else f"k{1 + (index - 1) % 3}"
    index = labels.index(method)
    return "ours" if index == 0 else f"m{1 + (index - 1) % 5}"


def method_name(method: str, labels: list[str], *, short: bool = False) -> str:
    """Name of a method for a reader; a single model is ours."""
    if method == "noisy":
        return "noisy" if short else "noisy input"
    if method in labels:
        return "ours" if len(labels) == 1 else shown(method)
    return (SHORT_NAMES if short else BASELINE_NAMES).get(method) or shown(method)


def mean_of(row: Mapping[str, Any] | None, metric: str) -> float | None:
    """Mean of a metric of a method in a set; None for infinite or not measured."""
    found = ((row or {}).get("metrics") or {}).get(metric)
    value = found.get("mean") if isinstance(found, Mapping) else found
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def interval_of(row: Mapping[str, Any] | None, metric: str) -> tuple[float, float] | None:
    """The 95 % interval of a mean; None if unknown."""
    found = ((row or {}).get("metrics") or {}).get(metric)
    value = found.get("interval") if isinstance(found, Mapping) else None
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    return (float(value[0]), float(value[1])) if all(isinstance(end, int | float) for end in value) else None


def metric_text(metric: str, value: float | None, *, sign: bool = False) -> str:
    """Format a metric: decibels with two digits, others with four; ``equal`` for an infinite PSNR."""
    if value is None or not math.isfinite(value):
        return "equal" if metric.startswith("psnr") else ""
    digits = 2 if metric.startswith("psnr") else 4
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")


def interval_text(metric: str, interval: tuple[float, float] | None) -> str:
    """Format an interval."""
    return "" if interval is None else f"{metric_text(metric, interval[0])} to {metric_text(metric, interval[1])}"


def psnr_text(value: float | None) -> str:
    """Format decibels; ``equal`` for infinity, which JSON holds as null."""
    return metric_text("psnr", value)


def set_verdict(evaluation: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    """Say how the models did on one set, also when it is bad."""
    metric, labels = headline(evaluation), models(evaluation)
    methods, n = one["methods"], one["n"]
    plural = "pair" if n == 1 else "pairs"
    noisy = mean_of(methods.get("noisy"), metric)
    scores = {label: mean_of(methods.get(label), metric) for label in labels}
    sign = 1 if larger_is_better(metric) else -1
    known = {label: value for label, value in scores.items() if value is not None}
    if not known or noisy is None:
        return f"Measured on {n} {plural} of a noisy and a clean image."
    best = max(known, key=lambda label: sign * known[label])
    who = "our output" if len(labels) == 1 else f"{shown(best)}, the best of {len(labels)} models,"
    parts = [f"Over {n} {plural}, {who} is {_compared(metric, known[best] - noisy)} the noisy input"]
    classical = {key: mean_of(row, metric) for key, row in methods.items() if key not in {"noisy", *labels}}
    rivals = {key: value for key, value in classical.items() if value is not None}
    if rivals:
        first = max(rivals, key=lambda key: sign * rivals[key])
        name = BASELINE_NAMES.get(first, shown(first))
        which = "the classical method beside it" if len(classical) == 1 else "the best of the classical methods"
        parts.append(f"and {_compared(metric, known[best] - rivals[first])} {name}, {which}")
    return " ".join(parts) + "."


def verdict(evaluation: Mapping[str, Any]) -> str:
    """Say in a sentence or two what an evaluation found."""
    measured = [one for one in evaluation["sets"] if one["kind"] != "photos"]
    if not measured:
        return "No clean image to compare with: judge by eye, and by what was removed."
    if len(measured) == 1:
        return set_verdict(evaluation, measured[0])
    metric, labels = headline(evaluation), models(evaluation)
    sign = 1 if larger_is_better(metric) else -1
    gains, ahead = [], 0
    for one in measured:
        ours = [value for label in labels if (value := mean_of(one["methods"].get(label), metric)) is not None]
        noisy = mean_of(one["methods"].get("noisy"), metric)
        others = [mean_of(row, metric) for key, row in one["methods"].items() if key not in labels]
        if not ours or noisy is None:
            continue
        top = max(sign * value for value in ours)
        gains.append((top - sign * noisy, shown(one["name"])))
        ahead += all(value is None or top > sign * value for value in others)
    if not gains:
        return f"Measured on {len(measured)} sets."
    who = "our output" if len(labels) == 1 else f"the best of {len(labels)} models"
    (least, where_least), (most, where_most) = min(gains), max(gains)
    count = f"all {len(gains)}" if ahead == len(gains) else "none" if not ahead else f"{ahead}"
    of = "" if ahead in (len(gains),) else f" of {len(gains)}"
    rivals = "the noisy input and every classical method" if evaluation.get("baselines") else "the noisy input"
    return (
        f"{who[0].upper()}{who[1:]} is ahead of {rivals} on {count}{of} sets. "
        f"Over the noisy input it gains between {_amount(metric, least)} ({where_least}) and "
        f"{_amount(metric, most)} ({where_most})."
    )


def paired_sentences(one: Mapping[str, Any], labels: list[str], first: str) -> list[dict[str, Any]]:
    """Say in words what the paired tests of a set found in its headline metric.

    Of each model against the best classical denoiser and the other models: what else there is stands in the JSON.
    """
    found = []
    rivals = _rivals(one, labels, first)
    for test in one.get("paired") or []:
        metric, difference = str(test["metric"]), test["difference"]
        if difference is None or metric != first or test["b"] not in rivals:
            continue
        a, b = (method_name(str(test[side]), labels, short=True) for side in ("a", "b"))
        interval = test.get("interval")
        p = test.get("p_holm") if test.get("p_holm") is not None else test.get("p")
        unsure = (interval is not None and interval[0] <= 0 <= interval[1]) or (p is not None and p > _LIKELY)
        better = (difference > 0) == larger_is_better(metric)
        unit = " dB" if metric.startswith("psnr") else f" {metric_title(metric)}"
        verb = "and differ by" if unsure else "beats" if better else "falls behind"
        size = metric_text(metric, difference, sign=True) if unsure else metric_text(metric, abs(difference))
        flip = interval is not None and not unsure and difference < 0
        ends = sorted(abs(end) for end in interval) if flip else interval
        within = f"[{', '.join(metric_text(metric, end) for end in ends)}]" if ends else ""
        found.append(
            {
                "kind": "level" if unsure else "better" if better else "worse",
                "text": f"{a} and {b} differ by" if unsure else f"{a} {verb} {b} by",
                "amount": f"{size}{unit}",
                "rest": ", ".join(
                    part
                    for part in (
                        f"{within}" if within else "",
                        f"better on {test['wins']} of {test['n']} images" if test.get("wins") is not None else "",
                        p_text(test.get("p"), test.get("p_holm")),
                    )
                    if part
                ),
            }
        )
    return found


def _rivals(one: Mapping[str, Any], labels: list[str], metric: str) -> set[str]:
    """Who models are held against: each other, and the best classical denoiser, or without one the noisy input."""
    sign = 1 if larger_is_better(metric) else -1
    classical = {name: mean_of(row, metric) for name, row in one["methods"].items() if name not in {"noisy", *labels}}
    known = {name: sign * mean for name, mean in classical.items() if mean is not None}
    return {*labels, max(known, key=lambda name: known[name]) if known else "noisy"}


def p_text(p: float | None, corrected: float | None = None) -> str:
    """Format the p of a test; the one that is corrected for how many tests there were, where it is known."""
    if corrected is not None and corrected != p:
        return f"{p_text(corrected)}, corrected for the number of tests"
    if p is None:
        return ""
    return "p below 0.001" if p < 0.001 else f"p {p:.3f}" if p < 0.1 else f"p {p:.2f}"


def _amount(metric: str, value: float) -> str:
    if metric.startswith("psnr"):
        return f"{value:+.1f} dB".replace("-", "\N{MINUS SIGN}")
    return metric_text(metric, value, sign=True)


def _compared(metric: str, gain: float) -> str:
    if not metric.startswith("psnr"):
        return f"{metric_text(metric, gain, sign=True)} ({metric_title(metric)}) from"
    if abs(gain) < _LEVEL:
        return "level with"
    return f"{abs(gain):.1f} dB {'above' if gain > 0 else 'below'}"
