"""What every worker runs: batches in, steps, rows and pictures and checkpoints out (the last three on rank 0)."""

from __future__ import annotations

import time
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from models import build, save
from pipeline.errors import RunError
from pipeline.training.batches import to_device
from pipeline.training.checkpoint import list_checkpoints
from pipeline.training.history import Log
from pipeline.training.precision import precision_note
from pipeline.training.rank import Rank, agree, gather, positions
from pipeline.training.saver import Saver
from pipeline.training.schedule import run_progress
from pipeline.training.step import StepResult, StepSettings, TrainState, train_step
from pipeline.training.timing import Stopwatch, Timing, distributed, timing_row
from pipeline.training.trust import Watch
from pipeline.training.writer import Writer

if TYPE_CHECKING:
    from pipeline.schema import TrainConfig

_PREEMPTION_SECONDS = 5.0
"""Seconds between two questions whether a node is about to be taken away."""


class HopelessError(RunError):
    """Every rank meets it at the same step, and a restart would meet it again."""


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


def run_loop(config: TrainConfig, run_dir: Path, card: dict[str, Any], rank: Rank) -> bool:
    """Train from the latest checkpoint of `run_dir` to the end and leave `run_dir/weights`.

    Returns:
        True at the end; False if the run was asked to stop, and has saved a checkpoint.

    Raises:
        RunError: gradients stay non-finite after `training.max_rollbacks` rollbacks, or the last checkpoint cannot be
            written.
    """
    return _Loop(config, run_dir, card, rank).run()


