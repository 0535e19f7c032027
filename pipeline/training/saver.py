"""When checkpoints are written and which one a run goes on from: rank 0 decides, the others follow."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import RunError
from pipeline.training.checkpoint import (
    checkpoint_path,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
    set_aside,
)
from pipeline.training.rank import agree
from pipeline.training.step import TrainState

if TYPE_CHECKING:
    from pipeline.schema import TrainingConfig
    from pipeline.training.history import Log
    from pipeline.training.rank import Rank
    from pipeline.training.trust import Watch

_RETRY_SECONDS = 15.0
"""After a checkpoint that the disk refused."""


class TakenOverError(RunError):
    """The run folder is another process's: this one belongs to a driver that was killed, and must end."""


class Saver:
    """Writes and reads the checkpoints of one run on behalf of one rank."""

    def __init__(self, folder: Path, config: TrainingConfig, rank: Rank, log: Log | None) -> None:
        self._folder = folder
        self._config = config
        self._rank = rank
        self._log = log
        self._due = time.monotonic() + config.checkpoint_seconds
        self._refused = False

    def restore(self, state: TrainState, watch: Watch | None) -> bool:
        """Put the latest whole checkpoint into `state` and `watch`, the same one on every rank; False if there is none.

        Rank 0 sets damaged ones aside and says so.

        Raises:
            RunError: there are checkpoints and none of them can be read, or a rank does not see rank 0's.
        """
        step = -1
        if self._rank.index == 0:
            step = self._newest_whole(state, watch)
        (chosen,) = agree([float(step)], self._rank)
        if chosen < 0:
            return False
        if self._rank.index:
            path = checkpoint_path(self._folder, int(chosen))
            if not path.is_dir():
                raise RunError(
                    f"{self._folder}: rank {self._rank.index} does not see {path.name} that rank 0 goes on from; --out "
                    "must be on storage that all nodes share"
                )
            load_checkpoint(path, state, watch)
        return True

    def _newest_whole(self, state: TrainState, watch: Watch | None) -> int:
        found = list_checkpoints(self._folder)
        for path in reversed(found):
            try:
                load_checkpoint(path, state, watch)
            except RunError as error:
                if path == found[0]:
                    raise
                set_aside(path)
                assert self._log is not None
                self._log.note(f"{error}; set aside, going back to the one before")
            else:
                return state.step
        return -1

    def save_if_due(self, state: TrainState, watch: Watch | None) -> None:
        """Write a checkpoint when it is time; a disk that refuses is told, and asked again later."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + self._config.checkpoint_seconds
        try:
            self.save(state, watch)
        except TakenOverError:
            raise
        except RunError as error:
            # Training goes on: all that is lost if it is killed now is more than one interval of work.
            self._due = time.monotonic() + min(self._config.checkpoint_seconds, _RETRY_SECONDS)
            if not self._refused and self._log:
                self._log.note(f"{error}; training goes on and tries again")
            self._refused = True
        else:
            self._refused = False

    def save(self, state: TrainState, watch: Watch | None) -> None:
        """Write a checkpoint now.

        Raises:
            RunError: the disk refuses, or the folder is another process's by now.
        """
        if not self._rank.owns():
            raise TakenOverError(f"{self._folder.parent}: another process has taken this run over")
        save_checkpoint(self._folder, state, self._config.keep_checkpoints, watch)
