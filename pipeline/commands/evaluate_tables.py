"""What ``unveil evaluate`` prints: a table a set, or, for many sets, a table of the headline metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from pipeline.console import console

_MANY = 3
"""Sets from which one table of the headline metric says more than one table each."""


def tell(result: Mapping[str, Any]) -> None:
    """Print an evaluation on stderr."""
    with_truth = [one for one in result["sets"] if one["kind"] != "photos"]
    if len(with_truth) >= _MANY:
        _headline(result, with_truth)
    else:
        for one in with_truth:
            _whole(result, one)
    for one in result["sets"]:
        if one["kind"] == "photos":
            _photos(one)
    _compared(result, with_truth)
    _notes(result)


def _headline(result: Mapping[str, Any], sets: list[Any]) -> None:
    metric = result["metrics"][0]
    table = Table(title=f"mean {metric}")
    table.add_column("")
    table.add_column("n", justify="right")
    labels = list(sets[0]["methods"])
    for label in labels:
        table.add_column(Text(label), justify="right")
    for one in sets:
        means = {label: one["methods"][label]["metrics"][metric]["mean"] for label in labels}
        best = _best(metric, {label: mean for label, mean in means.items() if label != "noisy"})
        cells = [Text(_number(metric, means[label]), style="bold" if label == best else "") for label in labels]
        table.add_row(Text(one["name"]), str(one["n"]), *cells)
    console.print(table)


def _whole(result: Mapping[str, Any], one: Mapping[str, Any]) -> None:
    title = f"{one['name']}: {one['n']} of {one['available']} pictures, layout {one['layout']}"
    table = Table(title=Text(title))
    table.add_column("")
    for name in result["metrics"]:
        table.add_column(name, justify="right")
        table.add_column("95 %", justify="right", style="dim")
    models = [model["label"] for model in result["models"]]
    rows: dict[str, Mapping[str, Any]] = {}
    for label, method in one["methods"].items():
        rows["noisy input" if label == "noisy" else label] = method["metrics"]
        if label in models and method["visible_offsets"]:
            mended = _mode_of(result, label).get("offset") == "level"
            how, text = ("keep", "offset kept") if mended else ("level", "with --offset level")
            rows[f"{label} {text}"] = {
                name: {"mean": mean, "interval": None} for name, mean in method["by_offset"][how].items()
            }
    for row, values in rows.items():
        cells = []
        for name in result["metrics"]:
            cells += [_number(name, values[name]["mean"]), _interval(name, values[name]["interval"])]
        table.add_row(Text(row), *cells, style="bold" if row in models else None)
    console.print(table)


def _photos(one: Mapping[str, Any]) -> None:
    from pipeline.evaluation.blind import BLIND_DEFINITIONS

    table = Table(title=Text(f"{one['name']}: {one['n']} photos without clean partners"))
    table.add_column("mean over the photos")
    shown = {label: method["blind"] for label, method in one["methods"].items() if method["blind"]}
    for label in shown:
        table.add_column(Text(label), justify="right")
    for name in BLIND_DEFINITIONS:
        values = [blind.get(name) for blind in shown.values()]
        # Channels and lags have numbers of their own in the JSON; each is in one number here already.
        if any(isinstance(value, int | float) for value in values):
            table.add_row(name, *map(_measure, values))
    console.print(table)


def _measure(value: Any) -> str:
    if not isinstance(value, int | float):
        return "-"
    # Less is rounding of float32 pictures.
    return "0" if abs(value) < 0.001 else f"{value:.3g}"


def _compared(result: Mapping[str, Any], sets: list[Any]) -> None:
    """Say where two differ by more than chance; of many sets only in how many."""
    metric = result["metrics"][0]
    if len(sets) < _MANY:
        for one in sets:
            rows = [row for row in one["paired"] if row["metric"] == metric and row["b"] != "noisy"]
            for row in rows:
                if row["difference"] is not None:
                    console.print(_sentence(metric, one, row), markup=False, style="dim", soft_wrap=True)
    for group in result["groups"]:
        for name, metrics in group["sets"].items():
            found = metrics.get(metric)
            if found and found["mean"] is not None and found["sd"] is not None:
                unit = " dB" if metric.startswith("psnr") else ""
                text = f"{group['group']} on {name}: {found['mean']:.2f} ± {found['sd']:.2f}{unit}"
                console.print(f"{text} over {found['n']} models", markup=False, soft_wrap=True)


def _sentence(metric: str, one: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    unit = " dB" if metric.startswith("psnr") else ""
    digits = 2 if unit else 4
    interval = row["interval"]
    reach = "" if interval is None else f" [{interval[0]:+.{digits}f}, {interval[1]:+.{digits}f}]"
    chance = row.get("p_holm") if row.get("p_holm") is not None else row["p"]
    odds = "" if chance is None else f", p {chance:.2g}"
    return (
        f"{one['name']}: {row['a']} - {row['b']} = {row['difference']:+.{digits}f}{unit}{reach}, better on "
        f"{row['wins']} of {row['n']}{odds}"
    )


def _notes(result: Mapping[str, Any]) -> None:
    from pipeline.inference.modes import in_words

    for model in result["models"]:
        label, mode = model["label"], model["mode"]
        off = sum(one["methods"][label]["visible_offsets"] or 0 for one in result["sets"])
        total = sum(one["n"] for one in result["sets"])
        if off:
            mended = ", mended" if mode is not None and mode["offset"] == "level" else ""
            text = f"{label}: brightness or colour visibly off in {off} of {total} images{mended}"
            console.print(text, markup=False, style="yellow", soft_wrap=True)
        if mode is not None:
            speeds = [one["methods"][label]["seconds_per_megapixel"] for one in result["sets"]]
            known = [speed for speed in speeds if speed is not None]
            speed = f", {sum(known) / len(known):.1f} s a megapixel" if known else ""
            text = f"{label}: {in_words(mode)}; {mode['passes']} x the network{speed}"
            console.print(text, style="dim", markup=False, soft_wrap=True)
    protocol = result["protocol"]
    console.print(f"protocol {protocol['name']}: {protocol['text']}", style="dim", markup=False, soft_wrap=True)


def _mode_of(result: Mapping[str, Any], label: str) -> Mapping[str, Any]:
    return next((model["mode"] or {} for model in result["models"] if model["label"] == label), {})


def _best(metric: str, means: Mapping[str, float | None]) -> str | None:
    from pipeline.evaluation.metrics import METRICS

    known = {label: mean for label, mean in means.items() if mean is not None}
    if not known:
        return None
    pick = max if METRICS[metric].higher_is_better else min
    return pick(known, key=lambda label: known[label])


def _interval(metric: str, interval: list[float] | None) -> str:
    if interval is None:
        return ""
    digits = 2 if metric.startswith("psnr") else 4
    return f"{interval[0]:.{digits}f}-{interval[1]:.{digits}f}"


def _number(metric: str, value: float | None) -> str:
    if value is None:  # equal images: infinite decibels
        return "-"
    return f"{value:.2f} dB" if metric.startswith("psnr") else f"{value:.4f}"
