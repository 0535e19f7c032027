"""One worker's bounded queue of batches on order: first in, first out, so order never depends on scheduling."""

from __future__ import annotations

import collections
import logging
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_PATIENCE_SECONDS = 60.0

log = logging.getLogger(__name__)


class Feed:
    """Iterates over batches `start`, `start + 1`, ... of this worker's positions.

    `depth` object references are in flight at any time: that bounds memory, and it is the back-pressure, since an
    actor is asked for the next batch only when one has been taken.
    """

    def __init__(self, synthesizers: Sequence[Any], positions: Sequence[int], start: int, depth: int) -> None:
        self._synthesizers = list(synthesizers)
        self._positions = list(positions)
        self._next = start
        self._depth = depth
        self._queue: collections.deque[Any] = collections.deque()
        self.wait_seconds = 0.0
        """Time spent waiting for batches so far."""

        self.synthesis_seconds = 0.0
        """Time the actors spent on the batches taken so far."""

        self.quarantined: list[str] = []
        """Undecodable files that the actors met, one line each."""

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        while len(self._queue) < self._depth:
            self._queue.append((self._next, self._order(self._next)))
            self._next += 1
        index, reference = self._queue.popleft()
        start = time.perf_counter()
        batch, cost = self._take(index, reference)
        self.wait_seconds += time.perf_counter() - start
        self.synthesis_seconds += cost["seconds"]
        self.quarantined += [line for line in cost["quarantined"] if line not in self.quarantined]
        return batch

    def ask(self, index: int, positions: Sequence[int]) -> dict[str, np.ndarray]:
        """Fetch one batch out of turn, for pictures."""
        return self._take(index, self._synthesizers[0].make.remote(index, list(positions)))[0]

    def _order(self, index: int) -> Any:
        return self._synthesizers[index % len(self._synthesizers)].make.remote(index, self._positions)

    def _take(self, index: int, reference: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        import ray

        waited = 0.0
        while True:
            try:
                batch, cost = ray.get(reference, timeout=_PATIENCE_SECONDS)
                return batch, cost
            except ray.exceptions.GetTimeoutError:
                waited += _PATIENCE_SECONDS
                log.warning(
                    "waited %.0f s for batch %d: the synthesizers are too slow, restarting or without a CPU; "
                    "raise cluster.synthesizers or look at `ray status`",
                    waited,
                    index,
                )
