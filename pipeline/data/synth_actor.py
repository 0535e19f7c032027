"""The Ray actor that makes training batches; Ray restarts it when it dies, and it repeats what it owed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from pipeline.data.source import SourceSpec


class Synthesizer:
    """Wraps a `BatchSource` in a process of its own, on one thread: more would fight with the trainers."""

    def __init__(self, spec: SourceSpec) -> None:
        import torch

        from pipeline.cluster import check_packages
        from pipeline.data.allocator import keep_freed_memory
        from pipeline.data.source import batch_source

        check_packages()
        keep_freed_memory()
        torch.set_num_threads(1)
        self._source = batch_source(spec)
        self._reported = 0

    def make(self, index: int, positions: Sequence[int]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the batch and what it cost: seconds of synthesis, and newly quarantined files."""
        import time

        start = time.perf_counter()
        batch = self._source.batch(index, positions)
        bad = list(self._source.quarantined.values())[self._reported :]
        self._reported += len(bad)
        return batch, {"seconds": time.perf_counter() - start, "quarantined": bad}

    def pid(self) -> int:
        """Return the process id, which fault tests kill."""
        return os.getpid()


def start_synthesizers(spec: SourceSpec, count: int, *, cpus: float) -> list[Any]:
    """Start `count` actors that are restarted, and their calls retried, without limit."""
    import ray

    actor = ray.remote(max_restarts=-1, max_task_retries=-1, num_cpus=cpus)(Synthesizer)
    return [actor.remote(spec) for _ in range(count)]
