"""How a search is shown while it runs: a table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.console import console

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live
    from rich.table import Table

_LINE_SECONDS = 15.0
"""Seconds between two lines where there is no terminal to draw a table on."""

_ROWS = 12
_OTHERS = 40
"""Characters of the other columns: key, part, score, state, and the gaps."""

_SHOWN = ("rung", "score", "overrides")


@contextmanager
def shown_search(samples: int, rungs: int, larger: bool) -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """Show a search; what is yielded is its listener.

    Args:
        samples: trials to expect.
        rungs: how often each is judged.
        larger: whether a larger score is better.
    """
    from rich.live import Live

    # Drawn anew twice a second: reports come minutes apart, and the clock would seem to stand still.
    with Live(console=console, transient=True, auto_refresh=console.is_terminal, refresh_per_second=2) as live:
        yield ShowSearch(samples, rungs, live, larger=larger)


class ShowSearch:
    """Takes events of a search; draws the trials, the best first, and a bar under them."""

    def __init__(self, samples: int, rungs: int, live: Live, *, larger: bool) -> None:
        self._samples, self._rungs, self._larger = samples, rungs, larger
        self._live = live
        self._start = self._printed = time.monotonic()
        self._parts = 0.0
        self._last: float | None = None
        self._trials: dict[str, dict[str, Any]] = {}

    def __call__(self, what: str, value: dict[str, Any]) -> None:
        """Take one event."""
        if what == "say":
            self._print(value["text"])
            return
        key, event = value["key"], value["event"]
        if not self._trials:
            self._start = time.monotonic()
        trial = {"rung": 0, "score": None, "overrides": {}, **self._trials.get(key, {})}
        if event in ("started", "reported"):
            # A member of a population starts again after each interval, with other values.
            trial |= {"state": "running"} | {name: value[name] for name in _SHOWN if name in value}
        else:
            trial["state"] = {"failed": "failed", "waiting": "waiting"}.get(event, "ended")
        # Another dict each time: it is read by the thread that draws.
        self._trials = {**self._trials, key: trial}
        if event == "failed":
            self._print(f"trial {key} failed: {value['reason']}")
        self._draw(value)

    def table(self) -> Table:
        """Return the trials, those that got farthest first, then by score."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for head in ("trial", "overrides", "part", "score", "state"):
            # What is set may be long; of the rest nothing may be cut.
            most = max(8, self._live.console.width - _OTHERS) if head == "overrides" else None
            right = head in ("part", "score")
            table.add_column(head, justify="right" if right else "left", no_wrap=True, max_width=most)
        sign = -1 if self._larger else 1
        order = sorted(self._trials.items(), key=lambda item: (-item[1]["rung"], sign * (item[1]["score"] or 0.0)))
        for key, trial in order[:_ROWS]:
            score = "-" if trial["score"] is None else f"{trial['score']:.5g}"
            part = f"{trial['rung']}/{self._rungs}"
            table.add_row(key, _spelt(trial["overrides"]) or "as given", part, score, trial["state"])
        if len(order) > _ROWS:
            table.add_row("", f"and {len(order) - _ROWS} more", style="dim")
        return table

    def __rich__(self) -> Group:
        """Return the table and the bar as they are now."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        row = Table.grid(padding=(0, 1))
        total = self._total()
        running = sum(trial["state"] == "running" for trial in self._trials.values())
        words = f"{self._ended()}/{total} trials, {running} running, {_clock(time.monotonic() - self._start)}"
        left = self._left()
        told = f", at most {_clock(left)} left" if left is not None else ""
        row.add_row(ProgressBar(total=total, completed=self._done(), width=20), words + told)
        return Group(self.table(), row)

    def _ended(self) -> int:
        return sum(trial["state"] in ("ended", "failed") for trial in self._trials.values())

    def _total(self) -> int:
        # Leaders that are repeated with other seeds come on top.
        return max(self._samples, len(self._trials))

    def _done(self) -> float:
        parts = sum(int(one["rung"]) for one in self._trials.values() if one["state"] in ("running", "waiting"))
        return self._ended() + parts / self._rungs

    def _left(self) -> float | None:
        """Seconds, as the trials have gone so far; those that are stopped early make it less. None if that is over."""
        done = self._done()
        if done != self._parts:
            self._parts, self._last = done, time.monotonic()
        if self._last is None:
            return None
        # From the last report on, time passes and nothing is known to be done.
        whole = (self._last - self._start) / done * (self._total() - done)
        left = whole - (time.monotonic() - self._last)
        return left if left > 0 else None

    def _draw(self, value: dict[str, Any]) -> None:
        left = self._left()
        if self._live.console.is_terminal:
            self._live.update(self, refresh=True)
            return
        now = time.monotonic()
        if now - self._printed > _LINE_SECONDS:
            self._printed = now
            text = f"{sum(trial['state'] == 'running' for trial in self._trials.values())} running"
            if value["event"] == "reported":
                text += f", {value['key']} at {value['rung']}/{self._rungs}"
                text += "" if value["score"] is None else f": {value['score']:.5g}"
            told = f", at most {_clock(left)} left" if left is not None else ""
            self._print(f"trials {self._ended()}/{self._total()}, {text}{told}")

    def _print(self, text: str) -> None:
        # A terminal would break lines within words; elsewhere a line stays one.
        self._live.console.print(text, soft_wrap=not self._live.console.is_terminal, markup=False)


def _spelt(overrides: dict[str, Any]) -> str:
    """Return what was set in few characters; where inference has another value than the method, after a slash."""
    spelt: dict[str, str] = {}
    for key, value in overrides.items():
        section, _, name = key.rpartition(".")
        text = f"{value:g}" if isinstance(value, float) else str(value).replace(" ", "")
        if section == "inference" and name in spelt:
            spelt[name] += "" if spelt[name] == text else f"/{text}"
        else:
            spelt[name] = text
    return " ".join(f"{name}={text}" for name, text in spelt.items())


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
