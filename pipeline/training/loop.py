"""What every worker runs: batches in, steps, rows and pictures and checkpoints out (the last three on rank 0)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from models import build, denoise, save
from pipeline.data.raw_source import as_pictures
from pipeline.data.source import PICTURE_BATCH, SourceSpec, batch_source, local_feed
from pipeline.errors import RunError
from pipeline.training.checkpoint import list_checkpoints, load_latest, save_checkpoint
from pipeline.training.history import append_row
from pipeline.training.schedule import run_progress
from pipeline.training.step import StepResult, StepSettings, TrainState, train_step
from pipeline.training.trust import Watch

if TYPE_CHECKING:
    from pipeline.schema import TrainConfig

_PICTURE_CROPS = 4


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


def positions(batch: int, index: int, world: int) -> range:
    """Return the samples of the global batch that are rank `index`'s share."""
    share = batch // world
    return range(index * share, (index + 1) * share)


def new_state(config: TrainConfig, device: torch.device | str = "cpu") -> TrainState:
    """Build network and optimiser; the weights follow from the seed alone, or are those of `training.start`."""
    network = build(config.network, seed=config.seed)
    if config.training.start:
        from pipeline.inference.denoiser import read_weights

        network.load_state_dict(read_weights(config.training.start, config.network))
    return TrainState(network, step_settings(config), device)


def step_settings(config: TrainConfig) -> StepSettings:
    """Return the optimiser settings of a configuration as the plain spec of the training step."""
    return StepSettings(**config.optimizer.model_dump())


def run_loop(config: TrainConfig, run_dir: Path, card: dict[str, Any], rank: Rank) -> None:
    """Train from the latest checkpoint of `run_dir` to the end and leave `run_dir/weights`.

    Raises:
        RunError: gradients stay non-finite for `training.max_bad_steps` steps, or a checkpoint cannot be written.
    """
    torch.backends.cudnn.benchmark = False
    state = new_state(config, rank.device)
    checkpoints = run_dir / "checkpoints"
    watch = _watch(config, run_dir, card, rank)
    load_latest(checkpoints, state, watch)
    network = _distributed(state.network, rank)
    settings = step_settings(config)
    writer = _Writer(config, run_dir, rank) if rank.index == 0 else None
    feed = rank.feed(state.step)
    clock = _Clock(config, state.seconds)
    consecutive_bad = 0
    losses: list[float] = []
    while (progress := _agree(1.0 if watch and watch.stop else clock.progress(state.step), rank)) < 1:
        batch = {name: torch.from_numpy(np.array(value)).to(rank.device) for name, value in next(feed).items()}
        result = train_step(state, batch, config.method, settings, progress, network=network)
        state.seconds = clock.seconds()
        consecutive_bad = consecutive_bad + 1 if result.skipped else 0
        if consecutive_bad >= config.training.max_bad_steps:
            raise RunError(
                f"training: gradients were not finite for {consecutive_bad} steps in a row, last at step "
                f"{state.step}; lower optimizer.lr, and continue with --resume from {_latest(checkpoints)}"
            )
        losses.append(result.loss)
        if state.step % config.training.log_every == 0:
            _log(state, result, losses, feed, writer, rank)
        if watch and watch.due(state.step):
            watch.look(state)
        if writer and clock.checkpoint_due():
            save_checkpoint(checkpoints, state, config.training.keep_checkpoints, watch)
        if writer:
            writer.picture_if_due(state)
    if losses:
        # What came after the last row: a run that the clock ends rarely ends on one.
        _log(state, result, losses, feed, writer, rank)
    if writer:
        save_checkpoint(checkpoints, state, config.training.keep_checkpoints, watch)
        writer.picture(state)
        verdict = watch.finish(state) if watch else None
        trained = {"steps": state.step, "seconds": round(state.seconds, 1), "skipped_steps": state.bad_steps}
        save(
            run_dir / "weights",
            verdict.network if verdict else state.average,
            spec=config.network,
            inference=config.inference,
            card={**card, "training": trained, **(verdict.card if verdict else {})},
        )


def _watch(config: TrainConfig, run_dir: Path, card: dict[str, Any], rank: Rank) -> Watch | None:
    """Return what measures a run without clean images: on rank 0, for one that sees none."""
    if rank.index or config.method.kind != "asymmetric" or not config.trust.every:
        return None
    return Watch(config, run_dir, card, rank)


def _log(
    state: TrainState, result: StepResult, losses: list[float], feed: Any, writer: _Writer | None, rank: Rank
) -> None:
    """Write a row with the mean loss over all workers and the steps since the last row, and start anew."""
    loss = _mean(sum(losses) / len(losses), rank)
    losses.clear()
    if writer:
        writer.row(state, result, loss, feed)


def local_rank(spec: SourceSpec, batch: int, device: str = "cpu") -> Rank:
    """Return the only rank of a run in this process, which makes its batches itself."""
    source = batch_source(spec)
    return Rank(
        index=0,
        world=1,
        device=torch.device(device),
        feed=lambda start: local_feed(source, range(batch), start),
        ask=source.batch,
    )


