"""Fixtures shared by all tests: a state folder of its own, small photographs, and where ../shared lies."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _state_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests away from the user's own runs and models."""
    base = tmp_path_factory.getbasetemp() / "home"
    base.mkdir(exist_ok=True)
    monkeypatch.setenv("UNVEIL_HOME", str(base))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A photograph, (256, 256, 3) uint8."""
    from skimage import data

    return data.astronaut()[:256, 128:384]


@pytest.fixture
def photo_folder(tmp_path: Path, photo: np.ndarray) -> Path:
    """A folder with three 96x96 photographs as PNG."""
    import imageio.v3 as iio

    folder = tmp_path / "photos"
    folder.mkdir()
    for index, (top, left) in enumerate([(0, 0), (80, 100), (150, 40)]):
        iio.imwrite(folder / f"photo_{index}.png", photo[top : top + 96, left : left + 96])
    return folder


@pytest.fixture
def unveil(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any] | None, str]]:
    """Run a command in this process; return its exit code, the JSON object on stdout (if any) and stderr."""
    from pipeline.cli import main

    def run(*arguments: object) -> tuple[int, dict[str, Any] | None, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        value = json.loads(captured.out) if "--json" in arguments and captured.out else None
        return int(stop.value.code or 0), value, captured.err

    return run
