"""A run folder: one process at a time, never overwritten, never resumed as something else; and its log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.errors import UserError
from pipeline.schema import TrainConfig
from pipeline.training.history import Tail, append_row, read_history
from pipeline.training.rundir import claim, locked, store


def config_for(folder: Path, *overrides: str) -> TrainConfig:
    return load_config(preset="quick", overrides=["network.width=8", *overrides], data=str(folder))


def test_readers_of_the_log_see_each_step_once_and_no_cut_line(tmp_path: Path) -> None:
    for step in (10, 20, 10, 20, 30):
        append_row(tmp_path, {"step": step, "loss": 1.0})
    append_row(tmp_path, {"event": "quarantined", "text": "x"})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 40, "lo')
    assert [row["step"] for row in read_history(tmp_path)] == [10, 20, 30]
    assert [row for row in Tail(tmp_path).new_rows() if "event" in row] == [{"event": "quarantined", "text": "x"}]


def test_a_run_folder_is_never_overwritten_nor_resumed_as_something_else(photo_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    config = config_for(photo_folder)
    assert claim(folder, resume=False) is None
    store(folder, config, before=None)
    with pytest.raises(UserError, match="continue it with --resume"):
        claim(folder, resume=False)
    before = claim(folder, resume=True)
    assert before == config
    store(folder, config_for(photo_folder, "training.steps=99"), before=before)
    assert claim(folder, resume=True) != config
    with pytest.raises(UserError, match=r"network\.width: .* was started with 8, found 16"):
        store(folder, config_for(photo_folder, "network.width=16"), before=before)
    with pytest.raises(UserError, match=r"training\.batch: .* was started with \d+, found 7"):
        store(folder, config_for(photo_folder, "training.batch=7"), before=before)
    with pytest.raises(UserError, match=r"--resume: expected a run"):
        claim(tmp_path / "other", resume=True)


def test_a_refused_run_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError), locked(tmp_path / "run"):
        raise UserError("refused")
    assert not (tmp_path / "run").exists()


def test_two_processes_cannot_use_one_run_folder_and_a_dead_one_s_lock_is_taken_over(tmp_path: Path) -> None:
    code = (
        f"import time\nfrom pathlib import Path\nfrom pipeline.training.rundir import locked\n"
        f"with locked(Path({str(tmp_path)!r})):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=f"in use by process {process.pid}"), locked(tmp_path):
            pass
    finally:
        process.kill()
        process.wait()
    with locked(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
        (tmp_path / "something").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["something"]
