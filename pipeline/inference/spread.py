"""Where the files of a batch are made: in this process, or by workers that Ray starts, if that is sooner done."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.cluster import Started
    from pipeline.inference.files import Job, Work
    from pipeline.inference.staging import Staged
    from pipeline.inference.workers import Build

HANDFUL: Final = 8
"""Files that are never worth a cluster."""

WORTH_SECONDS: Final = 60.0
"""Work of this process that starting Ray and workers on the same machine is worth; see docs/results/batch.md."""

_LOOK_SECONDS: Final = 3.0
"""Work after which what is left is estimated."""

_WORKER_BYTES: Final = 2 << 30
"""Free memory that a worker on this machine needs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """What the user decides about it, and how it is told."""

    workers: int | None = None
    """Worker processes; 0 for none; None to choose."""

    say: Callable[[str], None] | None = None
    """Called with a line when Ray has been started."""

    def over(self, here: Work, build: Build, *, gpu: bool, identified: bool = True) -> Work:
        """Return what makes the files.

        Args:
            here: makes them in this process.
            build: makes what makes them, in a worker.
            gpu: whether a GPU is used.
            identified: see `pipeline.inference.staging.stage`.
        """

        def work(jobs: Iterable[Job]) -> Iterator[tuple[Job, Staged]]:
            if self.workers == 0:
                yield from here(jobs)
                return
            if self.workers is not None:
                todo, worth = list(jobs), True
            elif _cluster_is_there() or (gpu and _gpus() > 1):
                todo = list(jobs)
                worth = len(todo) > HANDFUL
            else:
                seconds, todo = yield from _begin(here, iter(jobs))
                worth = seconds > WORTH_SECONDS and not gpu and _cores() > 1
            yield from self._on_ray(todo, build, gpu=gpu, identified=identified) if worth else here(todo)

        return work

    def _on_ray(self, todo: list[Job], build: Build, *, gpu: bool, identified: bool) -> Iterator[tuple[Job, Staged]]:
        from pipeline.cluster import start_ray
        from pipeline.inference.workers import Workers

        if not todo:
            return
        with _signals_kept():
            started = start_ray(self.workers or 1)
        try:
            count = min(self.workers or _count(started, gpu=gpu), len(todo))
            if self.say is not None:
                where = "Ray, started here" if started.embedded else "the Ray cluster"
                kind = "on a GPU each" if gpu else "on one thread each"
                self.say(f"{len(todo)} files to {count} workers of {where}, {kind}")
            yield from Workers(build, count, gpus=gpu, identified=identified)(todo)
        finally:
            started.leave()


def workers_of(text: str) -> int | None:
    """Read ``--workers``: a number, or None for ``auto``.

    Raises:
        UserError: anything else.
    """
    if text == "auto":
        return None
    with contextlib.suppress(ValueError):
        if 0 <= int(text) <= 10_000:
            return int(text)
    raise UserError(f"--workers: expected auto, 0 (this process) or a number of processes, found {text!r}")


def _begin(here: Work, jobs: Iterator[Job]) -> Generator[tuple[Job, Staged], None, tuple[float, list[Job]]]:
    """Make the first files here; return the seconds that the rest would take, and the rest."""
    start = time.perf_counter()
    done = 0

    def first() -> Iterator[Job]:
        for job in jobs:
            yield job
            if time.perf_counter() - start > _LOOK_SECONDS:
                return

    for job, staged in here(first()):
        done += _size(job)
        yield job, staged
    seconds = time.perf_counter() - start
    # Even if a hash is read for each: a run that only looks what is up to date should not start Ray for it.
    left = list(jobs)
    return seconds * sum(map(_size, left)) / max(done, 1), left


def _size(job: Job) -> int:
    """Bytes of the source: they grow with the pixels, and looking them up costs nothing."""
    with contextlib.suppress(OSError):
        return job.source.stat().st_size
    return 0


def _cluster_is_there() -> bool:
    from pipeline.cluster import embeds, submitted

    return submitted() or not embeds()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _count(started: Started, *, gpu: bool) -> int:
    if gpu:
        return max(1, int(started.gpus))
    if not started.embedded:
        return max(1, int(started.cpus))
    import psutil

    return max(1, min(_cores(), int(psutil.virtual_memory().available // _WORKER_BYTES)))


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray handles SIGTERM in its own way from its start on; a batch that is stopped has more to do."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
