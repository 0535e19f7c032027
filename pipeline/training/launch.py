"""The driver of a run: data and folder checked, MLflow opened, workers launched, the result registered."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cluster import submitted
from pipeline.errors import RunError, UserError
from pipeline.registry.promotion import not_promoted
from pipeline.training.adapt import adapted, as_stored
from pipeline.training.fit import fit_into
from pipeline.training.follow import following, open_tracker
from pipeline.training.history import read_history
from pipeline.training.intake import Listener, data_card, read_source
from pipeline.training.rundir import claim, locked, read_gate, read_kept, store, write_json
from pipeline.training.stages import check_colours, train_in_stages
from pipeline.training.stopping import StoppedError, Stopping, stopping_on_signals

if TYPE_CHECKING:
    from pipeline.registry.store import Registered
    from pipeline.schema import TrainConfig
    from pipeline.tracking import Tracker


_REGISTER_AGAIN_SECONDS = (5, 15, 30, 60)
"""Pauses between attempts to register a finished network."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """What a finished run leaves behind; the JSON of `unveil train --json`."""

    run_dir: str
    weights: str
    mlflow_run_id: str
    registered_model: str
    version: int
    alias: str | None
    """The alias that points at the new version; None if the gate did not let it."""
    steps: int
    seconds: float
    final_loss: float
    gate: dict[str, Any] | None
    """Whether the network can be trusted: passed, why, measures; None if it was trained with clean images."""
    kept: str | None = None
    """Of a run that adapts a network: ``adapted``, or ``start`` if that did not help; None for others."""
    kept_why: str | None = None
    """What that rests on, in a line."""


def train(
    config: TrainConfig, run_dir: Path, *, resume: bool = False, listen: Listener = lambda *_: None
) -> TrainResult:
    """Train as `config` says, into `run_dir`.

    Raises:
        UserError: data, folder or resources are not as the configuration needs them.
        StoppedError: the run was asked to stop, by a signal, and has saved; `run_dir` can be resumed.
        RunError: training failed; `run_dir` can be resumed.
    """
    run_dir = run_dir.resolve()
    from pipeline.tracking import check_store, masked_uri

    if not (resume and (run_dir / "mlflow.json").is_file()):
        # A run that the store knows goes on without it.
        check_store()
    config = _with_start(config)
    source, manifest = read_source(config, listen)
    check_colours(config, source)
    with locked(run_dir) as token, stopping_on_signals(run_dir, listen) as stopping:
        if submitted():
            # A job begins in a temporary copy of its upload, which another node on this machine may unpack anew.
            os.chdir(run_dir)
        before = claim(run_dir, resume=resume)
        config = adapted(config, source, listen) if before is None else as_stored(config, before)
        store(run_dir, config, before=before)
        write_json(run_dir / "manifest.json", manifest)
        card = data_card(config, manifest)
        tracker = open_tracker(config, run_dir, manifest)
        listen("say", {"text": f"tracking: run {tracker.run_id} in {masked_uri()}"})
        status = "FAILED"
        try:
            fit = fit_into(run_dir, token, listen, stopping)
            if config.student is not None:
                train_in_stages(
                    config, run_dir, source, card, fit=fit, tracker=tracker, listen=listen, stopping=stopping
                )
            else:
                with following(run_dir, tracker, listen):
                    fit(config, run_dir, source, card)
            registered = _register(config, run_dir, tracker, listen, stopping)
            status = "FINISHED"
        except (KeyboardInterrupt, StoppedError):
            status = "KILLED"
            raise
        finally:
            tracker.finish(status)
        if tracker.problem:
            listen("say", {"text": f"tracking: not everything reached the server: {tracker.problem}"})
        if registered.alias is None:
            listen("say", {"text": not_promoted(config.tracking.model, registered, config.tracking.alias)})
        return _result(config, run_dir, tracker.run_id, registered)


def _with_start(config: TrainConfig) -> TrainConfig:
    """Return the configuration with a local folder, or the name of a shipped model, as `training.start`, which fits."""
    if not config.training.start:
        if config.student is not None and config.student.teacher == "start":
            raise UserError(
                "training.start: expected the network to adapt, since student.teacher is 'start', found none; name one "
                "with --init, such as --init default"
            )
        return config
    from pipeline.inference.denoiser import find_weights, read_weights
    from pipeline.inference.shipped import reference_of

    start = reference_of(find_weights(config.training.start).resolve())
    read_weights(start, config.network)
    return config.model_copy(update={"training": config.training.model_copy(update={"start": start})})


def _register(
    config: TrainConfig,
    run_dir: Path,
    tracker: Tracker,
    listen: Listener,
    stopping: Stopping,
) -> Registered:
    """Register the weights; a server that is away for a moment, at the end of hours of work, is waited for."""
    for seconds in _REGISTER_AGAIN_SECONDS:
        try:
            return _register_now(config, run_dir, tracker)
        except RunError as error:
            listen("say", {"text": f"{error}; trying again in {seconds} s"})
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            stopping.check()
            time.sleep(0.2)
    try:
        return _register_now(config, run_dir, tracker)
    except RunError as error:
        raise RunError(f"{error}; training is finished, --resume --out {str(run_dir)!r} registers it") from error


def _register_now(config: TrainConfig, run_dir: Path, tracker: Tracker) -> Registered:
    from pipeline.registry.store import register

    tracker.artifact(run_dir / "weights", "weights")
    return register(
        run_dir / "weights",
        run_id=tracker.run_id,
        model=config.tracking.model,
        alias=config.tracking.alias,
    )


def _result(config: TrainConfig, run_dir: Path, run_id: str, registered: Registered) -> TrainResult:
    history = read_history(run_dir)
    kept = read_kept(run_dir / "weights") or {}
    return TrainResult(
        run_dir=str(run_dir),
        weights=str(run_dir / "weights"),
        mlflow_run_id=run_id,
        registered_model=config.tracking.model,
        version=registered.version,
        alias=registered.alias,
        steps=history[-1]["step"] if history else 0,
        seconds=history[-1]["seconds"] if history else 0.0,
        final_loss=history[-1]["loss"] if history else float("nan"),
        gate=read_gate(run_dir / "weights"),
        kept=kept.get("kept"),
        kept_why=kept.get("why"),
    )


def as_json(result: TrainResult) -> dict[str, Any]:
    """Return the result as the object that scripts read."""
    return asdict(result)
