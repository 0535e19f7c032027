"""What a worker process reads once for all trials that it runs: images, crops to judge on, and the noise in them."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.data.held_out import MEASURE_BATCH
from pipeline.data.source import BatchSource, SourceSpec, batch_source
from pipeline.evaluation.trust_known import Known, known_noise, middles
from tuning.effort import Effort


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrustCrops:
    """Noisy crops, and what is known of their noise."""

    noisy: Tensor
    """(B, C, H, W) float32 in [0, 1], on the CPU."""

    known: Known


@functools.lru_cache(maxsize=1)
def _source(spec: SourceSpec) -> BatchSource:
    return batch_source(spec)


def training_source(spec: SourceSpec, seed: int) -> BatchSource:
    """Return what a trial trains on, with the images that trials before it have decoded; for one trial at a time."""
    source = _source(spec)
    source.spec = replace(spec, seed=seed)
    # What one trial could not decode the next one may: a trial does not depend on those before it.
    source.quarantined.clear()
    return source


@functools.lru_cache(maxsize=2)
def held_out_batch(spec: SourceSpec, index: int, count: int) -> dict[str, NDArray[Any]]:
    """Return a batch that trials are judged on; not to be written to."""
    return BatchSource(spec).batch(index, range(count))


@functools.lru_cache(maxsize=2)
def trust_crops(spec: SourceSpec, count: int, effort: Effort) -> TrustCrops:
    """Return the middles of the ``count`` crops that trust can be measured on; the crops, if these tell no noise.

    The noise is that of the whole crops, measured once a process.
    """
    noisy, known = _known_noise(spec, count)
    cut, inside = middles(noisy, known, effort.side(noisy.shape[-1]))
    if any(areas.reliable for _, areas in inside):
        return TrustCrops(noisy=cut, known=inside)
    return TrustCrops(noisy=noisy, known=known)


@functools.lru_cache(maxsize=1)
def _known_noise(spec: SourceSpec, count: int) -> tuple[Tensor, Known]:
    batch = held_out_batch(spec, MEASURE_BATCH, count)
    noisy = torch.from_numpy(batch["noisy"])
    return noisy, known_noise(noisy, batch["images"])
