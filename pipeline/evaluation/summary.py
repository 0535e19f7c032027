"""From scores of pictures to an evaluation: means with intervals, paired tests, spread over seeds."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.blind import mean_measures
from pipeline.evaluation.cases import CaseSet
from pipeline.evaluation.contenders import Contender, Model
from pipeline.evaluation.metrics import METRICS
from pipeline.evaluation.score_case import Row, Scored
from pipeline.evaluation.statistics import holm, paired, spread, summarise


def summarise_set(
    one: CaseSet, scored: Sequence[Scored], contenders: Sequence[Contender], metrics: Sequence[str], digest: str
) -> dict[str, Any]:
    """Return a set of an evaluation; infinities are still numbers.

    Args:
        one: what was measured.
        scored: its pictures, in the order of its cases.
        contenders: who was measured.
        metrics: names.
        digest: of `set_hash`.
    """
    named = () if one.kind == "photos" else metrics
    images = [
        {"name": case.name, **found.facts, "methods": {who.label: found.rows[who.label] for who in contenders}}
        for case, found in zip(one.cases, scored, strict=True)
    ]
    pixels = sum(found.facts["pixels"] for found in scored)
    return {
        "name": one.name,
        "kind": one.kind,
        "data": one.data,
        "layout": one.layout,
        "noise": one.noise,
        "hash": digest,
        "n": len(images),
        "available": one.available,
        "unpaired": list(one.unpaired),
        "methods": {
            who.label: _method([found.rows[who.label] for found in scored], who, named, pixels) for who in contenders
        },
        "images": images,
        "paired": _comparisons(scored, contenders, named),
    }


def set_hash(names: Iterable[str], identities: Iterable[str]) -> str:
    """Hash what a set holds: names and contents of its pictures, and their noise."""
    lines = sorted(f"{identity} {name}" for name, identity in zip(names, identities, strict=True))
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def seed_groups(models: Sequence[Model], sets: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return mean and standard deviation over the models of each group, for every set and metric."""
    names = list(dict.fromkeys(model.group for model in models if model.group is not None))
    groups = []
    for name in names:
        labels = [model.label for model in models if model.group == name]
        by_set = {
            one["name"]: {
                metric: spread([one["methods"][label]["metrics"][metric]["mean"] for label in labels])
                for metric in one["methods"][labels[0]]["metrics"]
            }
            for one in sets
        }
        groups.append({"group": name, "models": labels, "sets": by_set})
    return groups


def _method(rows: Sequence[Row], who: Contender, metrics: Sequence[str], pixels: int) -> dict[str, Any]:
    seconds = [row["seconds"] for row in rows if row.get("seconds") is not None]
    found: dict[str, Any] = {
        "metrics": {name: summarise([row["metrics"][name] for row in rows]) for name in metrics},
        "seconds_per_megapixel": 1e6 * sum(seconds) / pixels if len(seconds) == len(rows) else None,
        "visible_offsets": None,
        "blind": mean_measures([row.get("blind") for row in rows]),
    }
    if who.kind == "model":
        found["visible_offsets"] = sum(bool(row["offset"] and row["offset"]["visible"]) for row in rows)
        if metrics:
            found["by_offset"] = {
                how: {name: _mean([row["by_offset"][how][name] for row in rows]) for name in metrics}
                for how in ("keep", "level")
            }
    return found


def _comparisons(scored: Sequence[Scored], contenders: Sequence[Contender], metrics: Sequence[str]) -> list[Any]:
    """Every model against everybody else, once; p values corrected for their number, metric by metric."""
    found = []
    models = [who for who in contenders if who.kind == "model"]
    others = [who for who in contenders if who.kind != "model"]
    pairs = [(a, b) for index, a in enumerate(models) for b in (*others, *models[index + 1 :])]
    for metric in metrics:
        rows = [
            {
                "a": a.label,
                "b": b.label,
                "metric": metric,
                **paired(
                    [one.rows[a.label]["metrics"][metric] for one in scored],
                    [one.rows[b.label]["metrics"][metric] for one in scored],
                    higher_is_better=METRICS[metric].higher_is_better,
                ),
            }
            for a, b in pairs
        ]
        corrected = holm([row["p"] for row in rows])
        found += [{**row, "p_holm": p} for row, p in zip(rows, corrected, strict=True)]
    return found


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else None


def mean_of(evaluation: Mapping[str, Any], label: str, metric: str, at: int = 0) -> float | None:
    """Return the mean of a metric of a method over a set of an evaluation; None if it is not finite."""
    value: float | None = evaluation["sets"][at]["methods"][label]["metrics"][metric]["mean"]
    return value
