"""The processes of one trial: this one alone, or with others that take their share of every batch.

A trial of `cluster.workers` processes has a placement group with a bundle for each. Ray Tune starts the first process,
which judges, logs and writes checkpoints; it starts the others as actors in the other bundles. What they train is what
one process would, up to the order of sums: a sample depends on the seed, its batch and its place in it alone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # not in its __all__

from pipeline.config import check, dump
from pipeline.data.source import SourceSpec, local_feed
from pipeline.errors import RunError
from pipeline.training.batches import to_device
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.loop import new_state, step_settings
from pipeline.training.rank import Rank, agree, gather, positions
from pipeline.training.step import train_step
from pipeline.training.timing import distributed
from tuning.material import training_source
from tuning.objective import progress_of

if TYPE_CHECKING:
    from pipeline.schema import TrainConfig
    from pipeline.training.step import TrainState

_OTHERS_SECONDS = 10.0
"""Until the death of another process, of which this one has noticed the closed connection, is known to Ray."""


class Worker:
    """One process's part of a trial."""

    state: TrainState
    """Of the configuration that it began with; the same in all processes of the trial."""

    def __init__(self, training: SourceSpec, index: int = 0, world: int = 1) -> None:
        self._training, self._index, self._world = training, index, world

    def begin(self, config: TrainConfig, checkpoint: Path | None) -> None:
        """Train `config` from now on, from a checkpoint or from its start.

        Raises:
            RunError: the checkpoint cannot be read, or not all processes see it.
        """
        torch.set_num_threads(1)
        device = torch.device("cuda" if config.cluster.gpus_per_worker else "cpu")
        # Another seed of a trial sees other crops as well; what is judged on stays the same.
        source = training_source(self._training, config.seed)
        share = positions(config.training.batch, self._index, self._world)
        self._config, self._share, self._source = config, share, source
        self._rank = Rank(
            index=self._index,
            world=self._world,
            device=device,
            feed=lambda start: local_feed(source, share, start),
            ask=source.batch,
        )
        self.state = new_state(config, device)
        seen = checkpoint is not None and checkpoint.is_dir()
        if checkpoint is not None and seen:
            load_checkpoint(checkpoint, self.state)
        # Before anybody ends, or the others would wait for it.
        steps = set(gather([float(self.state.step)], self._rank)[:, 0].tolist())
        if len(steps) > 1:
            raise RunError(
                f"{checkpoint}: not seen by all {self._world} workers of the trial, which are at steps "
                f"{', '.join(f'{step:.0f}' for step in sorted(steps))}; --out must be on storage that all nodes share"
            )
        if checkpoint is not None and not seen:
            raise RunError(f"{checkpoint}: expected a checkpoint, found none")
        self._network, _ = distributed(self.state.network, self._rank)

    def train_to(self, goal: float) -> float:
        """Train until the fraction `goal` of the trial is over; return the mean loss on the way.

        Raises:
            RunError: gradients stay non-finite.
        """
        config, state, share = self._config, self.state, self._share
        settings, total, steps, bad = step_settings(config), 0.0, 0, 0
        weight = len(share) * self._world / config.training.batch
        while (progress := self._progress()) < goal - 1e-9:
            start = time.monotonic()
            batch = to_device(self._source.batch(state.step, share), config, self._rank.device)
            result = train_step(
                state,
                batch,
                config.method,
                settings,
                progress,
                network=self._network,
                parts=config.training.accumulate,
                weight=weight,
            )
            bad = bad + 1 if result.skipped else 0
            if bad >= config.training.max_bad_steps:
                raise RunError(
                    f"training: gradients were not finite for {bad} steps in a row, last at step {state.step}"
                )
            total, steps = total + weight * result.loss, steps + 1
            state.seconds += time.monotonic() - start
        return float(gather([total / max(1, steps)], self._rank).mean())

    def _progress(self) -> float:
        """Return the fraction of the trial that is over: by the clock of the first process where the clock counts."""
        own = progress_of(self.state, self._config)
        return agree([own], self._rank)[0] if self._config.training.minutes else own


