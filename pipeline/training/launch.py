"""The driver of a run: data and folder checked, MLflow opened, workers launched, the result registered."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import dump
from pipeline.errors import RunError
from pipeline.training.adapt import adapted, as_stored
from pipeline.training.follow import following, open_tracker
from pipeline.training.history import read_history
from pipeline.training.intake import Listener, data_card, read_source
from pipeline.training.rundir import claim, locked, read_gate, store, write_json
from pipeline.training.stages import Fit, train_in_stages

if TYPE_CHECKING:
    from pipeline.data.source import SourceSpec
    from pipeline.schema import TrainConfig
    from pipeline.tracking import Tracker


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """What a finished run leaves behind; the JSON of `unveil train --json`."""

    run_dir: str
    weights: str
    mlflow_run_id: str
    registered_model: str
    version: int
    alias: str
    steps: int
    seconds: float
    final_loss: float
    gate: dict[str, Any] | None
    """Whether the network can be trusted: passed, why, measures; None if it was trained with clean images."""


def train(
    config: TrainConfig, run_dir: Path, *, resume: bool = False, listen: Listener = lambda *_: None
) -> TrainResult:
    """Train as `config` says, into `run_dir`.

    Raises:
        UserError: data, folder or resources are not as the configuration needs them.
        RunError: training failed; `run_dir` can be resumed.
    """
    run_dir = run_dir.resolve()
    from pipeline.tracking import check_store, masked_uri

    check_store()
    config = _with_start(config)
    source, manifest = read_source(config, listen)
    with locked(run_dir):
        before = claim(run_dir, resume=resume)
        config = adapted(config, source, listen) if before is None else as_stored(config, before)
        store(run_dir, config, before=before)
        write_json(run_dir / "manifest.json", manifest)
        card = data_card(config, manifest)
        tracker = open_tracker(config, run_dir, manifest)
        listen("say", {"text": f"tracking: run {tracker.run_id} in {masked_uri()}"})
        status = "FAILED"
        try:
            fit: Fit = partial(_fit_on_ray, listen=listen) if config.cluster.workers else _fit_here
            if config.student is not None:
                train_in_stages(config, run_dir, source, card, fit=fit, tracker=tracker, listen=listen)
            else:
                with following(run_dir, tracker, listen):
                    fit(config, run_dir, source, card)
            version = _register(config, run_dir, tracker, card)
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            tracker.finish(status)
        if tracker.problem:
            listen("say", {"text": f"tracking: not everything reached the server: {tracker.problem}"})
        return _result(config, run_dir, tracker.run_id, version)


def _with_start(config: TrainConfig) -> TrainConfig:
    """Return the configuration with a local folder as `training.start`, whose weights fit."""
    if not config.training.start:
        return config
    from pipeline.inference.denoiser import find_weights, read_weights

    folder = find_weights(config.training.start).resolve()
    read_weights(str(folder), config.network)
    return config.model_copy(update={"training": config.training.model_copy(update={"start": str(folder)})})


def _fit_here(config: TrainConfig, run_dir: Path, source: SourceSpec, card: dict[str, Any]) -> None:
    import torch

    from pipeline.data.allocator import keep_freed_memory
    from pipeline.training.loop import local_rank, run_loop

    keep_freed_memory()
    device = "cuda" if config.cluster.gpus_per_worker else "cpu"
    if config.cluster.threads:
        torch.set_num_threads(config.cluster.threads)
    run_loop(config, run_dir, card, local_rank(source, config.training.batch, device))


def _fit_on_ray(
    config: TrainConfig, run_dir: Path, source: SourceSpec, card: dict[str, Any], *, listen: Listener
) -> None:
    from pipeline.cluster import cpu_plan, require_resources, start_ray
    from pipeline.data.synth_actor import start_synthesizers

    cores = os.cpu_count() or 1
    threads, synthesizer_cpus = cpu_plan(config.cluster, cores, cheap_synthesis=config.noise is None)
    need = config.cluster.workers * threads + config.cluster.synthesizers * synthesizer_cpus
    started = start_ray(need)
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from pipeline.training.loop import train_worker

    try:
        require_resources(config.cluster, started, threads, synthesizer_cpus)
        where = "embedded Ray" if started.embedded else "Ray cluster"
        listen(
            "say",
            {
                "text": f"{where}: {started.cpus:g} CPUs, {started.gpus:g} GPUs; {config.cluster.workers} worker(s) of "
                f"{threads} thread(s), {config.cluster.synthesizers} synthesizer(s)"
                + (f"; dashboard {started.dashboard}" if started.dashboard else "")
            },
        )
        synthesizers = start_synthesizers(source, config.cluster.synthesizers, cpus=synthesizer_cpus)
        trainer = TorchTrainer(
            train_worker,
            train_loop_config={
                "config": dump(config),
                "run_dir": str(run_dir),
                "card": card,
                "threads": threads,
                "synthesizers": synthesizers,
            },
            scaling_config=ScalingConfig(
                num_workers=config.cluster.workers,
                use_gpu=config.cluster.gpus_per_worker > 0,
                resources_per_worker={
                    "CPU": threads,
                    **({"GPU": config.cluster.gpus_per_worker} if config.cluster.gpus_per_worker else {}),
                },
            ),
            # A name is never used twice: Ray would take a finished one for the result of this run. Resuming is
            # by our own checkpoints, which a restarted worker group finds in the run folder as well.
            run_config=RunConfig(
                name=f"{run_dir.name}-{time.time_ns()}",
                storage_path=str(run_dir / "ray"),
                failure_config=FailureConfig(max_failures=config.cluster.max_failures),
            ),
        )
        try:
            trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise RunError(f"training failed: {_root_cause(error)}; continue with --resume") from error
    finally:
        if started.embedded:
            ray.shutdown()


def _root_cause(error: BaseException) -> str:
    """Return the last line that says something: Ray wraps the worker's traceback in its own."""
    failures = getattr(error, "worker_failures", None) or {}
    text = str(next(iter(failures.values()), error)).strip()
    return text.splitlines()[-1] if text else type(error).__name__


def _register(config: TrainConfig, run_dir: Path, tracker: Tracker, card: dict[str, Any]) -> int:
    from pipeline.registry import register

    tracker.artifact(run_dir / "weights", "weights")
    return register(
        run_dir / "weights",
        run_id=tracker.run_id,
        model=config.tracking.model,
        alias=config.tracking.alias,
        card={
            "data": card["data"],
            "method": card["config"]["method"],
            "clean_images_read": card["clean_images_read"],
        },
    )


def _result(config: TrainConfig, run_dir: Path, run_id: str, version: int) -> TrainResult:
    history = read_history(run_dir)
    return TrainResult(
        run_dir=str(run_dir),
        weights=str(run_dir / "weights"),
        mlflow_run_id=run_id,
        registered_model=config.tracking.model,
        version=version,
        alias=config.tracking.alias,
        steps=history[-1]["step"] if history else 0,
        seconds=history[-1]["seconds"] if history else 0.0,
        final_loss=history[-1]["loss"] if history else float("nan"),
        gate=read_gate(run_dir / "weights"),
    )


def as_json(result: TrainResult) -> dict[str, Any]:
    """Return the result as the object that scripts read."""
    return asdict(result)
