"""Files denoised by worker processes that Ray starts, on this machine or all over a cluster.

A worker makes an output under a temporary name; only the driver, which keeps the manifest, gives it its own. So it does
not matter how often a file is begun: what a dead worker owed is made by another, to the same bytes. A file that ends
the process of two workers that had nothing else to do is left out.
"""

from __future__ import annotations

import collections
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.data.paths import shown
from pipeline.errors import RunError
from pipeline.inference.staging import Convert, Staged, discard, stage

if TYPE_CHECKING:
    from pipeline.inference.files import Job

Build = Callable[[str], Convert]
"""Called in a worker with the device; returns what makes the files. It is sent to other machines."""

_DEATHS: Final = 2
"""Of a process that had this file alone; a first death may have had another reason."""

_ORDERS: Final = 2
"""Files that a worker has at a time: one to work on, one to go on with."""

_START_SECONDS: Final = 300.0
"""Time in which a worker must have started."""

_BARREN_STARTS: Final = 5
"""Workers that die before they can work, one after the other, before the run ends."""


class FileWorker:
    """Runs in a process of its own, on one thread, or on a GPU."""

    def __init__(self, build: Build, device: str, *, identified: bool) -> None:
        from pipeline.cluster import check_packages
        from pipeline.data.allocator import keep_freed_memory

        check_packages()
        keep_freed_memory()
        self._convert, self._identified = build(device), identified
        if (torch := sys.modules.get("torch")) is not None:
            torch.set_num_threads(1)

    def pid(self) -> int:
        """Return the process id, as soon as there is a model."""
        return os.getpid()

    def stage(self, source: str, output: str) -> Staged:
        """Make one output; see `pipeline.inference.staging.stage`."""
        return stage(self._convert, Path(source), Path(output), identified=self._identified)


@dataclass(eq=False, slots=True)
class _Worker:
    actor: Any
    started: Any
    """Answered when the worker can work."""

    since: float
    orders: dict[Any, Job] = field(default_factory=dict)
    """What it was asked for and has not delivered, oldest first."""

    ready: bool = False