class Team:
    """All processes of a trial, as its first one sees them."""

    def __init__(self, training: SourceSpec, world: int, others: list[Any]) -> None:
        self._own = Worker(training, 0, world)
        self._others = others

    @property
    def state(self) -> TrainState:
        """What all processes hold."""
        return self._own.state

    def begin(self, config: TrainConfig, checkpoint: Path | None = None) -> None:
        """As `Worker.begin`, everywhere."""
        tree, path = dump(config), str(checkpoint) if checkpoint is not None else ""
        self._together(
            [one.begin.remote(tree, path) for one in self._others], lambda: self._own.begin(config, checkpoint)
        )

    def train_to(self, goal: float) -> float:
        """As `Worker.train_to`, everywhere."""
        return float(
            self._together([one.train_to.remote(goal) for one in self._others], lambda: self._own.train_to(goal))
        )

    def _together(self, calls: list[Any], own: Any) -> Any:
        """Do this process's part, and wait for the others; what ended one of them is the reason that is told."""
        try:
            value = own()
        except RuntimeError:
            # Of torch: the connection was closed. Why, the other one knows.
            self._raise_first(calls)
            raise
        if calls:
            import ray

            ray.get(calls)
        return value

    @staticmethod
    def _raise_first(calls: list[Any]) -> None:
        import ray

        waiting = list(calls)
        while waiting:
            done, waiting = ray.wait(waiting, timeout=_OTHERS_SECONDS)
            if not done:
                return
            try:
                ray.get(done)
            except ray.exceptions.RayActorError as error:
                raise RunError("a worker of the trial died") from error


@contextlib.contextmanager
def team_of(config: TrainConfig, training: SourceSpec) -> Iterator[Team]:
    """Start what a trial of `config` needs beside this process, and end it again."""
    world = workers_of(config)
    if world == 1:
        yield Team(training, 1, [])
        return
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    address = ray.util.get_node_ip_address()
    timeout = timedelta(seconds=config.cluster.patience_seconds)
    store = TCPStore(address, 0, is_master=True, wait_for_workers=False, timeout=timeout)
    gpus = config.cluster.gpus_per_worker
    group, follower = ray.util.get_current_placement_group(), ray.remote(Follower)
    others = [
        follower.options(
            num_cpus=1,
            num_gpus=gpus,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index),
        ).remote(training, index, world)
        for index in range(1, world)
    ]
    try:
        calls = [one.join.remote(address, store.port, gpus, timeout.total_seconds()) for one in others]
        _join(store, 0, world, gpus, timeout)
        ray.get(calls)
        yield Team(training, world, others)
    finally:
        # Ray Tune uses this process for the next trial.
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for one in others:
            ray.kill(one)


class Follower:
    """A process of a trial that is not its first; a Ray actor."""

    def __init__(self, training: SourceSpec, index: int, world: int) -> None:
        from pipeline.cluster import check_packages

        check_packages()
        self._worker = Worker(training, index, world)
        self._index, self._world = index, world

    def join(self, address: str, port: int, gpus: float, seconds: float) -> None:
        """Meet the others at the first process's store."""
        timeout = timedelta(seconds=seconds)
        store = TCPStore(address, port, is_master=False, timeout=timeout)
        _join(store, self._index, self._world, gpus, timeout)

    def begin(self, config: dict[str, Any], checkpoint: str) -> None:
        """As `Worker.begin`; configuration and path as they are sent."""
        self._worker.begin(check(config), Path(checkpoint) if checkpoint else None)

    def train_to(self, goal: float) -> float:
        """As `Worker.train_to`."""
        return self._worker.train_to(goal)


def workers_of(config: TrainConfig) -> int:
    """Return the processes of one trial; `cluster.workers=0` asks for no other process than the trial's own."""
    return max(1, config.cluster.workers)


def _join(store: Any, index: int, world: int, gpus: float, timeout: timedelta) -> None:
    # NCCL refuses two processes on one GPU.
    backend = "nccl" if gpus >= 1 else "gloo"
    torch.distributed.init_process_group(backend, store=store, rank=index, world_size=world, timeout=timeout)