class _Loop:
    """One rank's run: what it holds, and what happens between steps."""

    def __init__(self, config: TrainConfig, run_dir: Path, card: dict[str, Any], rank: Rank) -> None:
        torch.backends.cudnn.benchmark = False
        self._config, self._run_dir, self._card, self._rank = config, run_dir, card, rank
        self._log = Log(run_dir) if rank.index == 0 else None
        self._state = new_state(config, rank.device)
        self._watch = _watch(config, run_dir, card, rank, self._log)
        self._saver = Saver(run_dir / "checkpoints", config.training, rank, self._log)
        self._saver.restore(self._state, self._watch)
        self._network, self._all_reduce = distributed(self._state.network, rank)
        self._writer = Writer(config, run_dir, rank, self._log) if self._log else None
        share = len(positions(config.training.batch, rank.index, rank.world))
        self._weight = share * rank.world / config.training.batch
        self._clock = _Clock(config, self._state.seconds)
        self._start_feed()
        self._bad = 0
        self._saved_for_preemption = False
        note = precision_note(config.optimizer.precision, rank.device)
        if self._log and note:
            self._log.note(note)

    def run(self) -> bool:
        state, settings = self._state, step_settings(self._config)
        while True:
            progress, stop, preempted = self._next_word()
            if progress >= 1:
                break
            if stop:
                self._save()
                return False
            if preempted and not self._saved_for_preemption:
                self._saved_for_preemption = True
                self._save(note="a node is about to be taken away: saved a checkpoint")
            batch = to_device(next(self._feed), self._config, self._rank.device)
            result = train_step(
                state,
                batch,
                self._config.method,
                settings,
                progress,
                network=self._network,
                parts=self._config.training.accumulate,
                weight=self._weight,
            )
            state.seconds = self._clock.seconds()
            self._after(result)
        if state.loss_steps:
            # What came after the last row: a run that the clock ends rarely ends on one.
            self._row(result)
        self._finish()
        return True

    def _next_word(self) -> tuple[float, bool, bool]:
        """Agree on the progress, whether to stop, and whether a node is about to go."""
        state, watch = self._state, self._watch
        progress = 1.0 if watch and watch.stop else self._clock.progress(state.step)
        leads = self._rank.index == 0
        stop = leads and self._rank.stop()
        ask = leads and self._clock.preemption_due()
        progress, stop_word, ask_word = agree([progress, float(stop), float(ask)], self._rank)
        return progress, stop_word > 0, ask_word > 0 and self._rank.preempted()

    def _after(self, result: StepResult) -> None:
        state, config, watch = self._state, self._config, self._watch
        self._bad = self._bad + 1 if result.skipped else 0
        if self._bad >= config.training.max_bad_steps:
            self._go_back()
            return
        if not result.skipped:  # on all ranks or on none
            state.loss_sum += self._weight * result.loss
            state.loss_steps += 1
        at_row = state.step % config.training.log_every == 0
        if at_row and state.loss_steps:
            self._row(result)
        if watch and watch.due(state.step):
            watch.look(state)
        if self._writer and at_row and not self._bad:
            # Between rows the sum of the losses is each rank's own; among bad steps there is nothing to go back to.
            self._saver.save_if_due(state, watch)
            self._writer.picture_if_due(state)

    def _go_back(self) -> None:
        """Go back to the latest checkpoint with half the learning rate, or give up."""
        state, config = self._state, self._config
        at, before = state.step, state.rollbacks
        if before >= config.training.max_rollbacks:
            raise HopelessError(
                f"training: gradients were not finite for {self._bad} steps in a row, last at step {at}, after "
                f"{before} rollback(s); lower optimizer.lr, and continue with --resume from {self._latest()}"
            )
        if not self._saver.restore(state, self._watch):
            state.restart(new_state(config, self._rank.device))
        state.rollbacks = before + 1
        self._bad = 0
        self._start_feed()
        if self._log:
            self._log.note(
                f"gradients were not finite for {config.training.max_bad_steps} steps, last at step {at}: back to step "
                f"{state.step}, learning rate times {0.5**state.rollbacks:g}"
            )

    def _start_feed(self) -> None:
        self._feed = self._rank.feed(self._state.step)
        self._stopwatch = Stopwatch(self._feed, self._all_reduce, self._state.step)
        if self._writer:
            self._writer.new_feed()

    def _row(self, result: StepResult) -> None:
        """Write a row with the mean loss over all workers and the steps since the last row, and start anew."""
        state = self._state
        own = self._stopwatch.lap(state.step)
        everyone = gather([state.loss_sum / state.loss_steps, *astuple(own)], self._rank)
        state.loss_sum, state.loss_steps = 0.0, 0
        if self._writer:
            timings = timing_row([Timing(*line[1:]) for line in everyone.tolist()], self._config.training.batch)
            self._writer.row(state, result, float(everyone[:, 0].mean()), timings, self._feed)

    def _save(self, note: str = "") -> None:
        self._state.loss_sum = float(gather([self._state.loss_sum], self._rank).mean())
        if self._log:
            self._saver.save(self._state, self._watch)
            if note:
                self._log.note(note)

    def _finish(self) -> None:
        if not self._writer:
            return
        state, config = self._state, self._config
        try:
            self._saver.save(state, self._watch)
            self._writer.picture(state)
            verdict = self._watch.finish(state) if self._watch else None
            trained = {"steps": state.step, "seconds": round(state.seconds, 1), "skipped_steps": state.bad_steps}
            save(
                self._run_dir / "weights",
                verdict.network if verdict else state.average,
                spec=config.network,
                inference=config.inference,
                card={**self._card, "training": trained, **(verdict.card if verdict else {})},
            )
        except RunError as error:
            raise HopelessError(str(error)) from error
        except (OSError, SafetensorError) as error:
            raise HopelessError(
                f"{self._run_dir / 'weights'}: could not be written ({error}); the last checkpoint is intact: continue "
                "with --resume"
            ) from error

    def _latest(self) -> str:
        found = list_checkpoints(self._run_dir / "checkpoints")
        return found[-1].name if found else "the start"


def _watch(config: TrainConfig, run_dir: Path, card: dict[str, Any], rank: Rank, log: Log | None) -> Watch | None:
    """Return what measures a run without clean images: on rank 0, for one that sees none."""
    if log is None or config.method.kind != "asymmetric" or not config.trust.every:
        return None
    return Watch(config, run_dir, card, rank, log)


class _Clock:
    """Training time over all sessions, and what is due by it."""

    def __init__(self, config: TrainConfig, seconds_before: float) -> None:
        self._config = config.training
        self._start = time.monotonic() - seconds_before
        self._asked = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._start

    def progress(self, step: int) -> float:
        return run_progress(step, self.seconds(), steps=self._config.steps, minutes=self._config.minutes)

    def preemption_due(self) -> bool:
        if time.monotonic() - self._asked < _PREEMPTION_SECONDS:
            return False
        self._asked = time.monotonic()
        return True