def train_worker(job: dict[str, Any]) -> None:
    """Run the loop as one Ray Train worker; `job` comes from `launch.py`."""
    import ray.train
    import ray.train.torch

    from pipeline.cluster import check_packages
    from pipeline.config import check
    from pipeline.data.allocator import keep_freed_memory
    from pipeline.data.feed import Feed

    check_packages()
    keep_freed_memory()
    torch.set_num_threads(job["threads"])
    config = check(job["config"])
    context = ray.train.get_context()
    index, world = context.get_world_rank(), context.get_world_size()
    share = positions(config.training.batch, index, world)
    # Each worker starts at another synthesizer, so that their first orders do not queue at the same one.
    first = index % len(job["synthesizers"])
    synthesizers = job["synthesizers"][first:] + job["synthesizers"][:first]

    def feed(start: int) -> Feed:
        return Feed(synthesizers, share, start, config.cluster.queue_depth)

    rank = Rank(
        index=index,
        world=world,
        device=ray.train.torch.get_device(),
        feed=feed,
        ask=lambda batch, crops: feed(0).ask(batch, crops),
    )
    run_loop(config, Path(job["run_dir"]), job["card"], rank)


class _Clock:
    """Training time over all sessions, and what is due by it."""

    def __init__(self, config: TrainConfig, seconds_before: float) -> None:
        self._config = config.training
        self._start = time.monotonic() - seconds_before
        self._checkpoint = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._start

    def progress(self, step: int) -> float:
        return run_progress(step, self.seconds(), steps=self._config.steps, minutes=self._config.minutes)

    def checkpoint_due(self) -> bool:
        if time.monotonic() - self._checkpoint < self._config.checkpoint_seconds:
            return False
        self._checkpoint = time.monotonic()
        return True


class _Writer:
    """Rows and pictures of rank 0."""

    def __init__(self, config: TrainConfig, run_dir: Path, rank: Rank) -> None:
        self._config = config
        self._run_dir = run_dir
        self._rank = rank
        self._picture_time = time.monotonic()
        self._picture_batch: Mapping[str, np.ndarray] | None = None
        self._seen: tuple[float, float, float, int] = (time.monotonic(), 0.0, 0.0, -1)
        self._quarantined = 0

    def row(self, state: TrainState, result: StepResult, loss: float, feed: Any) -> None:
        now, wait, synthesis = time.monotonic(), feed_time(feed, "wait"), feed_time(feed, "synthesis")
        then, wait_before, synthesis_before, step_before = self._seen
        elapsed = max(now - then, 1e-9)
        steps = state.step - step_before if step_before >= 0 else self._config.training.log_every
        append_row(
            self._run_dir,
            {
                "step": state.step,
                "loss": loss,
                "lr": result.lr,
                "grad_norm": result.grad_norm,
                "images_per_second": steps * self._config.training.batch / elapsed,
                "wait_share": (wait - wait_before) / elapsed,
                "synthesis_seconds_per_batch": (synthesis - synthesis_before) / max(steps, 1),
                "skipped_steps": state.bad_steps,
                "seconds": state.seconds,
                "time": time.time(),
            },
        )
        self._seen = (now, wait, synthesis, state.step)
        for line in getattr(feed, "quarantined", [])[self._quarantined :]:
            self._quarantined += 1
            append_row(self._run_dir, {"event": "quarantined", "text": line, "time": time.time()})

    def picture_if_due(self, state: TrainState) -> None:
        if time.monotonic() - self._picture_time >= self._config.training.picture_seconds:
            self.picture(state)
            self._picture_time = time.monotonic()

    def picture(self, state: TrainState) -> None:
        """Write noisy | denoised (| clean) of the same crops, one row each."""
        from pipeline.data.images import Image, from_float, write_image

        if self._picture_batch is None:
            self._picture_batch = self._rank.ask(PICTURE_BATCH, range(_PICTURE_CROPS))
        given = {name: torch.from_numpy(np.array(v)).to(self._rank.device) for name, v in self._picture_batch.items()}
        output = denoise(state.average, given["noisy"], self._config.inference, noise=given.get("noise")).cpu().numpy()
        columns = [self._picture_batch["noisy"], output]
        columns += [self._picture_batch["clean"]] if "clean" in self._picture_batch else []
        columns = as_pictures(columns) if self._config.data.domain == "raw" else columns
        grid = np.concatenate([np.concatenate(list(c.transpose(0, 2, 3, 1)), axis=0) for c in columns], axis=1)
        path = self._run_dir / "pictures" / f"step_{state.step:09d}.png"
        path.parent.mkdir(exist_ok=True)
        write_image(path, Image(pixels=from_float(grid, np.uint8)))


def feed_time(feed: Any, what: str) -> float:
    """Return the seconds a feed has spent on `wait` or `synthesis`; a local feed does not count them."""
    return float(getattr(feed, f"{what}_seconds", 0.0))


def _distributed(network: nn.Module, rank: Rank) -> nn.Module:
    if rank.world == 1:
        return network
    devices = [rank.device] if rank.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(network, device_ids=devices)


def _agree(value: float, rank: Rank) -> float:
    """Return rank 0's value on every rank: clocks differ, and all must stop and save at the same step."""
    if rank.world == 1:
        return value
    shared = torch.tensor([value], dtype=torch.float64, device=rank.device)
    torch.distributed.broadcast(shared, src=0)
    return float(shared)


def _mean(value: float, rank: Rank) -> float:
    if rank.world == 1:
        return value
    shared: Tensor = torch.tensor([value], dtype=torch.float64, device=rank.device)
    torch.distributed.all_reduce(shared)
    return float(shared) / rank.world


def _latest(checkpoints: Path) -> str:
    with contextlib.suppress(IndexError):
        return list_checkpoints(checkpoints)[-1].name
    return "the start"
