"""Scores that were measured before, kept on disk: by what denoised, which picture, and which metric.

One file a contender, one line a picture. A line is written as soon as its picture is measured, so an evaluation that
was stopped goes on where it was. The contender's key holds hashes of weights, mode and versions, the picture's that of
its content, noise and seed: whatever changes a number changes the place where it is looked for.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.console import strict
from pipeline.evaluation.contenders import Contender
from pipeline.home import home

_INFINITE = "inf"


class ScoreCache:
    """Rows of `pipeline.evaluation.score_case.score_case`, without their crops."""

    def __init__(self, folder: Path | None = None, *, read: bool = True) -> None:
        """Open it.

        Args:
            folder: None takes ``evaluations`` in the state folder.
            read: False finds nothing and writes all the same.
        """
        self.folder = folder or home() / "evaluations"
        self.problem: str | None = None
        """What went wrong when a row was kept; the evaluation goes on."""
        self._read = read
        self._rows: dict[str, dict[str, dict[str, Any]]] = {}

    def find(self, contender: Contender, picture: str, metrics: list[str]) -> dict[str, Any] | None:
        """Return the row of a contender on a picture with all of the metrics, or None."""
        if not self._read or contender.key is None:
            return None
        if contender.key not in self._rows:
            self._rows[contender.key] = self._load(contender.key)
        row = self._rows[contender.key].get(picture)
        return row if row is not None and all(name in row["metrics"] for name in metrics) else None

    def keep(self, contender: Contender, picture: str, row: dict[str, Any]) -> None:
        """Keep a row; one that cannot be written is not kept."""
        if contender.key is None:
            return
        line = json.dumps({"picture": picture, **_written(row)}, allow_nan=False) + "\n"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # One write in append mode: lines of several processes do not mix.
            file = os.open(self._path(contender.key), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(file, line.encode())
            finally:
                os.close(file)
        except OSError as error:
            self.problem = f"{self.folder}: scores are not kept ({error.strerror or error})"

    def _load(self, key: str) -> dict[str, dict[str, Any]]:
        rows: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(OSError), self._path(key).open("rb") as file:
            for line in file:
                # A line that was cut short, by a full disk or the end of the process, is as good as none.
                with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                    row = _restored(json.loads(line))
                    rows[row.pop("picture")] = row
        return rows

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.jsonl"


def _written(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity, which equal pictures have in decibels."""
    copy = dict(row)
    copy["metrics"] = _each(row["metrics"], _finite)
    if "by_offset" in row:
        copy["by_offset"] = {how: _each(values, _finite) for how, values in row["by_offset"].items()}
    written: dict[str, Any] = strict(copy)
    return written


def _restored(row: dict[str, Any]) -> dict[str, Any]:
    row["metrics"] = _each(row["metrics"], _number)
    if "by_offset" in row:
        row["by_offset"] = {how: _each(values, _number) for how, values in row["by_offset"].items()}
    return row


def _each(values: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    return {name: change(value) for name, value in values.items()}


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else _INFINITE


def _number(value: Any) -> float:
    return math.inf if value == _INFINITE else float(value)
