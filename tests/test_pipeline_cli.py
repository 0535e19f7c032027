"""The command line: every command answers --help, and every mistake is one line with the right exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., tuple[int, dict[str, Any] | None, str]]
COMMANDS = [
    "demo",
    "train",
    "denoise",
    "evaluate",
    "analyze",
    "inspect",
    "synth",
    "develop",
    "tune",
    "models",
    "benchmark",
    "report",
    "doctor",
]


def one_line(text: str) -> str:
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("unveil: ")
    return lines[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    from pipeline.cli import main

    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code in (0, None)
    assert "--json" in capsys.readouterr().out or command in ("models", "benchmark")


def test_help_lists_these_commands_and_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    from pipeline.cli import app

    groups = [group.name for group in app.registered_groups]
    commands = [command.callback.__name__ for command in app.registered_commands]
    assert sorted([*groups, *commands]) == sorted(COMMANDS)


def train(unveil: Run, data: object, out: Path, *more: str) -> tuple[int, str]:
    code, value, stderr = unveil("train", "--preset", "quick", "--data", data, "--out", out, "--json", *more)
    line = one_line(stderr)
    assert value == {"error": line.removeprefix("unveil: "), "exit_code": code}
    assert not out.exists(), "a refused call leaves nothing behind"
    return code, line


def test_missing_folder(unveil: Run, tmp_path: Path) -> None:
    code, line = train(unveil, tmp_path / "nowhere", tmp_path / "run")
    assert code == 2
    assert str(tmp_path / "nowhere") in line


def test_empty_folder(unveil: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, line = train(unveil, tmp_path / "empty", tmp_path / "run")
    assert code == 2
    assert "empty" in line


def test_folder_with_nothing_but_a_text_file_named_png(unveil: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "text.png").write_text("hello")
    code, line = train(unveil, tmp_path / "data", tmp_path / "run")
    assert code == 2
    assert "none of its 1 images can be read" in line
    assert "text.png" in line


def test_image_smaller_than_the_crop_names_file_and_both_sizes(unveil: Run, photo_folder: Path, tmp_path: Path) -> None:
    code, line = train(unveil, photo_folder, tmp_path / "run", "data.crop=200")
    assert code == 2
    assert "photo_0.png" in line
    assert "96x96 is smaller than the 200x200 crop" in line


def test_unknown_key_and_value_out_of_range(unveil: Run, photo_folder: Path, tmp_path: Path) -> None:
    assert train(unveil, photo_folder, tmp_path / "run", "training.stepps=1") == (
        2,
        "unveil: training.stepps: unknown key; did you mean 'steps'?",
    )
    code, line = train(unveil, photo_folder, tmp_path / "run", "training.steps=-1")
    assert code == 2
    assert "training.steps: expected greater than or equal to 1, found -1" in line


def test_usage_mistakes_are_one_line_too(unveil: Run) -> None:
    code, _, stderr = unveil("train", "--nonsense")
    assert code == 2
    assert "--nonsense" in one_line(stderr)
    code, _, stderr = unveil("frobnicate")
    assert code == 2
    assert "frobnicate" in one_line(stderr)


def test_a_bare_call_shows_the_help_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    from pipeline.cli import main

    with pytest.raises(SystemExit) as stop:
        main([])
    captured = capfd.readouterr()
    assert stop.value.code == 2
    assert "Usage: unveil" in captured.out + captured.err
    assert "unveil: " not in captured.err


def test_denoise_without_weights_says_what_was_expected(unveil: Run, photo_folder: Path, tmp_path: Path) -> None:
    code, value, stderr = unveil("denoise", photo_folder, "--model", tmp_path, "--out", tmp_path / "out", "--json")
    assert code == 2
    assert "expected a weights folder" in one_line(stderr)
    assert value is not None
    assert value["exit_code"] == 2


def test_doctor_tries_everything_but_ray_in_quick_mode(unveil: Run) -> None:
    code, value, stderr = unveil("doctor", "--quick", "--json")
    assert code == 0, stderr
    assert value is not None
    assert {row["check"]: row["status"] for row in value["checks"]} == dict.fromkeys(
        ["python", "packages", "libraries", "machine", "torch", "camera raws", "tracking"], "ok"
    )


def test_a_tracking_server_that_is_away_is_one_line_without_the_password(
    unveil: Run, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    code, line = train(unveil, photo_folder, tmp_path / "run", "data.crop=32")
    assert code == 1
    assert line.startswith("unveil: MLFLOW_TRACKING_URI: http://me:***@127.0.0.1:9 does not answer")
    assert "secret" not in line
    code, _, stderr = unveil("models", "list")
    assert code == 1
    assert "does not answer" in one_line(stderr)
