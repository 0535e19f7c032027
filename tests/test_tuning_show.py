"""What a search looks like while it runs: a table on a terminal, lines elsewhere."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console
from rich.live import Live

from pipeline.commands.tune_show import ShowSearch


def show(*, terminal: bool, larger: bool = False, width: int = 120) -> tuple[ShowSearch, io.StringIO]:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=width, color_system=None)
    live = Live(console=console, auto_refresh=False)
    return ShowSearch(4, 9, live, larger=larger), text


def lines(shown: ShowSearch, width: int) -> list[str]:
    console = Console(file=io.StringIO(), force_terminal=False, width=width, color_system=None)
    with console.capture() as capture:
        console.print(shown)
    return capture.get().splitlines()


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


@pytest.mark.parametrize("terminal", [True, False])
def test_a_trial_that_is_not_judged_on_the_way_shows_how_far_it_is(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.commands.tune_show._LINE_SECONDS", -1.0)
    shown, text = show(terminal=terminal)
    shown("trial", event("aaa", "started", overrides={}))
    shown("trial", event("aaa", "reported", rung=2, score=None, pid=1))
    assert [next(iter(column.cells)) for column in shown.table().columns] == ["aaa", "as given", "2/9", "-", "running"]
    if not terminal:
        assert "1 running, aaa at 2/9, at most" in text.getvalue()


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


def test_a_narrow_terminal_cuts_what_is_set_and_nothing_else() -> None:
    shown, _ = show(terminal=True, width=80)
    long = {
        "method.mask_count": 2,
        "inference.mask_count": 2,
        "method.pd_stride": 4,
        "inference.pd_stride": 3,
        "method.hole": [3, 3],
        "inference.hole": [3, 3],
        "optimizer.lr": 0.00123,
    }
    for number in range(14):
        shown("trial", event(f"abcdef{number:02d}", "started", overrides=long | {"optimizer.lr": 0.001 * number}))
        shown("trial", event(f"abcdef{number:02d}", "reported", rung=3, score=0.12345 + number, pid=1))
    drawn = lines(shown, 80)
    assert len(drawn) == 1 + 12 + 1 + 1  # a head, the trials, those that are left out, the bar
    assert all(len(line) <= 80 for line in drawn)
    assert drawn[1].split()[0] == "abcdef00"
    assert drawn[1].split()[-3:] == ["3/9", "0.12345", "running"]
    assert "mask_count=2 pd_stride=4/3 hole=[3,3] l…  " in drawn[1]
    assert "and 2 more" in drawn[13]
    assert "0/14 trials, 14 running" in drawn[14]
    wide, _ = show(terminal=True, width=200)
    wide("trial", event("abcdef00", "started", overrides=long))
    assert "hole=[3,3] lr=0.00123  " in lines(wide, 200)[1]


def test_the_time_left_is_known_after_the_first_report_and_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.commands import tune_show

    now = 100.0
    monkeypatch.setattr(tune_show.time, "monotonic", lambda: now)
    shown, _ = show(terminal=True)
    shown("trial", event("aaa", "started", overrides={}))
    assert "left" not in lines(shown, 80)[-1]
    now = 190.0
    shown("trial", event("aaa", "reported", rung=3, score=0.4, pid=1))
    # A third of one of four in 90 s.
    assert lines(shown, 80)[-1].strip().endswith("0/4 trials, 1 running, 1 min 30 s, at most 16 min 30 s left")
    now = 250.0
    assert lines(shown, 80)[-1].strip().endswith("2 min 30 s, at most 15 min 30 s left")
    now = 100.0 + 90 + 16.5 * 60
    assert lines(shown, 80)[-1].strip().endswith("0/4 trials, 1 running, 18 min 00 s")


def test_a_member_that_waits_for_the_others_has_not_ended() -> None:
    shown, _ = show(terminal=True)
    for rate in (0.1, 0.2):
        shown("trial", event("member00", "started", overrides={"optimizer.lr": rate}))
        shown("trial", event("member00", "reported", rung=int(10 * rate), score=0.4, pid=1))
        shown("trial", event("member00", "waiting"))
    cells = [next(iter(column.cells)) for column in shown.table().columns]
    assert cells == ["member00", "lr=0.2", "2/9", "0.4", "waiting"]
    assert "0/4 trials, 0 running" in lines(shown, 80)[-1]
