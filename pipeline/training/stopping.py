"""Stopping on request: the first signal asks the workers for a checkpoint, the second ends the process.

The request is a file in the run folder, which every node sees, since the checkpoints are there too.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from pipeline.errors import RunError
from pipeline.training.intake import Listener

STOP_NAME = ".stop"
_LOOK_SECONDS = 0.2


class StoppedError(RunError):
    """The run was asked to stop, has saved, and can be resumed."""


class StopRequest:
    """Looks for the request, a few times a second at most: the folder may be on a network."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / STOP_NAME
        self._looked = -float("inf")
        self._found = False

    def __call__(self) -> bool:
        """Say whether the run has been asked to stop."""
        if not self._found and time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._looked = time.monotonic()
            self._found = self._path.exists()
        return self._found


class Stopping:
    """The driver's side: SIGTERM and the first Ctrl-C become a request; a second Ctrl-C ends the process at once."""

    def __init__(self, run_dir: Path, listen: Listener) -> None:
        self._path = run_dir / STOP_NAME
        self._listen = listen
        self._asked = False

    def arm(self) -> None:
        """Handle signals from now on; called again after Ray has started, which handles SIGTERM in its own way."""
        # Only the main thread of a process may handle signals; a search runs trainings in others.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handle)
            signal.signal(signal.SIGINT, self._handle)

    def check(self) -> None:
        """Raise `StoppedError` if the request has been made."""
        if self._asked or self._path.exists():
            raise StoppedError("stopped on request; continue with --resume")

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self._asked:
            self._asked = True
            with contextlib.suppress(OSError):
                self._path.touch()
            name = signal.Signals(number).name
            self._listen("say", {"text": f"{name}: saving a checkpoint, then stopping; Ctrl-C stops at once"})


@contextlib.contextmanager
def stopping_on_signals(run_dir: Path, listen: Listener) -> Iterator[Stopping]:
    """Handle signals while the block runs; a request that was left behind is forgotten."""
    path = run_dir / STOP_NAME
    path.unlink(missing_ok=True)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    stopping = Stopping(run_dir, listen)
    stopping.arm()
    try:
        yield stopping
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
