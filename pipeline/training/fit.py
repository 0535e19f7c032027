"""One training into a folder: in this process, or by Ray Train workers that Ray actors feed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import dump
from pipeline.errors import RunError
from pipeline.training.intake import Listener
from pipeline.training.stopping import StoppedError, Stopping, StopRequest

if TYPE_CHECKING:
    from pipeline.cluster import Started
    from pipeline.data.source import SourceSpec
    from pipeline.schema import TrainConfig

_RESIZE_SECONDS = 30.0
"""Seconds between two looks whether an elastic run can grow."""

Fit = Callable[["TrainConfig", Path, "SourceSpec", dict[str, Any]], None]
"""Trains into a folder that exists and leaves weights there; raises `StoppedError` if it was asked to stop."""


def fit_into(run_dir: Path, token: str, listen: Listener, stopping: Stopping) -> Fit:
    """Return what trains as `cluster` of a configuration says.

    The request to stop is looked for in `run_dir`, which is this process's as long as its lock holds `token`.
    """

    def fit(stage: TrainConfig, folder: Path, source: SourceSpec, card: dict[str, Any]) -> None:
        stopping.check()
        if stage.cluster.workers:
            finished = _fit_on_ray(
                stage, folder, source, card, root=run_dir, token=token, listen=listen, stopping=stopping
            )
        else:
            finished = _fit_here(stage, folder, source, card, root=run_dir)
        if not finished:
            raise StoppedError(f"stopped on request; continue with --resume --out {str(run_dir)!r}")

    return fit


def _fit_here(config: TrainConfig, run_dir: Path, source: SourceSpec, card: dict[str, Any], *, root: Path) -> bool:
    import torch

    from pipeline.data.allocator import keep_freed_memory
    from pipeline.training.loop import run_loop
    from pipeline.training.rank import local_rank

    keep_freed_memory()
    device = "cuda" if config.cluster.gpus_per_worker else "cpu"
    if config.cluster.threads:
        torch.set_num_threads(config.cluster.threads)
    rank = local_rank(source, config.training.batch, device, stop=StopRequest(root))
    return run_loop(config, run_dir, card, rank)


def _fit_on_ray(
    config: TrainConfig,
    run_dir: Path,
    source: SourceSpec,
    card: dict[str, Any],
    *,
    root: Path,
    token: str,
    listen: Listener,
    stopping: Stopping,
) -> bool:
    from pipeline.cluster import cpu_plan, require_resources, start_ray
    from pipeline.data.synth_actor import start_synthesizers

    cluster = config.cluster
    cheap = config.noise is None or config.feed.device == "trainer"
    threads, synthesizer_cpus = cpu_plan(cluster, os.cpu_count() or 1, cheap_synthesis=cheap)
    # Read by Ray Train's controller, which gets a copy of this process's value.
    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(cluster.patience_seconds)
    started = start_ray(cluster.workers * threads + cluster.synthesizers * synthesizer_cpus)
    stopping.arm()
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from pipeline.training.worker import train_worker

    try:
        require_resources(cluster, started, threads, synthesizer_cpus)
        listen("say", {"text": _what_runs(config, started, threads)})
        synthesizers = start_synthesizers(source, cluster.synthesizers, cpus=synthesizer_cpus)
        gpus = {"GPU": cluster.gpus_per_worker} if cluster.gpus_per_worker else {}
        elastic = cluster.least_workers < cluster.workers
        trainer = TorchTrainer(
            train_worker,
            train_loop_config={
                "config": dump(config),
                "run_dir": str(run_dir),
                "root": str(root),
                "token": token,
                "card": card,
                "threads": threads,
                "synthesizers": list(synthesizers),
            },
            torch_config=TorchConfig(timeout_s=int(cluster.patience_seconds)),
            scaling_config=ScalingConfig(
                num_workers=(cluster.least_workers, cluster.workers) if elastic else cluster.workers,
                use_gpu=cluster.gpus_per_worker > 0,
                resources_per_worker={"CPU": threads, **gpus},
                elastic_resize_monitor_interval_s=_RESIZE_SECONDS,
            ),
            # A name is never used twice: Ray would take a finished one for the result of this run. Resuming is
            # by our own checkpoints, which a restarted worker group finds in the run folder as well.
            run_config=RunConfig(
                name=f"{run_dir.name}-{time.time_ns()}",
                storage_path=str(run_dir / "ray"),
                failure_config=FailureConfig(max_failures=cluster.max_failures),
            ),
        )
        try:
            outcome = _in_thread(trainer.fit).return_value
        except ray.train.TrainingFailedError as error:
            raise RunError(f"training failed: {_root_cause(error)}; continue with --resume") from error
        if outcome["problem"]:
            raise RunError(f"training failed: {outcome['problem']}")
        return bool(outcome["finished"])
    finally:
        started.leave()


def _what_runs(config: TrainConfig, started: Started, threads: int) -> str:
    cluster, batch = config.cluster, config.training.batch
    where = "embedded Ray" if started.embedded else "Ray cluster"
    at_least = f"{cluster.least_workers} to " if cluster.least_workers < cluster.workers else ""
    parts = f" in {config.training.accumulate} parts" if config.training.accumulate > 1 else ""
    text = (
        f"{where}: {started.cpus:g} CPUs, {started.gpus:g} GPUs; {at_least}{cluster.workers} worker(s) of {threads} "
        f"thread(s), {cluster.synthesizers} synthesizer(s); batch {batch} for all workers together, "
        f"{batch / cluster.workers:g} each{parts}, learning rate {config.optimizer.lr:g}"
    )
    return f"{text}; dashboard {started.dashboard}" if started.dashboard else text


def _in_thread(work: Callable[[], Any]) -> Any:
    """Do the work in another thread, so that this one keeps its handlers of signals: Ray Train would set its own."""
    result: list[Any] = []
    problem: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            problem.append(error)

    thread = threading.Thread(target=run, name="unveil-fit", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
    if problem:
        raise problem[0]
    return result[0]


def _root_cause(error: BaseException) -> str:
    """Return the last line that says something: Ray wraps the worker's traceback in its own."""
    failures = getattr(error, "worker_failures", None) or {}
    text = str(next(iter(failures.values()), error)).strip()
    return text.splitlines()[-1] if text else type(error).__name__
