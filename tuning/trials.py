"""Runs trials with Ray Tune: what samples them, what stops them early, and what ends the whole."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from tuning.axes import Axis, Choice, LogUniform, Point
from tuning.objective import KEEP, Job, run_trial, rungs, stage
from tuning.runs import TrialRuns, known_trials
from tuning.space import FIXED, SEED, axes, first_points

if TYPE_CHECKING:
    from pipeline.cluster import Started
    from tuning.plan import Plan

_RETRIES = 1
"""A worker may be lost to the machine; one that is lost twice is lost to the trial."""


@dataclass
class Budget(Stopper):  # type: ignore[misc]  # Ray is not typed
    """Ends a search after so much time, or so much time of GPUs; what was reached is kept."""

    seconds: float
    """Of the clock, from now on; 0 for no limit."""

    gpu_seconds: float
    """Of all trials together, times their GPUs; 0 for no limit."""

    gpus: float
    """Of each trial, all its workers together."""

    _end: float = 0.0
    _spent: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._end = time.time() + self.seconds

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Count what a trial has taken; stops none for itself."""
        self._spent[trial_id] = float(result.get("time_total_s") or 0.0) * self.gpus
        return False

    def stop_all(self) -> bool:
        """Say whether the budget is used up."""
        late = self.seconds > 0 and time.time() > self._end
        return late or 0 < self.gpu_seconds <= sum(self._spent.values())


def run_search(job: Job, plan: Plan, started: Started, runs: TrialRuns, budget: Budget) -> None:
    """Sample the space of the plan, the configuration itself first."""
    config = plan.base()
    space = {name: _domain(axis) for name, axis in axes(config, plan.search).items()}
    first = first_points(config, plan.seed, plan.search)[: plan.samples]
    fit(job, plan, started, runs, budget, space, first, plan.samples, plan.scheduler, plan.searcher)


def run_fixed(
    job: Job, plan: Plan, started: Started, runs: TrialRuns, budget: Budget, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Train each set of overrides, which may have a seed, to the end."""
    if not rows:
        return
    points: list[Point] = []
    for row in rows:
        rest = {key: value for key, value in row.items() if key != SEED}
        points.append({FIXED: json.dumps(rest), SEED: row.get(SEED, plan.base().seed)})
    space = {name: tune.choice(sorted({point[name] for point in points})) for name in (FIXED, SEED)}
    fit(job, plan, started, runs, budget, space, points, len(points), "none", "random")


def fit(
    job: Job,
    plan: Plan,
    started: Started,
    runs: TrialRuns,
    budget: Budget,
    space: dict[str, Any],
    first: list[Point],
    samples: int,
    scheduler: str,
    sampler: str | Searcher,
    *,
    trainable: Callable[..., None] = run_trial,
) -> None:
    """Run trials of Ray Tune's.

    Args:
        job: what all of them share.
        plan: for the seed of the sampling, and the configuration whose `cluster` says what a trial takes.
        started: Ray.
        runs: told of everything that happens.
        budget: ends it.
        space: domains of Ray's by name, for samplers that draw from them.
        first: points to begin with.
        samples: trials, at most.
        scheduler: `asha` or `none`.
        sampler: `random`, `optuna`, or one of ours.
        trainable: called with a point and, as `job`, the job.
    """
    config = plan.base()
    # Who stops trials early asks for scores on the way, and so does Optuna.
    job = replace(job, early=scheduler == "asha" or sampler == "optuna")
    gpus, workers = config.cluster.gpus_per_worker, max(1, config.cluster.workers)
    # The first process of a trial starts the others in the bundles that are left (`tuning.team`).
    resources = tune.PlacementGroupFactory([{"CPU": 1, **({"GPU": gpus} if gpus else {})}] * workers)
    concurrent = max(1, int(started.cpus) // workers)
    mode = job.scores[0].mode
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(trainable, job=job), resources),
        param_space=space if sampler == "random" else None,
        tune_config=tune.TuneConfig(
            num_samples=samples,
            search_alg=_sampler(sampler, plan, Path(job.out), space, first, concurrent, mode),
            scheduler=_scheduler(scheduler, mode, rungs(config)),
            # Starting a process costs seconds, most of them torch's import.
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=f"{Path(job.out).name}-{time.time_ns()}",
            storage_path=str(Path(job.out) / "ray"),
            verbose=0,
            callbacks=[runs],
            stop=budget,
            failure_config=tune.FailureConfig(max_failures=_RETRIES),
        ),
    )
    # What Ray prints is told by the listener, and stdout may have to be one JSON object.
    with contextlib.redirect_stdout(io.StringIO()):
        tuner.fit()


def _scheduler(name: str, mode: str, count: int) -> Any:
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

    if name == "none":
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr="stage", metric="score", mode=mode, max_t=stage(count, count), grace_period=1, reduction_factor=KEEP
    )


def _sampler(
    name: str | Searcher,
    plan: Plan,
    out: Path,
    space: dict[str, Any],
    first: list[Point],
    concurrent: int,
    mode: str,
) -> Any:
    if isinstance(name, Searcher):
        return name
    if name == "random":
        from ray.tune.search.basic_variant import BasicVariantGenerator

        return BasicVariantGenerator(points_to_evaluate=first, max_concurrent=concurrent, random_state=plan.seed)
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    # What is sampled depends on what was found, so the points of a search that goes on are those it had.
    known = sorted(known_trials(out).values(), key=lambda trial: trial["number"])
    had = [trial["point"] for trial in known if set(trial["point"]) == set(space)]
    points = [*first, *(point for point in had if point not in first)][: plan.samples]
    search = OptunaSearch(space=space, metric="score", mode=mode, points_to_evaluate=points, seed=plan.seed + len(had))
    return ConcurrencyLimiter(search, max_concurrent=concurrent)


def _domain(axis: Axis) -> Any:
    if isinstance(axis, Choice):
        return tune.choice(axis.values)
    return tune.loguniform(axis.low, axis.high) if isinstance(axis, LogUniform) else tune.uniform(axis.low, axis.high)
