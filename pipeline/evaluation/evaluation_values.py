"""An evaluation as named numbers and parameters, under names that MLflow takes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pipeline.console import strict

if TYPE_CHECKING:
    from pipeline.registry.links import Link

_ILLEGAL: Final = re.compile(r"[^\w.\- ]")
_LONGEST: Final = 90
"""A name has three parts and 250 characters in MLflow."""


def legal_names(names: Iterable[str]) -> dict[str, str]:
    """Return for each name one that MLflow takes as a part of a metric's, and no two alike.

    Letters, digits, spaces and ``_ - .`` stay; everything else becomes ``_``, and what is long is cut.
    """
    taken: Counter[str] = Counter()
    found: dict[str, str] = {}
    for name in names:
        if name in found:
            continue
        # A part of dots alone would be a path.
        legal = _ILLEGAL.sub("_", name)[:_LONGEST].strip(" .") or "_"
        while taken[legal]:
            taken[legal] += 1
            legal = f"{legal}_{taken[legal]}"
        taken[legal] += 1
        found[name] = legal
    return found


def named_values(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, float, str, str]]:
    """Yield (legal name, value, data set, method) of every mean that is finite and known."""
    sets = legal_names(one["name"] for one in evaluation["sets"])
    methods = legal_names(name for one in evaluation["sets"] for name in one["methods"])
    for one in evaluation["sets"]:
        for method, found in one["methods"].items():
            values = {name: metric["mean"] for name, metric in (found.get("metrics") or {}).items()}
            values |= {"seconds_per_megapixel": found.get("seconds_per_megapixel")}
            values |= {"visible_offsets": found.get("visible_offsets")} | (found.get("blind") or {})
            for name, value in strict(values).items():
                if isinstance(value, int | float):
                    legal = f"{sets[one['name']]}/{methods[method]}/{_ILLEGAL.sub('_', name)}"
                    yield legal, float(value), one["name"], method


def parameters_of(evaluation: Mapping[str, Any], links: Sequence[Link]) -> dict[str, Any]:
    """Return what was measured, how, and on what, as parameters of a run."""
    protocol = evaluation["protocol"]
    found: dict[str, Any] = {
        "protocol": protocol["name"],
        "protocol.text": protocol["text"],
        "metrics": ", ".join(evaluation["metrics"]) or "none",
        "baselines": ", ".join(evaluation["baselines"]) or "none",
        "unveil": evaluation["unveil"],
    }
    sets = legal_names(one["name"] for one in evaluation["sets"])
    for one in evaluation["sets"]:
        legal = sets[one["name"]]
        noise = one.get("noise")
        values = {"data": one["data"], "hash": one["hash"], "n": one["n"], "kind": one["kind"]}
        values |= {} if noise is None else {"noise": json.dumps(noise)}
        found |= {f"set.{legal}.{name}": value for name, value in values.items()}
    refs = {link.label: link for link in links}
    labels = legal_names(model["label"] for model in evaluation["models"])
    for model in evaluation["models"]:
        legal, link = labels[model["label"]], refs.get(model["label"])
        values = {name: model.get(name) for name in ("ref", "sha256", "parameters", "seed", "trained_on", "group")}
        values |= {"mode": json.dumps(model["mode"]) if model.get("mode") else None}
        if link is not None:
            version = f"models:/{link.name}/{link.version}" if link.name else None
            values |= {"registered": version, "trained_by_run": link.run_id}
        found |= {f"model.{legal}.{name}": value for name, value in values.items() if value is not None}
    return found


def mean_of(one: Mapping[str, Any], method: str, metric: str | None) -> float | None:
    """Return a method's mean on one set; None if it is not known."""
    found = ((one["methods"].get(method) or {}).get("metrics") or {}).get(metric)
    value = None if found is None else found["mean"]
    return None if value is None else round(float(value), 4)


def title_of(evaluation: Mapping[str, Any]) -> str:
    """Return which models on which sets, in short."""
    labels = ", ".join(model["label"] for model in evaluation["models"]) or ", ".join(evaluation["baselines"])
    sets = [one["name"] for one in evaluation["sets"]]
    more = f" and {len(sets) - 1} more" if len(sets) > 1 else ""
    return f"{labels or 'evaluation'} on {sets[0] if sets else 'nothing'}{more}"[:200]
