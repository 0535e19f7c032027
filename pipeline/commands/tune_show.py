"""How a search is shown while it runs: a table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.console import console, progress

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress
    from rich.table import Table

_LINE_SECONDS = 15.0
"""Seconds between two lines where there is no terminal to draw a table on."""

_ROWS = 12


@contextmanager
def shown_search(samples: int, rungs: int, larger: bool) -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """Show a search; what is yielded is its listener.

    Args:
        samples: trials to expect.
        rungs: how often each is judged.
        larger: whether a larger score is better.
    """
    from rich.live import Live

    with Live(console=console, transient=True, auto_refresh=False) as live:
        yield ShowSearch(samples, rungs, live, progress(), larger=larger)


class ShowSearch:
    """Takes events of a search; draws the trials, the best first, and a bar under them."""

    def __init__(self, samples: int, rungs: int, live: Live, bar: Progress, *, larger: bool) -> None:
        self._samples, self._rungs, self._larger = samples, rungs, larger
        self._live, self._bar = live, bar
        self._task = bar.add_task("trials", total=samples)
        self._start = self._printed = time.monotonic()
        self._trials: dict[str, dict[str, Any]] = {}

    def __call__(self, what: str, value: dict[str, Any]) -> None:
        """Take one event."""
        if what == "say":
            self._print(value["text"])
            return
        key, event = value["key"], value["event"]
        if not self._trials:
            self._start = time.monotonic()
        trial = self._trials.setdefault(key, {"rung": 0, "score": None, "overrides": value.get("overrides", {})})
        if event in ("started", "reported"):
            trial |= {"state": "running", "rung": value.get("rung", trial["rung"])}
            trial["score"] = value.get("score", trial["score"])
        else:
            trial["state"] = "failed" if event == "failed" else "ended"
        if event == "failed":
            self._print(f"trial {key} failed: {value['reason']}")
        self._draw(value)

    def table(self) -> Table:
        """Return the trials, those that got farthest first, then by score."""
        from rich.table import Table

        table = Table(box=None)
        for head in ("trial", "overrides", "rung", "score", "state"):
            table.add_column(head, justify="right" if head in ("rung", "score") else "left", no_wrap=True)
        sign = -1 if self._larger else 1
        order = sorted(self._trials.items(), key=lambda item: (-item[1]["rung"], sign * (item[1]["score"] or 0.0)))
        for key, trial in order[:_ROWS]:
            score = "-" if trial["score"] is None else f"{trial['score']:.5g}"
            changed = ", ".join(f"{name.rpartition('.')[2]}={value}" for name, value in trial["overrides"].items())
            table.add_row(key, changed or "as given", f"{trial['rung']}/{self._rungs}", score, trial["state"])
        return table

    def _draw(self, value: dict[str, Any]) -> None:
        running = [trial for trial in self._trials.values() if trial["state"] == "running"]
        ended = len(self._trials) - len(running)
        done = ended + sum(trial["rung"] for trial in running) / self._rungs
        # Leaders that are repeated with other seeds come on top.
        total = max(self._samples, len(self._trials))
        if self._live.console.is_terminal:
            from rich.console import Group

            self._bar.update(self._task, completed=done, total=total, description=f"trials  {len(running)} running")
            self._live.update(Group(self.table(), self._bar.get_renderable()), refresh=True)
            return
        now = time.monotonic()
        if now - self._printed > _LINE_SECONDS:
            self._printed = now
            text = f"{len(running)} running"
            if value["event"] == "reported":
                text += f", {value['key']} at {value['rung']}/{self._rungs}: {value['score']:.5g}"
            # Trials that are stopped early make it less.
            left = f", at most {(now - self._start) / done * (total - done):.0f} s left" if done else ""
            self._print(f"trials {ended}/{total}, {text}{left}")

    def _print(self, text: str) -> None:
        self._live.console.print(text, soft_wrap=True, markup=False)
