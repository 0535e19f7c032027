"""log.jsonl: one JSON object a line, appended by rank 0 and read by whoever wants to know.

After a crash a few steps are repeated and logged again. They are equal, so readers keep the first row of a step.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LOG_NAME = "log.jsonl"


def append_row(run_dir: Path, row: dict[str, Any]) -> None:
    """Append one row; a line is written whole or, at a crash, cut, and cut lines are passed over by readers."""
    with (run_dir / LOG_NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


class Tail:
    """Reads what has been appended since the last look."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / LOG_NAME
        self._offset = 0
        self._last_step = -1

    def new_rows(self) -> list[dict[str, Any]]:
        """Return new rows in order, each step once; rows of events have a key `event` and no `loss`."""
        if not self._path.is_file():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            chunk = file.read()
        whole, newline, _ = chunk.rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        rows = []
        for line in whole.splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if "event" not in row:
                if row["step"] <= self._last_step:
                    continue
                self._last_step = row["step"]
            rows.append(row)
        return rows


def read_history(run_dir: Path) -> list[dict[str, Any]]:
    """Return all rows of training metrics of a run, each step once."""
    return [row for row in Tail(run_dir).new_rows() if "event" not in row]