class Workers:
    """Makes the outputs of jobs in worker processes, and gives them back as they come."""

    def __init__(self, build: Build, count: int, *, gpus: bool, identified: bool) -> None:
        """Prepare; Ray must have been started.

        Args:
            build: makes what makes the files.
            count: workers.
            gpus: whether each has a GPU, and not a CPU alone.
            identified: see `pipeline.inference.staging.stage`.
        """
        self._build, self._count, self._gpus, self._identified = build, count, gpus, identified
        self._workers: list[_Worker] = []
        self._again: collections.deque[Job] = collections.deque()
        self._suspects: set[int] = set()
        self._deaths: collections.Counter[int] = collections.Counter()
        self._barren = 0

    def __call__(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Staged]]:
        """Yield each job with its output.

        Raises:
            RunError: the disk is full, or workers do not start.
        """
        rest = iter(jobs)
        try:
            for _ in range(self._count):
                self._start()
            while self._order(rest):
                yield from self._collect()
        finally:
            self._stop()

    def _start(self) -> None:
        import ray

        device, resources = ("cuda", {"num_gpus": 1}) if self._gpus else ("cpu", {"num_cpus": 1})
        actor = ray.remote(FileWorker).options(max_restarts=0, **resources)
        started = actor.remote(self._build, device, identified=self._identified)
        self._workers.append(_Worker(started, started.pid.remote(), time.monotonic()))

    def _order(self, rest: Iterator[Job]) -> bool:
        """Give every worker something to do, and say whether anything is owed."""
        for worker in self._workers:
            while worker.ready and self._has_room(worker) and (job := self._next(rest)) is not None:
                if worker.orders and job.number in self._suspects:
                    self._again.appendleft(job)
                    break
                reference = worker.actor.stage.remote(str(job.source.absolute()), str(job.output.absolute()))
                worker.orders[reference] = job
        if any(worker.orders for worker in self._workers):
            return True
        # Nobody can work yet: look whether there is work to wait for.
        if (job := self._next(rest)) is None:
            return False
        self._again.append(job)
        return True

    def _has_room(self, worker: _Worker) -> bool:
        """Say whether a worker may have one more file. Whatever was on a worker that died is worked on alone."""
        return len(worker.orders) < _ORDERS and not any(job.number in self._suspects for job in worker.orders.values())

    def _next(self, rest: Iterator[Job]) -> Job | None:
        return self._again.popleft() if self._again else next(rest, None)

    def _collect(self) -> Iterator[tuple[Job, Staged]]:
        """Wait for something to happen, and yield what was made."""
        import ray

        waited = {reference: worker for worker in self._workers for reference in worker.orders}
        waited |= {worker.started: worker for worker in self._workers if not worker.ready}
        done, _ = ray.wait(list(waited), num_returns=len(waited), timeout=0)
        if not done:
            done, _ = ray.wait(list(waited), num_returns=1, timeout=5.0)
        for worker in {waited[reference] for reference in done}:
            yield from self._hear(worker, set(done))
        if not any(worker.ready for worker in self._workers):
            self._check_start()

    def _hear(self, worker: _Worker, done: set[Any]) -> Iterator[tuple[Job, Staged]]:
        """Take what a worker has delivered; bury it if it died."""
        import ray

        try:
            if worker.started in done and not worker.ready:
                ray.get(worker.started)
                worker.ready, self._barren = True, 0
            for reference in [reference for reference in worker.orders if reference in done]:
                staged = ray.get(reference)
                job = worker.orders.pop(reference)
                yield job, _in_the_users_words(staged, job)
        except ray.exceptions.RayActorError as error:
            yield from self._bury(worker, str(error))
        except ray.exceptions.RayTaskError as error:
            raise _plain(error.cause) from error

    def _bury(self, worker: _Worker, how: str) -> Iterator[tuple[Job, Staged]]:
        """Have another worker do what a dead one owed, but leave out what killed two."""
        self._workers.remove(worker)
        if not worker.ready:
            self._barren += 1
            if self._barren >= _BARREN_STARTS:
                raise RunError(f"--workers: a worker ended before it could work ({_one_line(how)}); try --workers 0")
        owed = list(worker.orders.values())
        if "node has died" not in how:  # which is no file's fault
            # Which of several it was at is not known: the word that one is finished may have died with the process.
            self._suspects.update(job.number for job in owed)
            if len(owed) == 1:
                self._deaths[owed[0].number] += 1
                if self._deaths[owed[0].number] >= _DEATHS:
                    guilty = owed.pop()
                    error = f"{shown(guilty.source)}: ended the process that worked on it, {_DEATHS} times; left out"
                    yield guilty, Staged(error=error, seconds=0.0)
        self._again.extend(owed)
        self._start()

    def _check_start(self) -> None:
        if all(time.monotonic() - worker.since > _START_SECONDS for worker in self._workers):
            raise RunError(
                f"--workers: no worker started within {_START_SECONDS:.0f} s; `ray status` shows what they wait for"
            )

    def _stop(self) -> None:
        """End all workers, and wait until none of them can write any more."""
        import ray

        with contextlib.suppress(Exception):
            for worker in self._workers:
                for reference in ray.wait(list(worker.orders), timeout=0)[0] if worker.orders else ():
                    discard(ray.get(reference))
                ray.kill(worker.actor)
            pids = [worker.actor.pid.remote() for worker in self._workers]
            ray.wait(pids, num_returns=len(pids), timeout=10.0)


def _in_the_users_words(staged: Staged, job: Job) -> Staged:
    """Name a source as the user did: a worker has another current folder."""
    if staged.error is None:
        return staged
    return replace(staged, error=staged.error.replace(shown(job.source.absolute()), shown(job.source)))


def _plain(cause: Any) -> Exception:
    """What a worker raised, as it raised it."""
    return RunError(_one_line(str(cause))) if isinstance(cause, RunError) else RuntimeError(_one_line(repr(cause)))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
