"""Several files at a time in one process: while one is read or written, another is denoised.

Small pictures keep a core busy best with one thread of torch each: on two cores that takes a quarter off the time of
pictures of 128x128 (docs/results/batch.md). A large picture has the process to itself, with all threads, so that memory
stays that of one.
"""

from __future__ import annotations

import collections
import contextlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.data.images import ImageError, read_size
from pipeline.data.tiff_pages import pages_of
from pipeline.inference.denoiser import Denoiser, NetworkDenoiser
from pipeline.inference.staging import Convert, Staged, discard, stage

if TYPE_CHECKING:
    from pipeline.inference.files import Job

_CPU_PIXELS: Final = 1 << 20
"""Pixels in flight on CPUs. A pass takes 0.4 to 2.4 KB for each."""

_SMALL_PIXELS: Final = 1 << 18
"""A picture above this is computed in several tiles, or with several threads. On CPUs it has the process to itself."""

_GPU_PIXELS: Final = 1 << 26
"""Pixels in flight on a GPU, where decoding and compressing take longer than denoising."""

_GPU_FILES: Final = 4


class Flight:
    """Makes the outputs of jobs, several at a time, and gives them back in order.

    What a picture's output is depends neither on how many are in flight nor on which.
    """

    def __init__(self, convert: Convert, *, files: int, pixels: int, small: int, identified: bool) -> None:
        """Prepare.

        Args:
            convert: called in threads, for several pictures at a time.
            files: most files in flight.
            pixels: most pixels in flight.
            small: a picture of more pixels has the process to itself, in the main thread.
            identified: see `pipeline.inference.staging.stage`.
        """
        self._convert, self._files, self._identified = convert, files, identified
        self._pixels, self._small = pixels, small
        self._waiting: collections.deque[tuple[Job, int, Future[Staged]]] = collections.deque()

    def __call__(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Staged]]:
        """Yield each job with its output."""
        pool = ThreadPoolExecutor(self._files, thread_name_prefix="unveil-file", initializer=_one_thread)
        try:
            for job in jobs:
                size = _pixels(job.source)
                if size > self._small:
                    yield from self._landed(0, 0)
                    yield job, self._stage(job)
                    continue
                yield from self._landed(self._files - 1, self._pixels - size)
                self._waiting.append((job, size, pool.submit(self._stage, job)))
            yield from self._landed(0, 0)
        finally:
            # A thread cannot be stopped; what it works on is small.
            pool.shutdown(wait=True, cancel_futures=True)
            for _, _, future in self._waiting:
                if not future.cancelled() and future.exception() is None:
                    discard(future.result())

    def _stage(self, job: Job) -> Staged:
        return stage(self._convert, job.source, job.output, identified=self._identified)

    def _landed(self, files: int, pixels: int) -> Iterator[tuple[Job, Staged]]:
        """Yield the oldest until no more than so many files and pixels are in flight."""
        while self._waiting and (len(self._waiting) > files or sum(size for _, size, _ in self._waiting) > pixels):
            staged = self._waiting[0][2].result()
            job, _, _ = self._waiting.popleft()
            yield job, staged


def flight_of(denoiser: Denoiser, convert: Convert, *, identified: bool) -> Flight:
    """Return what suits a denoiser: one file at a time unless it is known to work in several threads."""
    if not isinstance(denoiser, NetworkDenoiser):
        return Flight(convert, files=1, pixels=0, small=-1, identified=identified)
    if denoiser.device != "cpu":
        return Flight(convert, files=_GPU_FILES, pixels=_GPU_PIXELS, small=_GPU_PIXELS, identified=identified)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Flight(convert, files=cores, pixels=_CPU_PIXELS, small=_SMALL_PIXELS, identified=identified)


def _pixels(source: Path) -> int:
    """The size of a picture by its header; of a stack, an EXR or a broken file its bytes, which is as good a guess."""
    try:
        pages = pages_of(source)
        if pages is None or pages.count == 1:
            height, width = read_size(source)
            return height * width
    except ImageError:
        pass
    with contextlib.suppress(OSError):
        return source.stat().st_size
    return 0


def _one_thread() -> None:
    """Give the calling thread one thread of torch; others keep theirs."""
    import torch

    torch.set_num_threads(1)
