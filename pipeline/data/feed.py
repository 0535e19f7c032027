"""One worker's bounded queue of batches on order: first in, first out, so order never depends on scheduling.

A batch is a pure function of (seed, index), so whoever makes it, and however often, it is the same batch. That is what
lets a worker ask another synthesizer for one that is late, and take whichever comes first.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_ANSWER_SECONDS = 10.0
"""A synthesizer that lives answers within this, even while it makes a batch."""

_START_PATIENCES = 10
"""A synthesizer that has never answered may still be starting; it has so many times the patience for that."""


@dataclass(slots=True)
class _Order:
    index: int
    maker: int
    """Number of the synthesizer that was asked first."""

    reference: Any


class Feed:
    """Iterates over batches `start`, `start + 1`, ... of this worker's positions.

    `depth` object references are in flight at any time: that bounds memory, and it is the back-pressure, since an
    actor is asked for the next batch only when one has been taken.
    """

    def __init__(
        self, synthesizers: Sequence[Any], positions: Sequence[int], start: int, depth: int, *, patience: float = 30.0
    ) -> None:
        self._synthesizers = list(synthesizers)
        self._positions = list(positions)
        self._next = start
        self._depth = depth
        self._patience = patience
        self._queue: collections.deque[_Order] = collections.deque()
        self._turn = start
        self._late: dict[int, Any] = {}
        """Synthesizers that were too slow -> what they owe; they get no new orders until they have delivered."""

        self._proven: set[int] = set()
        """Synthesizers that have answered since they were last restarted from here. Others may still be starting."""

        self.wait_seconds = 0.0
        """Time spent waiting for batches so far."""

        self.synthesis_seconds = 0.0
        """Time the actors spent on the batches taken so far."""

        self.notes: list[tuple[str, str]] = []
        """What there is to tell: ("quarantined", line) of files that could not be decoded, ("note", line) of waits."""

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        while len(self._queue) < self._depth:
            maker = self._whose_turn()
            reference = self._ask(maker, self._next, self._positions)
            self._queue.append(_Order(self._next, maker, reference))
            self._next += 1
        start = time.perf_counter()
        batch, cost = self._take(self._queue.popleft())
        self.wait_seconds += time.perf_counter() - start
        self.synthesis_seconds += cost["seconds"]
        for line in cost["quarantined"]:
            if ("quarantined", line) not in self.notes:
                self.notes.append(("quarantined", line))
        return batch

    def ask(self, index: int, positions: Sequence[int]) -> dict[str, np.ndarray]:
        """Fetch one batch out of turn, for pictures."""
        maker = self._whose_turn()
        return self._take(_Order(index, maker, self._ask(maker, index, positions)), positions)[0]

    def ready(self) -> int:
        """Return how many of the batches on order have been made."""
        import ray

        references = [order.reference for order in self._queue]
        if not references:
            return 0
        return len(ray.wait(references, num_returns=len(references), timeout=0, fetch_local=False)[0])

    def _ask(self, maker: int, index: int, positions: Sequence[int]) -> Any:
        return self._synthesizers[maker].make.remote(index, list(positions))

    def _whose_turn(self) -> int:
        """Return the next synthesizer in turn that is not late, or the next one if all are."""
        import ray

        for maker, owed in list(self._late.items()):
            if ray.wait([owed], timeout=0, fetch_local=False)[0]:
                del self._late[maker]
        count = len(self._synthesizers)
        turns = [(self._turn + more) % count for more in range(count)]
        maker = next((turn for turn in turns if turn not in self._late), turns[0])
        self._turn = maker + 1
        return maker

    def _take(
        self, order: _Order, positions: Sequence[int] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Wait for a batch; ask another synthesizer for it too whenever patience ends, and wake those that froze."""
        import ray

        asked = {order.maker: order.reference}
        waited = 0.0
        while True:
            ready, _ = ray.wait(list(asked.values()), num_returns=1, timeout=self._patience)
            if ready:
                batch, cost = ray.get(ready[0])
                self._proven.update(maker for maker, reference in asked.items() if reference == ready[0])
                return batch, cost
            waited += self._patience
            note = f"waited {waited:.0f} s for batch {order.index}"
            restarted = False
            for maker, reference in asked.items():
                self._late[maker] = reference
                starting = maker not in self._proven and waited < _START_PATIENCES * self._patience
                if not self._answers(maker) and not starting:
                    self._proven.discard(maker)
                    restarted = True
                    note += f"; synthesizer {maker} does not answer and is restarted"
                    # Whatever it owes is made again by its successor, under the same reference.
                    ray.kill(self._synthesizers[maker], no_restart=False)
            other = self._whose_turn()
            if other not in asked:
                asked[other] = self._ask(other, order.index, positions or self._positions)
                note += f"; synthesizer {other} is asked for it too"
            elif not restarted:
                note += ": all synthesizers are busy or without a CPU; look at `ray status`"
            self.notes.append(("note", note))

    def _answers(self, maker: int) -> bool:
        """Say whether a synthesizer's process lives, or is being started."""
        import ray

        try:
            ray.get(self._synthesizers[maker].pid.remote(), timeout=min(self._patience, _ANSWER_SECONDS))
        except ray.exceptions.GetTimeoutError:
            return False
        except ray.exceptions.RayActorError:
            return True  # Ray knows, and restarts it
        self._proven.add(maker)
        return True
