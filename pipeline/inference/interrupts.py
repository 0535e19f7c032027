"""Ctrl-C and SIGTERM end a batch between two files or within one; a second Ctrl-C ends the process at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_STOPPED = 130


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise `KeyboardInterrupt` once, at the first Ctrl-C or SIGTERM, while the block runs.

    Threads other than the main one cannot handle signals; there nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal asked
        if asked and number == signal.SIGINT:
            # Whatever is half-written has a temporary name, and the next run removes it.
            os._exit(_STOPPED)
        if not asked:
            asked = True
            raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
