"""Many pictures measured side by side by processes that Ray starts, on this machine or all over a cluster.

Weights travel with the work, so a worker needs none of the driver's files but the pictures. A picture whose worker died
is measured again elsewhere.
"""

from __future__ import annotations

import functools
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.errors import RunError, UserError
from pipeline.evaluation.contenders import Contender
from pipeline.evaluation.score_case import Scored, score_case
from pipeline.evaluation.scoring import Task
from pipeline.inference.denoiser import CARD_NAME, WEIGHTS_NAME, Denoiser, NetworkDenoiser

_RETRIES: Final = 2
_AHEAD: Final = 2
"""Pictures that a worker has at a time: one to work on, one to go on with."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Who is measured with what: sent to each worker once."""

    weights: dict[str, tuple[bytes, bytes]]
    """Label -> content of the weights file and of its card."""

    contenders: dict[str, Contender]
    metrics: tuple[str, ...]
    device: str


def bundle(contenders: Sequence[Contender], metrics: Sequence[str], *, device: str) -> Bundle:
    """Pack who is measured.

    Raises:
        UserError: a model without a weights folder cannot be sent.
    """
    weights = {}
    for one in contenders:
        if one.kind != "model":
            continue
        if one.folder is None:
            raise UserError(f"--workers: expected trained weights to send to workers, found {one.label} without any")
        weights[one.label] = ((one.folder / WEIGHTS_NAME).read_bytes(), (one.folder / CARD_NAME).read_bytes())
    return Bundle(weights, {one.label: one for one in contenders}, tuple(metrics), device)


def score_on_ray(tasks: Sequence[Task], packed: Bundle, workers: int) -> Iterator[tuple[Task, Scored]]:
    """Measure in worker processes of one thread, or of one GPU, each; Ray must have been started.

    Args:
        tasks: what to measure.
        packed: of `bundle`.
        workers: how many at a time.

    Raises:
        UserError, ValueError: as for `pipeline.evaluation.score_case.score_case`.
        RunError: a picture ended the process that measured it, three times.
    """
    import ray

    # In a list, or Ray would unpack it for every call.
    known = [ray.put(packed)], uuid.uuid4().hex
    resources = {"num_gpus": 1} if packed.device.startswith("cuda") else {"num_cpus": 1}
    remote = ray.remote(_score).options(max_retries=_RETRIES, **resources)
    waiting = list(reversed(tasks))
    running: dict[Any, Task] = {}
    try:
        while waiting or running:
            while waiting and len(running) < _AHEAD * workers:
                task = waiting.pop()
                labels = [one.label for one in task.contenders]
                running[remote.remote(*known, task.case.absolute(), labels, task.crops)] = task
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                task = running.pop(reference)
                yield task, _result(ray, reference, task)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _result(ray: Any, reference: Any, task: Task) -> Scored:
    try:
        scored: Scored = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, UserError | RunError | ValueError | MemoryError):
            raise type(cause)(str(cause)) from None
        raise RunError(f"{task.case.place}: cannot be measured: {' '.join(str(cause).split())[:300]}") from error
    except ray.exceptions.RayError as error:
        times = 1 + _RETRIES
        raise RunError(f"{task.case.place}: ended the process that measured it, {times} times") from error
    return scored


def _score(packed: list[Any], key: str, case: Any, labels: list[str], crops: bool) -> Scored:
    """Runs in a worker."""
    known, denoisers = _unpacked(_Once(packed, key))
    return score_case(case, [known.contenders[label] for label in labels], known.metrics, denoisers, crops=crops)


class _Once:
    """A bundle that is fetched when it is new to a process: equal by its key alone."""

    def __init__(self, packed: list[Any], key: str) -> None:
        self.packed, self.key = packed, key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Once) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)


@functools.lru_cache(maxsize=1)
def _unpacked(once: _Once) -> tuple[Bundle, Mapping[str, Denoiser]]:
    import ray
    import torch

    from pipeline.cluster import check_packages
    from pipeline.data.allocator import keep_freed_memory

    check_packages()
    keep_freed_memory()
    packed: Bundle = ray.get(once.packed[0])
    if not packed.device.startswith("cuda"):
        torch.set_num_threads(1)
    denoisers: dict[str, Denoiser] = {}
    for label, (weights, card) in packed.weights.items():
        with tempfile.TemporaryDirectory(prefix="unveil-weights-") as place:
            folder = Path(place)
            (folder / WEIGHTS_NAME).write_bytes(weights)
            (folder / CARD_NAME).write_bytes(card)
            loaded = NetworkDenoiser(folder, packed.device)
        inference = packed.contenders[label].inference
        denoisers[label] = loaded if inference is None else loaded.using(inference)
    return packed, denoisers
