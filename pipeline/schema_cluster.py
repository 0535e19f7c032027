"""The part of the configuration that says what a run takes from a cluster, and the base of every part."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Frozen, strict about keys, described by the string under each field."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ClusterConfig(Section):
    """What the run takes from the machine or the cluster."""

    workers: int = Field(default=1, ge=0, le=4096)
    """Ray Train workers (DDP ranks). 0 trains in this process, without Ray."""

    gpus_per_worker: float = Field(default=0, ge=0, le=1)
    """GPUs of each worker; 0 trains on the CPU."""

    threads: int = Field(default=0, ge=0)
    """Torch threads of each worker; 0 shares out the cores that the synthesizers leave."""

    min_workers: int = Field(default=0, ge=0, le=4096)
    """0 trains with `workers` or not at all. Else the run is elastic: it starts with as few as this, grows as nodes
    join and shrinks as they leave."""

    synthesizers: int = Field(default=1, ge=1, le=4096)
    """Ray actors that make the training batches."""

    queue_depth: int = Field(default=4, ge=1, le=64)
    """Batches that each worker has on order; this bounds memory and is the back-pressure."""

    max_failures: int = Field(default=3, ge=-1)
    """Restarts of the worker group after a crash; -1 never gives up. A node that announces its end (a spot instance)
    does not count."""

    patience_seconds: float = Field(default=600, ge=10)
    """A worker that answers nobody for so long, such as a frozen one, is restarted with its group."""

    @property
    def least_workers(self) -> int:
        """Workers that a run needs to begin: fewer than `workers` in an elastic run."""
        return self.min_workers or self.workers


class FeedConfig(Section):
    """How batches come to the workers."""

    device: Literal["actors", "trainer"] = "actors"
    """Where noise is put on clean images: in the synthesizers, or on the worker's own device, its GPU; then the
    synthesizers decode and cut only. The pairs are the same up to rounding."""

    patience_seconds: float = Field(default=30, gt=0)
    """When a batch takes longer, another synthesizer is asked for it too, and one that does not answer is restarted."""
