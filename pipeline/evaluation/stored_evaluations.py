"""Evaluations that were written earlier, read back and laid side by side: an ablation is several of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.data.paths import shown
from pipeline.errors import UserError
from pipeline.evaluation.evaluate import FORMAT

Evaluation = dict[str, Any]


def read_object(path: Path, what: str = "a JSON file") -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: there is none, or it is damaged.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{shown(path)}: expected {what}, found nothing there") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{shown(path)}: expected {what}, found a damaged one") from error
    if not isinstance(value, dict):
        raise UserError(f"{shown(path)}: expected {what} that holds an object, found {type(value).__name__}")
    return value


def is_current(value: Any) -> bool:
    """Tell whether a JSON value is an evaluation that a report can show."""
    return (
        isinstance(value, dict)
        and value.get("format") == FORMAT
        and all(isinstance(value.get(key), list) for key in ("metrics", "models", "baselines", "sets"))
    )


def read_evaluation(path: Path) -> Evaluation:
    """Read an evaluation.

    Raises:
        UserError: it is none, or one of an older version.
    """
    value = read_object(path, "an evaluation written by `unveil evaluate --out`")
    if not is_current(value):
        found = f"format {value['format']}" if "format" in value else "another kind of file, or one of an older version"
        raise UserError(f"{shown(path)}: expected an evaluation of format {FORMAT}, found {found}; evaluate again")
    return value


def joined(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Lay evaluations side by side as one.

    Sets of equal name and content become one with all methods; models of equal label and different weights are told
    apart by where they came from. Pairs of models from different evaluations are not tested against each other.

    Args:
        evaluations: at least one; a single one comes back as it is.
    """
    if len(evaluations) == 1:
        return evaluations[0]
    total = copy.deepcopy(evaluations[0])
    for other in evaluations[1:]:
        one = _renamed(copy.deepcopy(other), {model["label"]: model for model in total["models"]})
        total["models"] += [model for model in one["models"] if model not in total["models"]]
        total["baselines"] += [name for name in one["baselines"] if name not in total["baselines"]]
        total["metrics"] = [name for name in total["metrics"] if name in one["metrics"]] or total["metrics"]
        total["definitions"] = {**one.get("definitions", {}), **total.get("definitions", {})}
        total["groups"] = [*total.get("groups", []), *one.get("groups", [])]
        for new in one["sets"]:
            known = next((old for old in total["sets"] if _same(old, new)), None)
            if known is None:
                taken = {old["name"] for old in total["sets"]}
                total["sets"].append({**new, "name": _free(new["name"], taken)})
            else:
                _extend(known, new)
    return total


def _same(old: dict[str, Any], new: dict[str, Any]) -> bool:
    return all(old[key] == new[key] for key in ("name", "hash", "n"))


def _extend(known: dict[str, Any], new: dict[str, Any]) -> None:
    known["methods"] = known["methods"] | _others(new["methods"], known["methods"])
    rows = {row["name"]: row for row in new["images"]}
    for row in known["images"]:
        row["methods"] = row["methods"] | _others(rows.get(row["name"], {}).get("methods", {}), row["methods"])
    old = known.get("paired", [])
    known["paired"] = [*old, *(test for test in new.get("paired", []) if test not in old)]


def _others(new: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in new.items() if name not in known}


def _renamed(one: Evaluation, taken: dict[str, Any]) -> Evaluation:
    """Give models whose label is taken by other weights a label of their own."""
    names: dict[str, str] = {}
    for model in one["models"]:
        label = model["label"]
        if label not in taken or taken[label].get("sha256") == model.get("sha256") is not None:
            continue
        ref = Path(str(model.get("ref") or label)).name or label
        names[label] = _free(ref, {*taken, *names.values()})
        model["label"] = names[label]
    for found in one["sets"]:
        found["methods"] = {names.get(name, name): row for name, row in found["methods"].items()}
        for row in found["images"]:
            row["methods"] = {names.get(name, name): values for name, values in row["methods"].items()}
        for test in found.get("paired", []):
            test["a"], test["b"] = names.get(test["a"], test["a"]), names.get(test["b"], test["b"])
    for group in one.get("groups", []):
        group["models"] = [names.get(label, label) for label in group["models"]]
    return one


def _free(name: str, taken: set[str]) -> str:
    number, free = 2, name
    while free in taken:
        free, number = f"{name} ({number})", number + 1
    return free
