"""Every image of every set as a row: all methods, the gain as a bar, and the mean with its interval below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.data.paths import shown
from pipeline.evaluation.report_words import (
    headline,
    interval_of,
    interval_text,
    larger_is_better,
    mean_of,
    method_name,
    metric_text,
    metric_title,
    models,
)

_LONG = 24


def image_tables(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a table for every set whose images were measured."""
    return [_table(evaluation, one) for one in evaluation["sets"] if one["kind"] != "photos" and one.get("images")]


def _table(evaluation: Mapping[str, Any], one: Mapping[str, Any]) -> dict[str, Any]:
    labels, first = models(evaluation), headline(evaluation)
    rest = [str(metric) for metric in (evaluation.get("metrics") or [])[1:]]
    methods = list(one["methods"])
    ours = next((label for label in labels if label in methods), None)
    denoisers = [name for name in methods if name != "noisy"]
    sign = 1 if larger_is_better(first) else -1
    gains = [_gain(image, ours, first) for image in one["images"]]
    widest = max((abs(gain) for gain in gains if gain is not None), default=1.0) or 1.0
    signed = any(gain is not None and gain < 0 for gain in gains)
    rows = []
    for image, gain in zip(one["images"], gains, strict=True):
        values = {name: mean_of(image["methods"].get(name), first) for name in methods}
        known = [sign * value for name in denoisers if (value := values[name]) is not None]
        cells = [_cell(first, values.get(name)) for name in methods]
        for cell, name in zip(cells, methods, strict=True):
            value = values[name]
            cell["best"] = name != "noisy" and value is not None and sign * value == max(known)
        for metric in rest:
            for name in methods:
                cells.append(_cell(metric, mean_of(image["methods"].get(name), metric)))
        rows.append(
            {
                "name": shown(image["name"]),
                "cells": cells,
                "gain": "" if gain is None else metric_text(first, gain, sign=True),
                "gain_key": "" if gain is None else f"{gain:.6g}",
                "width": "0%" if gain is None else f"{(50 if signed else 100) * abs(gain) / widest:.1f}%",
                "sign": "minus" if gain is not None and gain < 0 else "plus",
            }
        )
    heads = [{"name": method_name(name, labels, short=True), "unit": metric_title(first)} for name in methods]
    heads += [
        {"name": method_name(name, labels, short=True), "unit": metric_title(metric)}
        for metric in rest
        for name in methods
    ]
    foot = [
        {"text": metric_text(metric, mean_of(one["methods"][name], metric)), "interval": _interval(one, name, metric)}
        for metric in (first, *rest)
        for name in methods
    ]
    return {
        "name": shown(one["name"]),
        "heads": heads,
        "rows": rows,
        "foot": foot,
        "gain_unit": f"{method_name(ours, labels, short=True)} \N{MINUS SIGN} noisy" if ours else "",
        "split": len(methods),
        "signed": signed,
        "long": len(rows) > _LONG,
        "n": len(rows),
    }


def _interval(one: Mapping[str, Any], name: str, metric: str) -> str:
    return interval_text(metric, interval_of(one["methods"][name], metric))


def _cell(metric: str, value: float | None) -> dict[str, Any]:
    key = "inf" if value is None and metric.startswith("psnr") else "" if value is None else f"{value:.6g}"
    return {"text": metric_text(metric, value), "key": key, "best": False}


def _gain(image: Mapping[str, Any], ours: str | None, metric: str) -> float | None:
    if ours is None:
        return None
    own, noisy = (mean_of(image["methods"].get(name), metric) for name in (ours, "noisy"))
    return None if own is None or noisy is None else own - noisy
