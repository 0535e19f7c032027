"""An evaluation as tables of columns, and as a short text: what a tracking server shows of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pipeline.registry.card import escaped

Table = dict[str, list[Any]]
"""Columns of one length."""

_MOST_SETS: Final = 40


def summary_table(evaluation: Mapping[str, Any]) -> Table:
    """One row for each method on each set: means with their intervals, then measures without ground truth."""
    rows = []
    for one in evaluation["sets"]:
        for method, found in one["methods"].items():
            row: dict[str, Any] = {"set": one["name"], "method": method, "pictures": one["n"]}
            for name, metric in (found.get("metrics") or {}).items():
                low, high = metric.get("interval") or (None, None)
                row |= {name: metric["mean"], f"{name} low": low, f"{name} high": high}
            row |= {"seconds_per_megapixel": found.get("seconds_per_megapixel")}
            row |= {"visible_offsets": found.get("visible_offsets")} | _numbers(found.get("blind"))
            rows.append(row)
    return _columns(rows)


def image_table(one: Mapping[str, Any]) -> Table:
    """One row for each method on each picture of a set."""
    rows = []
    for image in one["images"]:
        for method, found in image["methods"].items():
            row = {name: image.get(name) for name in ("pixels", "detail", "brightness")}
            row = {"image": image["name"], "method": method, **row, **(found.get("metrics") or {})}
            rows.append(row | {"seconds": found.get("seconds")} | _numbers(found.get("blind")))
    return _columns(rows)


def paired_table(evaluation: Mapping[str, Any]) -> Table:
    """One row for each comparison of two methods; empty without any."""
    rows = []
    for one in evaluation["sets"]:
        for pair in one.get("paired") or ():
            low, high = pair.get("interval") or (None, None)
            rest = {name: value for name, value in pair.items() if name != "interval"}
            rows.append({"set": one["name"], **rest, "low": low, "high": high})
    return _columns(rows)


def summary_text(evaluation: Mapping[str, Any]) -> str:
    """The headline metric of every method and set as Markdown; names from elsewhere cannot add any."""
    metric = next(iter(evaluation["metrics"]), None)
    lines = [f"Protocol {_plain(evaluation['protocol']['name'])}: {_plain(evaluation['protocol']['text'])}.", ""]
    methods = list(dict.fromkeys(name for one in evaluation["sets"] for name in one["methods"]))
    if metric is not None and methods:
        lines += [f"Mean {metric}:", "", _row(["set", "n", *map(_plain, methods)]), _row(["---"] * (len(methods) + 2))]
        for one in evaluation["sets"][:_MOST_SETS]:
            cells = [_number(one["methods"].get(method), metric) for method in methods]
            lines.append(_row([_plain(one["name"]), str(one["n"]), *cells]))
        if len(evaluation["sets"]) > _MOST_SETS:
            lines.append(f"\nand {len(evaluation['sets']) - _MOST_SETS} more sets in tables/summary.json")
    lines += ["", *(f"- {_plain(model['label'])}: {_plain(model['ref'])}" for model in evaluation["models"])]
    return "\n".join(lines)


def _number(found: Mapping[str, Any] | None, metric: str) -> str:
    value = ((found or {}).get("metrics") or {}).get(metric)
    mean = None if value is None else value["mean"]
    return "-" if mean is None else f"{mean:.2f}" if metric.startswith("psnr") else f"{mean:.4f}"


def _numbers(values: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (values or {}).items() if not isinstance(value, list)}


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    return escaped(" ".join(str(text).split()))


def _columns(rows: list[dict[str, Any]]) -> Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [_short(row.get(name)) for row in rows] for name in names}


def _short(value: Any) -> Any:
    """Six digits: more are noise, and a page shows the first ones of a narrow column."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
