"""Tasks in several processes: results in the order of the tasks, and a process that dies is one failed task.

`concurrent.futures` gives up the whole pool when a process dies and does not say over which task; a decoder that
crashes on one picture must not cost the other thousand.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, NamedTuple, TypeVar

from pipeline.errors import RunError

T = TypeVar("T")
R = TypeVar("R")

_READY = "ready"
_STOP_SECONDS = 5.0
_STILLBORN = 3


class Crashed(NamedTuple):
    """Stands for the result of a task whose process died."""

    reason: str
    """How, in words."""


class _Worker(NamedTuple):
    process: BaseProcess
    pipe: Connection


def run_in_processes(
    function: Callable[[T], R], tasks: Sequence[T], workers: int, on_done: Callable[[int, R | Crashed], None]
) -> None:
    """Call ``function`` with every task, in ``workers`` processes that are started for it.

    Args:
        function: can be pickled, and so can its results. What it raises ends the run.
        tasks: can be pickled.
        workers: how many processes, at least 1.
        on_done: called in this process with the index of a task and its result, as they come.

    Raises:
        RunError: the processes do not start.
    """
    pool: _Pool[T, R] = _Pool(function, tasks, on_done)
    try:
        pool.run(min(workers, len(tasks)))
    finally:
        pool.stop()


class _Pool(Generic[T, R]):
    def __init__(
        self, function: Callable[[T], R], tasks: Sequence[T], on_done: Callable[[int, R | Crashed], None]
    ) -> None:
        self._function, self._tasks, self._on_done = function, tasks, on_done
        self._queue = list(reversed(range(len(tasks))))
        self._workers: dict[Connection, _Worker] = {}
        self._busy: dict[Connection, int] = {}
        self._started, self._stillborn = False, 0

    def run(self, count: int) -> None:
        for _ in range(count):
            self._start()
        while self._queue or self._busy:
            for pipe in wait(list(self._workers)):
                self._hear(pipe)  # type: ignore[arg-type]

    def stop(self) -> None:
        for worker in self._workers.values():
            worker.pipe.close()
            # An idle one leaves by itself when its pipe closes; one at work is not waited for.
            worker.process.terminate()
        for worker in self._workers.values():
            worker.process.join(_STOP_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers.clear()

    def _start(self) -> None:
        # Not forked: a copy of a process that has threads (torch's, a progress bar's) may hang.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._function), daemon=True)
        with _interrupts_ignored():
            process.start()
        theirs.close()
        self._workers[ours] = _Worker(process, ours)

    def _hear(self, pipe: Connection) -> None:
        try:
            answer: Any = pipe.recv()
        except (EOFError, OSError):
            self._bury(pipe)
            return
        if answer == _READY:
            self._started = True
        else:
            index = self._busy.pop(pipe)
            result, error = answer
            if error is not None:
                raise error
            self._on_done(index, result)
        if self._queue:
            self._busy[pipe] = self._queue.pop()
            # A worker that has just died is heard of by the next wait.
            with contextlib.suppress(OSError):
                pipe.send(self._tasks[self._busy[pipe]])

    def _bury(self, pipe: Connection) -> None:
        worker = self._workers.pop(pipe)
        pipe.close()
        worker.process.join(_STOP_SECONDS)
        how = _cause(worker.process.exitcode)
        if pipe in self._busy:
            self._on_done(self._busy.pop(pipe), Crashed(how))
        else:
            self._stillborn += 1
            if not self._started or self._stillborn > _STILLBORN:
                raise RunError(f"--workers: a process {how} before it could work; try --workers 1")
        if self._queue:
            self._start()


def _serve(pipe: Connection, function: Callable[[Any], Any]) -> None:
    import torch

    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.send(_READY)
        while True:
            task = pipe.recv()
            answer: tuple[Any, Exception | None]
            try:
                answer = function(task), None
            except Exception as error:  # noqa: BLE001 - it is raised again, in the parent
                answer = None, error
            pipe.send(answer)


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Children started within ignore Ctrl-C, which a terminal sends to all: the parent alone decides what ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
