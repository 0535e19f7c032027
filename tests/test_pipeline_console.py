import json
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.console import print_json, progress, strict
from pipeline.data.paths import confined, shown
from pipeline.errors import UserError


def test_json_is_one_strict_line_whatever_the_values(capsys):
    value = {
        "a": float("nan"),
        "b": [np.float32(0.5), np.int64(3)],
        "c": Path("x"),
        "d": "bad \udcff \u202e",
        5: (1, None),
    }
    print_json(value)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.isascii()
    assert json.loads(out) == {"a": None, "b": [0.5, 3], "c": "x", "d": "bad \udcff \u202e", "5": [1, None]}


def test_strict_keeps_booleans_and_integers_as_they_are():
    assert strict({"yes": True, "n": 2**60, "inf": -np.inf}) == {"yes": True, "n": 2**60, "inf": None}


def test_progress_writes_nothing_to_stdout(capsys):
    with progress() as bar:
        task = bar.add_task("[red]name", total=2)
        bar.update(task, advance=2)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "x\u202egnp", " lead", os.fsdecode(b"\xff"), ""])
def test_names_that_could_mislead_are_quoted(name):
    assert shown(name).isprintable()
    assert shown(name).startswith("'")


def test_ordinary_names_are_shown_as_they_are():
    assert shown(Path("folder/Ä photo (1).png")) == "folder/Ä photo (1).png"


@pytest.mark.parametrize("relative", ["../a.png", "sub/../../a.png", "/etc/a.png"])
def test_a_path_that_leaves_its_folder_is_refused(tmp_path, relative):
    with pytest.raises(UserError, match="expected a path inside"):
        confined(tmp_path / "out", Path(relative))
    assert confined(tmp_path / "out", Path("sub/a.png")) == tmp_path / "out" / "sub" / "a.png"


def test_a_line_of_progress_in_a_log_stays_one_line(capsys):
    from pipeline.commands.train import _Show
    from pipeline.config import load_config

    row = {
        "step": 250,
        "stage": "teacher",
        "loss": 0.0123,
        "images_per_second": 123.4,
        "seconds": 12.3,
        "wait_share": 0.0712,
        "step_seconds": 0.0881,
        "all_reduce_seconds": 0.0131,
        "synthesis_seconds_per_batch": 0.01,
        "queue_ready": 2.0,
    }
    with progress() as bar:
        _Show(load_config(preset="quick"), bar)("row", row)
    written = capsys.readouterr().err
    assert written.startswith("teacher  250/")
    assert written.endswith(" s left\n")
    assert written.count("\n") == 1
    assert len(written) > 100
