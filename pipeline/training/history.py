"""log.jsonl: one JSON object a line, appended by rank 0 and read by whoever wants to know.

After a crash a few steps are repeated and logged again. They are equal, so readers keep the first row of a step.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from pathlib import Path
from typing import Any

LOG_NAME = "log.jsonl"


class Log:
    """Appends rows. Those that a full disk refuses wait in memory and are written with the next one that it takes."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / LOG_NAME
        self._waiting: list[bytes] = []

    def append(self, row: dict[str, Any]) -> None:
        """Append one row; a line is written whole or, at a crash, cut, and cut lines are passed over by readers."""
        self._waiting.append(json.dumps(row).encode() + b"\n")
        with contextlib.suppress(OSError):
            self._write()

    def note(self, text: str) -> None:
        """Append a line for people, which the driver shows."""
        self.append({"event": "note", "text": text, "time": time.time()})

    def _write(self) -> None:
        with self._path.open("a+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            data = b"".join(self._waiting)
            if size:
                file.seek(size - 1)
                # A crash has cut the last line: the next one must not continue it.
                data = data if file.read(1) == b"\n" else b"\n" + data
            try:
                if (file.write(data) or 0) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(size)
                raise
        self._waiting.clear()


def append_row(run_dir: Path, row: dict[str, Any]) -> None:
    """Append one row to the log of a run folder."""
    Log(run_dir).append(row)


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
