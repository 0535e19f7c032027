"""What a search looks like while it runs: a table on a terminal, lines elsewhere."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console
from rich.live import Live
from rich.progress import Progress

from pipeline.commands.tune_show import ShowSearch


def show(*, terminal: bool, larger: bool = False) -> tuple[ShowSearch, io.StringIO]:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=120, color_system=None)
    live = Live(console=console, auto_refresh=False)
    return ShowSearch(4, 9, live, Progress(console=console), larger=larger), text


def event(key: str, name: str, **more: Any) -> dict[str, Any]:
    return {"key": key, "event": name, **more}


def feed(shown: ShowSearch) -> None:
    for key, count in (("aaa", 2), ("bbb", 3), ("ccc", 4)):
        shown("trial", event(key, "started", overrides={"method.mask_count": count}))
    shown("trial", event("aaa", "reported", rung=1, score=0.5, pid=1))
    shown("trial", event("bbb", "reported", rung=1, score=0.4, pid=1))
    shown("trial", event("ccc", "failed", reason="out of [memory]"))
    shown("trial", event("aaa", "reported", rung=2, score=0.45, pid=1))
    shown("trial", event("bbb", "finished"))


def test_a_terminal_shows_the_trials_the_farthest_and_best_first() -> None:
    shown, text = show(terminal=True)
    feed(shown)
    table = shown.table()
    columns = [list(column.cells) for column in table.columns]
    assert columns[0] == ["aaa", "bbb", "ccc"]
    assert columns[1] == ["mask_count=2", "mask_count=3", "mask_count=4"]
    assert columns[2] == ["2/9", "1/9", "0/9"]
    assert columns[3] == ["0.45", "0.4", "-"]
    assert columns[4] == ["running", "ended", "failed"]
    assert "trial ccc failed: out of [memory]" in text.getvalue()


def test_at_the_same_rung_the_better_score_is_first() -> None:
    for larger, order in ((False, ["bbb", "aaa"]), (True, ["aaa", "bbb"])):
        shown, _ = show(terminal=True, larger=larger)
        for key, score in (("aaa", 0.5), ("bbb", 0.4)):
            shown("trial", event(key, "started", overrides={}))
            shown("trial", event(key, "reported", rung=1, score=score, pid=1))
        assert list(shown.table().columns[0].cells) == order


def test_without_a_terminal_there_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.commands import tune_show

    now = 0.0
    monkeypatch.setattr(tune_show.time, "monotonic", lambda: now)
    shown, text = show(terminal=False)
    shown("say", {"text": "score: trust"})
    feed(shown)
    assert text.getvalue().splitlines() == ["score: trust", "trial ccc failed: out of [memory]"]
    now = 20.0
    shown("trial", event("aaa", "reported", rung=3, score=0.4, pid=1))
    # Two ended and a third of one: 20 s for 2.33 trials, 1.67 to go.
    line = "trials 2/4, 1 running, aaa at 3/9: 0.4, at most 14 s left"
    assert text.getvalue().splitlines()[-1] == line
