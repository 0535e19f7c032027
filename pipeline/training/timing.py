"""Where the time of a worker goes, and which side of the feed is too slow."""

from __future__ import annotations

import math
import time
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from torch._C._distributed_c10d import GradBucket
    from torch.futures import Future

    from pipeline.schema import ClusterConfig
    from pipeline.training.rank import Rank

NOTABLE_WAIT = 0.05
"""Share of its time that a worker may wait for batches before anyone is told."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Means per step of one worker since it was last asked; seconds."""

    elapsed: float
    wait: float
    """Waiting for a batch."""

    synthesis: float
    """An actor's work on one batch of this worker; 0 where batches are made in this process."""

    all_reduce: float
    """Exchange of gradients that the backward pass did not hide; 0 for one worker, and on GPUs, where it is not
    measured."""

    ready: float
    """Batches that lay ready when asked."""


class Stopwatch:
    """Tells the timing of the steps since the last look."""

    def __init__(self, feed: Any, all_reduce: AllReduceTimer | None, step: int) -> None:
        self._feed = feed
        self._step = step
        self._all_reduce = all_reduce
        self._seen = self._now()

    def _now(self) -> tuple[float, float, float, float]:
        return (
            time.monotonic(),
            float(getattr(self._feed, "wait_seconds", 0.0)),
            float(getattr(self._feed, "synthesis_seconds", 0.0)),
            self._all_reduce.seconds if self._all_reduce else 0.0,
        )

    def lap(self, step: int) -> Timing:
        """Return the means of the steps up to `step` and begin anew."""
        now, steps = self._now(), max(step - self._step, 1)
        self._step = step
        elapsed, wait, synthesis, all_reduce = (
            (late - early) / steps for late, early in zip(now, self._seen, strict=True)
        )
        self._seen = now
        ready = self._feed.ready() if hasattr(self._feed, "ready") else 0
        return Timing(max(elapsed, 1e-9), wait, synthesis, all_reduce, float(ready))


def timing_row(timings: list[Timing], batch: int) -> dict[str, float]:
    """Return what a row of the log says of the timings of all workers: the slowest waits, means of the rest."""
    table = np.array([astuple(timing) for timing in timings])
    mean = dict(zip((field.name for field in fields(Timing)), table.mean(0), strict=True))
    return {
        "images_per_second": batch / mean["elapsed"],
        "wait_share": float((table[:, 1] / table[:, 0]).max()),
        "step_seconds": mean["elapsed"] - mean["wait"],
        "all_reduce_seconds": mean["all_reduce"],
        "synthesis_seconds_per_batch": float(table[:, 2].sum()),
        "queue_ready": float(table[:, 4].min()),
    }


def bottleneck(row: dict[str, float], cluster: ClusterConfig) -> str | None:
    """Return which side is too slow and what to change, or None while workers hardly wait."""
    wait = row["wait_share"]
    if wait < NOTABLE_WAIT:
        return None
    busy = row["synthesis_seconds_per_batch"] / max(row["step_seconds"], 1e-9)
    wanted = math.ceil(1.1 * busy)
    text = f"workers wait for batches {wait:.0%} of the time"
    if wanted > cluster.synthesizers:
        return (
            f"{text}: synthesis is the bottleneck; cluster.synthesizers={wanted} would keep up "
            f"(now {cluster.synthesizers})"
        )
    if cluster.synthesizers > 1 and cluster.threads == 0:
        return f"{text}, although {wanted} synthesizer(s) could keep up: cores are short; set cluster.threads lower"
    return f"{text}, although {cluster.synthesizers} synthesizer(s) could keep up: cores or the network are short"


class AllReduceTimer:
    """Measures how long a step still waits for gradients of others after its own backward pass; gloo only."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def exchange(self, bucket: GradBucket) -> Future[torch.Tensor]:
        """Average one bucket over all workers, as DDP does without a hook, and note the time of the last."""
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

        launched = time.perf_counter()

        def done(future: Future[torch.Tensor]) -> torch.Tensor:
            if bucket.is_last():
                self.seconds += time.perf_counter() - launched
            return future.value()

        return allreduce_hook(None, bucket).then(done)  # type: ignore[arg-type]


def distributed(network: nn.Module, rank: Rank) -> tuple[nn.Module, AllReduceTimer | None]:
    """Return the network as every rank calls it, and what times its exchanges."""
    if rank.world == 1:
        return network, None
    if rank.device.type == "cuda":
        return nn.parallel.DistributedDataParallel(network, device_ids=[rank.device]), None
    wrapped, timer = nn.parallel.DistributedDataParallel(network), AllReduceTimer()
    # Not the method itself: torch reads the annotations of hooks, and knows no strings.
    wrapped.register_comm_hook(None, lambda _, bucket: timer.exchange(bucket))
    return wrapped, timer
