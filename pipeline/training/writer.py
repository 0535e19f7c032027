"""What rank 0 leaves for people on the way: rows of the log, pictures of the same crops, and which side is too slow."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from models import denoise
from pipeline.data.raw_source import as_pictures
from pipeline.data.source import PICTURE_BATCH
from pipeline.training.batches import to_device
from pipeline.training.timing import bottleneck

if TYPE_CHECKING:
    from pipeline.schema import TrainConfig
    from pipeline.training.history import Log
    from pipeline.training.rank import Rank
    from pipeline.training.step import StepResult, TrainState

_PICTURE_CROPS = 4
_SLOW_ROWS = 3
"""Rows in a row with a notable wait before the bottleneck is told."""

_TELL_SECONDS = 300.0
"""Seconds between two tellings."""


class Writer:
    """Rows and pictures of rank 0."""

    def __init__(self, config: TrainConfig, run_dir: Path, rank: Rank, log: Log) -> None:
        self._config = config
        self._run_dir = run_dir
        self._rank = rank
        self._log = log
        self._picture_time = time.monotonic()
        self._picture_batch: Mapping[str, np.ndarray] | None = None
        self._slow = 0
        self._told = -_TELL_SECONDS
        self._notes = 0

    def row(self, state: TrainState, result: StepResult, loss: float, timing: Mapping[str, float], feed: Any) -> None:
        """Write a row of the log, what the feed has to tell, and which side is too slow if one is."""
        row = {
            "step": state.step,
            "loss": loss,
            "lr": result.lr,
            "grad_norm": result.grad_norm,
            **timing,
            "skipped_steps": state.bad_steps,
            "rollbacks": state.rollbacks,
            "workers": self._rank.world,
            "seconds": state.seconds,
            "time": time.time(),
        }
        self._log.append(row)
        self.tell(feed)
        slow = bottleneck(dict(timing), self._config.cluster)
        self._slow = self._slow + 1 if slow else 0
        if slow and self._slow >= _SLOW_ROWS and time.monotonic() - self._told >= _TELL_SECONDS:
            self._told = time.monotonic()
            self._log.note(slow)

    def tell(self, feed: Any) -> None:
        """Write down what the feed has met since it was last asked."""
        for event, text in getattr(feed, "notes", [])[self._notes :]:
            self._notes += 1
            self._log.append({"event": event, "text": text, "time": time.time()})

    def new_feed(self) -> None:
        """Begin anew with the notes of another feed."""
        self._notes = 0

    def picture_if_due(self, state: TrainState) -> None:
        """Write a picture when it is time."""
        if time.monotonic() - self._picture_time >= self._config.training.picture_seconds:
            self.picture(state)
            self._picture_time = time.monotonic()

    def picture(self, state: TrainState) -> None:
        """Write noisy | denoised (| clean) of the same crops, one row each; a full disk costs the picture only."""
        from pipeline.data.images import Image, from_float, write_image

        if self._picture_batch is None:
            given = to_device(self._rank.ask(PICTURE_BATCH, range(_PICTURE_CROPS)), self._config, self._rank.device)
            self._picture_batch = {name: values.cpu().numpy() for name, values in given.items()}
        given = {name: torch.from_numpy(values).to(self._rank.device) for name, values in self._picture_batch.items()}
        output = denoise(state.average, given["noisy"], self._config.inference, noise=given.get("noise")).cpu().numpy()
        columns = [self._picture_batch["noisy"], output]
        columns += [self._picture_batch["clean"]] if "clean" in self._picture_batch else []
        columns = as_pictures(columns) if self._config.data.domain == "raw" else columns
        grid = np.concatenate([np.concatenate(list(c.transpose(0, 2, 3, 1)), axis=0) for c in columns], axis=1)
        path = self._run_dir / "pictures" / f"step_{state.step:09d}.png"
        try:
            path.parent.mkdir(exist_ok=True)
            write_image(path, Image(pixels=from_float(grid, np.uint8)))
        except OSError as error:
            self._log.note(f"{path}: not written ({error.strerror or error}); training goes on")
