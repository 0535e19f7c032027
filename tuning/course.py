"""One member of a population for some intervals, or a whole schedule with another seed, in a process of Ray Tune's."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import check
from tuning.objective import Job, judged_row, reported, trial_config, trial_folder
from tuning.population import interval_count, step_after
from tuning.space import SEED

if TYPE_CHECKING:
    from pipeline.schema import TrainConfig

COURSE = "course"
"""Axis whose value is a course, as JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """Intervals one after the other, each with its own settings."""

    key: str
    """Folder of the trial."""

    number: int
    of: str
    """Key of the member that it belongs to, or whose schedule it repeats."""

    start: int
    """Intervals that are over when it begins."""

    settings: list[dict[str, Any]]
    """Overrides of each interval."""

    seed: int
    parent: str | None = None
    """Key of the member whose weights it begins with."""

    @property
    def end(self) -> int:
        """Intervals that are over at its end."""
        return self.start + len(self.settings)

    def as_point(self) -> dict[str, str]:
        """Return it as the configuration of a trial of Ray Tune's."""
        return {COURSE: json.dumps(asdict(self))}


def course_of(point: dict[str, Any]) -> Course:
    """Return the course of a trial of Ray Tune's."""
    return Course(**json.loads(point[COURSE]))


def run_course(point: dict[str, Any], job: Job) -> None:
    """Train and report; what the folder holds already is reported at once.

    Raises:
        RunError: gradients or the score are not finite, a checkpoint is gone, or no image can be decoded.
    """
    from ray import tune

    from pipeline.cluster import check_packages
    from pipeline.training.history import read_history

    check_packages()
    course, base = course_of(point), check(job.config)
    folder = trial_folder(Path(job.out), course.key)
    folder.mkdir(parents=True, exist_ok=True)
    last = course.start
    for row in read_history(folder):
        if course.start < row["rung"] <= course.end:
            tune.report(reported(row))
            last = row["rung"]
    if last < course.end:
        _train(course, base, job, folder, last)


def _train(course: Course, base: TrainConfig, job: Job, folder: Path, last: int) -> None:
    from ray import tune

    from pipeline.training.checkpoint import checkpoint_path, save_checkpoint
    from pipeline.training.history import append_row
    from tuning.judge import Judge
    from tuning.team import team_of

    judge = Judge(job.scores, base, job.held_out)
    before = folder
    if last == course.start and course.parent is not None:
        before = trial_folder(Path(job.out), course.parent)
    with team_of(base, job.training) as team:
        for interval in range(last, course.end):
            settings = course.settings[interval - course.start]
            config = trial_config(base, {**settings, SEED: course.seed})
            team.begin(
                config, checkpoint_path(before / "checkpoints", step_after(base, interval)) if interval else None
            )
            loss = team.train_to((interval + 1) / interval_count(base))
            # What has been read stays with the judge of the next interval.
            judge = replace(judge, config=config)
            row = judged_row(judge, team.state, interval + 1, loss, last=interval + 1 == interval_count(base))
            row |= {"settings": settings, "parent": course.parent if interval == course.start else course.key}
            # The checkpoint first: others take over from what has a row. One without a row may hold other values.
            shutil.rmtree(checkpoint_path(folder / "checkpoints", team.state.step), ignore_errors=True)
            # Two: others of this interval may yet begin with the one before.
            save_checkpoint(folder / "checkpoints", team.state, keep=2)
            append_row(folder, row)
            tune.report(reported(row))
            before = folder
