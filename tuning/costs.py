"""What a trial spends its time on, kept in its log beside its rungs."""

from __future__ import annotations

import time
from typing import Any, Final, Literal

Part = Literal["start", "steps", "judging", "saving"]

EVENT: Final = "cost"


class Costs:
    """Time of the clock and of the processor since the last row, by what it went to."""

    def __init__(self) -> None:
        self._last = _now()
        self._spent: dict[str, list[float]] = {}

    def lap(self, part: Part) -> None:
        """Count what has passed since the last lap as `part`."""
        now = _now()
        spent = self._spent.setdefault(part, [0.0, 0.0])
        for index in range(2):
            spent[index] += now[index] - self._last[index]
        self._last = now

    def row(self, rung: int) -> dict[str, Any]:
        """Return a line for the log, with seconds of the clock and of the processor, and start anew."""
        spent, self._spent = self._spent, {}
        clock, cpu = ({part: round(pair[index], 4) for part, pair in spent.items()} for index in range(2))
        return {"event": EVENT, "rung": rung, "clock": clock, "cpu": cpu, "time": time.time()}


def _now() -> tuple[float, float]:
    return time.monotonic(), time.process_time()
