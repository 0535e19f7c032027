"""The Ray actor that makes training batches; Ray restarts it when it dies, and it repeats what it owed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from pipeline.data.source import SourceSpec


_MANY_FILES = 500
"""More would not fit into a call, whose arguments Ray moves to the object store beyond 100 KiB."""


class Synthesizer:
    """Wraps a `BatchSource` in a process of its own, on one thread: more would fight with the trainers."""

    def __init__(self, shared: Sequence[Any], name: str) -> None:
        """`shared` holds a `SourceSpec` or its reference, which a restarted actor fetches anew."""
        import ray
        import torch

        from pipeline.cluster import check_packages
        from pipeline.data.allocator import keep_freed_memory
        from pipeline.data.last_words import LastWords
        from pipeline.data.source import batch_source

        check_packages()
        keep_freed_memory()
        torch.set_num_threads(1)
        spec: SourceSpec = ray.get(shared[0]) if isinstance(shared[0], ray.ObjectRef) else shared[0]
        self._source = batch_source(spec)
        words = LastWords(Path(tempfile.gettempdir()) / f"unveil-{name}.json")
        self._source.quarantined.update(words.read())
        self._source.decoding = words.decoding
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
        """Return the process id; answered at once, even while a batch is being made, by whatever is not frozen."""
        return os.getpid()

    def node(self) -> str:
        """Return the id of the node this actor is on."""
        import ray

        return str(ray.get_runtime_context().get_node_id())


class Synthesizers(list[Any]):
    """Actor handles, and the reference of what they make batches of: it must live as long as they may be restarted."""

    def __init__(self, handles: Iterable[Any], spec: Any) -> None:
        super().__init__(handles)
        self.spec = spec


def start_synthesizers(
    spec: SourceSpec, count: int, *, cpus: float, kind: type[Synthesizer] = Synthesizer
) -> Synthesizers:
    """Start `count` actors, spread over the nodes, that are restarted, and their calls retried, without limit."""
    import secrets

    import ray

    # Answers to `pid` and `node` come from a thread of their own.
    for method in (kind.pid, kind.node):
        ray.method(concurrency_group="health")(method)
    actor = ray.remote(
        max_restarts=-1,
        max_task_retries=-1,
        num_cpus=cpus,
        scheduling_strategy="SPREAD",
        concurrency_groups={"health": 1},
    )(kind)
    run = secrets.token_hex(4)
    names = [f"synthesizer-{run}-{number}" for number in range(count)]
    # The paths of a million images are 100 MB: put once, fetched by each node once. In a list, since Ray would else
    # fetch it for the first start alone. A small one goes with the call.
    shared = spec if len(spec.files) < _MANY_FILES else ray.put(spec)
    return Synthesizers((actor.options(name=name).remote([shared], name) for name in names), shared)
