"""Many pictures measured side by side in this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from pipeline.evaluation.cases import Case
from pipeline.evaluation.contenders import Contender
from pipeline.evaluation.score_case import Scored, score_case
from pipeline.inference.denoiser import Denoiser

MAX_THREADS: Final = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A picture, and who has not been measured on it."""

    at: tuple[int, int]
    """Number of its set, and its number there."""

    case: Case
    contenders: tuple[Contender, ...]
    crops: bool = False


Work = Callable[[Sequence[Task]], Iterable[tuple[Task, Scored]]]
"""Measures tasks and gives each back when it is done, in any order."""


def score_here(
    tasks: Sequence[Task], denoisers: Mapping[str, Denoiser], metrics: Sequence[str], threads: int = 0
) -> Iterator[tuple[Task, Scored]]:
    """Measure in threads: classical denoisers and metrics side by side, models one picture at a time.

    Args:
        tasks: what to measure.
        denoisers: label -> model.
        metrics: which.
        threads: 0 takes one a core, at most 8.

    Raises:
        UserError, ValueError: as for `pipeline.evaluation.score_case.score_case`.
    """
    models = threading.Lock()
    with ThreadPoolExecutor(max_workers=threads or min(os.cpu_count() or 1, MAX_THREADS)) as pool:
        jobs = [
            pool.submit(
                score_case, task.case, task.contenders, metrics, denoisers, one_at_a_time=models, crops=task.crops
            )
            for task in tasks
        ]
        try:
            for task, job in zip(tasks, jobs, strict=True):
                yield task, job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
