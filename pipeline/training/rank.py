"""A worker's place among the others, its share of every batch, and what all of them agree on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.data.source import SourceSpec, batch_source, local_feed


def _never() -> bool:
    return False


def _always() -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Rank:
    """This worker's place among the others, and its batches."""

    index: int
    world: int
    device: torch.device
    feed: Callable[[int], Iterator[Mapping[str, np.ndarray]]]
    """Returns the batches from the given step on."""

    ask: Callable[[int, range], Mapping[str, np.ndarray]]
    """Fetches one batch out of turn."""

    stop: Callable[[], bool] = _never
    """Whether the run has been asked to save and stop; asked of rank 0 alone."""

    preempted: Callable[[], bool] = _never
    """Whether a node of this run is about to be taken away; all workers ask at the same step, and get one answer."""

    owns: Callable[[], bool] = _always
    """Whether the run folder is still this run's: False once another process has taken it over."""


def positions(batch: int, index: int, world: int) -> range:
    """Return the samples of the global batch that are rank `index`'s share; shares differ by one at most."""
    return range(batch * index // world, batch * (index + 1) // world)


def local_rank(spec: SourceSpec, batch: int, device: str = "cpu", *, stop: Callable[[], bool] = _never) -> Rank:
    """Return the only rank of a run in this process, which makes its batches itself."""
    source = batch_source(spec)
    return Rank(
        index=0,
        world=1,
        device=torch.device(device),
        feed=lambda start: local_feed(source, range(batch), start),
        ask=source.batch,
        stop=stop,
    )


def agree(values: list[float], rank: Rank) -> list[float]:
    """Return rank 0's values on every rank: clocks differ, and all must stop and save at the same step."""
    if rank.world == 1:
        return values
    shared = torch.tensor(values, dtype=torch.float64, device=rank.device)
    torch.distributed.broadcast(shared, src=0)
    return [float(value) for value in shared]


def gather(values: list[float], rank: Rank) -> np.ndarray:
    """Return the values of every rank, (world, len(values)) float64, on every rank."""
    if rank.world == 1:
        return np.array([values])
    own = torch.tensor(values, dtype=torch.float64, device=rank.device)
    everyone: list[Tensor] = [torch.empty_like(own) for _ in range(rank.world)]
    torch.distributed.all_gather(everyone, own)
    return np.array(torch.stack(everyone).cpu())
