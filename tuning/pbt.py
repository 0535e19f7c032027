"""Runs a population with Ray Tune: a sampler that hands out the intervals of its members, one generation at a time.

Ray's own scheduler of this kind keeps its population in memory and draws from a global generator as reports come in:
no two searches are alike, and a killed one cannot go on to the same end. Here an interval of a member is a trial of
Ray's, processes are used again for the next one, and what follows is decided when all members are through.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.search import Searcher

from pipeline.training.history import read_history
from tuning.course import COURSE, Course, course_of, run_course
from tuning.objective import Job, trial_folder
from tuning.population import (
    GIVEN,
    best_member,
    first_generation,
    interval_count,
    line_of,
    member_key,
    next_generation,
    read_population,
    settings_of,
    store_population,
)
from tuning.runs import TrialRuns
from tuning.space import SEED, overrides, own_point, plain_values, trial_key
from tuning.trials import Budget, fit

if TYPE_CHECKING:
    from pipeline.cluster import Started
    from tuning.plan import Plan


class Generations(Searcher):  # type: ignore[misc]  # Ray is not typed
    """Samples the next interval of each member as soon as all are through the one before."""

    def __init__(self, job: Job, plan: Plan) -> None:
        super().__init__(metric="score", mode=job.scores[0].mode)
        self._job, self._plan, self._out = job, plan, Path(job.out)
        self._config = plan.base()
        self._count = interval_count(self._config)
        self._generations = read_population(self._out) or [first_generation(plan)]
        self._waiting: list[int] = []
        self._running: dict[str, int] = {}
        self._failed: set[int] = set()
        # Also if its scores are known already: its rows may not have reached MLflow.
        self._begin()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return a course, nothing while members of this interval are still training, or that all is done."""
        if self._waiting:
            self._running[trial_id] = member = self._waiting.pop(0)
            return self._course(member).as_point()
        return None if self._running else str(Searcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:  # noqa: ARG002
        """Take note that a member is through, or has failed; begin the next interval after the last of them."""
        member = self._running.pop(trial_id, None)
        if member is not None and error:
            self._failed.add(member)
        if not self._waiting and not self._running:
            self._go_on()

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: what has been decided is in the search's own folder."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing; see `save`."""

    def _begin(self) -> None:
        store_population(self._out, self._generations)
        self._waiting = list(range(len(self._generations[-1].seats)))
        self._failed.clear()

    def _go_on(self) -> None:
        last, number = self._generations[-1], len(self._generations)
        scores = [self._score(member, number) for member in range(len(last.seats))]
        if any(score is None and member not in self._failed for member, score in enumerate(scores)):
            # Ray has ended it because the budget is used up; it has not failed, and goes on another time.
            return
        last.scores = scores
        store_population(self._out, self._generations)
        if number < self._count and any(score is not None for score in scores):
            self._generations.append(next_generation(last, number, self._plan, self._job.scores[0].mode))
            self._begin()

    def _score(self, member: int, interval: int) -> float | None:
        rows = read_history(trial_folder(self._out, member_key(member)))
        return next((float(row["score"]) for row in rows if row["rung"] == interval), None)

    def _course(self, member: int) -> Course:
        number, seat = len(self._generations) - 1, self._generations[-1].seats[member]
        return Course(
            key=member_key(member),
            number=member,
            of=member_key(member),
            start=number,
            settings=[overrides(self._config, seat.point)],
            seed=self._config.seed,
            parent=None if seat.parent is None else member_key(seat.parent),
        )


class CourseRuns(TrialRuns):
    """One MLflow run for each member, however many trials of Ray's it takes."""

    def on_trial_start(self, *, trial: Any, **more: Any) -> None:
        """Open the member's run, or go on with it; what its log holds already is sent if this process has not."""
        key, changed = self._identify(trial)
        self.failed.pop(key, None)
        if key in self._open:
            self._listen("trial", {"event": "started", "key": key, "overrides": changed})
            return
        super().on_trial_start(trial=trial, **more)
        for row in read_history(trial_folder(self._out, key)):
            self._send(key, row, row["time"])

    def on_trial_complete(self, *, trial: Any, **more: Any) -> None:
        """Close the run of a course that has come to its end."""
        course = course_of(trial.config)
        if course.end == interval_count(self._base):
            super().on_trial_complete(trial=trial, **more)
        else:
            self._listen("trial", {"event": "waiting", "key": course.key})

    def _identify(self, trial: Any) -> tuple[str, dict[str, Any]]:
        course = course_of(trial.config)
        seeded = {SEED: course.seed} if course.seed != self._base.seed else {}
        return course.key, {**course.settings[-1], **seeded}

    def _number(self, key: str, changed: dict[str, Any], trial: Any) -> int:  # noqa: ARG002
        return course_of(trial.config).number

    def _row(self, result: dict[str, Any]) -> dict[str, Any]:
        values = {f"set {name}": value for name, value in plain_values(result.get("settings") or {}).items()}
        return {**super()._row(result), **{name: value for name, value in values.items() if not isinstance(value, str)}}


def run_population(job: Job, plan: Plan, started: Started, runs: TrialRuns, budget: Budget) -> None:
    """Train the population to its end, or as far as the budget allows."""
    most = plan.samples * interval_count(plan.base())
    fit(job, plan, started, runs, budget, {}, [], most, "none", Generations(job, plan), trainable=run_course)


def run_schedules(job: Job, plan: Plan, started: Started, runs: TrialRuns, budget: Budget) -> None:
    """Train the configuration as given, and with every other seed it and the schedule of the best member."""
    config = plan.base()
    count = interval_count(config)
    generations = read_population(Path(job.out))
    if len(generations) < count or not any(score is not None for score in generations[-1].scores):
        return
    best = best_member(generations[-1], job.scores[0].mode)
    schedule = settings_of(config, generations, line_of(generations, best))
    given = [overrides(config, own_point(config, plan.search))] * count
    courses = []
    for seed in range(config.seed, config.seed + plan.seeds):
        own = seed == config.seed
        key = GIVEN if own else f"{GIVEN}-{seed}"
        courses.append(Course(key=key, number=plan.samples, of=GIVEN, start=0, settings=given, seed=seed))
        if not own:
            key = f"{trial_key({'schedule': schedule})}-{seed}"
            courses.append(Course(key=key, number=best, of=member_key(best), start=0, settings=schedule, seed=seed))
    points: list[Any] = [course.as_point() for course in courses]
    space = {COURSE: tune.choice([point[COURSE] for point in points])}
    fit(job, plan, started, runs, budget, space, points, len(points), "none", "random", trainable=run_course)
