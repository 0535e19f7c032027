"""The search: Ray Tune samples trials, ASHA stops those that fall behind, the leaders are trained with other seeds.

Continuing a search does not go through Ray's own restore: trials are functions of the plan and keep what they
have done in their folders, so running the plan again reports it at once and trains only what is missing. That
survives a death at any moment, another version of Ray, and more samples than were asked for at first.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cluster import submitted
from pipeline.config import dump, flatten
from pipeline.errors import RunError, UserError
from pipeline.training.intake import read_source
from pipeline.training.rundir import locked
from tuning.objective import Job
from tuning.plan import Plan, store_plan
from tuning.results import explained, write_results
from tuning.score import Score, choose_scores, measurable, split_source
from tuning.space import size
from tuning.summary import Summary, repetitions, summarize

if TYPE_CHECKING:
    from pipeline.cluster import Started
    from pipeline.data.source import SourceSpec
    from pipeline.schema import ClusterConfig
    from tuning.runs import Listener, TrialRuns

_SERVER_SECONDS = 15
"""For which the driver waits for MLflow's answer, where MLflow itself would wait 120, three times."""

_SEARCH_SHARE = 2 / 3
"""Of a budget, where leaders are to be repeated afterwards."""


def search(
    plan: Plan, out: Path, *, resume: bool = False, dashboard: bool = False, listen: Listener = lambda *_: None
) -> Summary:
    """Run the trials of `plan`, or what is missing of them, in `out`, and write the results there.

    Args:
        plan: what is searched, and how.
        out: folder of the search.
        resume: whether there may be one already.
        dashboard: whether an embedded Ray serves its own.
        listen: told what happens.

    Raises:
        UserError: data, folder or resources are not as the plan needs them.
        RunError: no trial reached the end; `out` can be resumed.
    """
    out = out.resolve()
    started_at = time.monotonic()
    config = plan.base()
    _check_space(plan)
    scores = choose_scores(plan)
    source, manifest = read_source(config, listen)
    plan, scores = _measurable(plan, scores, source, listen)
    training, held_out = split_source(source, scores)
    with locked(out):
        if submitted():
            # A job begins in a temporary copy of its upload, which another node on this machine may unpack anew.
            os.chdir(out)
        store_plan(out, plan, resume=resume)
        for score in scores:
            listen("say", {"text": f"score: {score.name}, {score.definition}"})
        job = Job(config=plan.config, out=str(out), training=training, held_out=held_out, scores=scores)
        cluster = config.cluster
        with _ray(cluster.gpus_per_worker, max(1, cluster.workers), dashboard) as started, _impatient():
            listen("say", {"text": _where(started, cluster)})
            # Ray reads its settings when it is first imported, which starting it has done as they should be.
            from tuning.pbt import CourseRuns
            from tuning.runs import TrialRuns

            kind = CourseRuns if plan.scheduler == "pbt" else TrialRuns
            runs: TrialRuns = kind(out, plan, scores[0].name, listen)
            status = "FAILED"
            try:
                tags = {"data_hash": manifest["hash"], "run_dir": str(out), "score": scores[0].definition}
                runs.parent.start({**_parameters(plan), **flatten(dump(config))}, tags)
                _run(job, plan, started, runs)
                summary = _summarize(out, plan, scores, runs)
                summary = explained(replace(summary, seconds=round(time.monotonic() - started_at, 1)), plan)
                for path in write_results(out, plan, summary):
                    runs.parent.artifact(path)
                if summary.best is None:
                    reason = next(iter(runs.failed.values()), "nothing was reported")
                    raise RunError(f"none of {len(summary.trials)} trials gave a score; {reason}")
                runs.parent.metrics({f"best_{scores[0].name}": summary.best.score or 0.0})
                status = "FINISHED"
            except (KeyboardInterrupt, SystemExit):
                # Ray turns the signal of `ray job stop` into the second.
                status = "KILLED"
                raise
            finally:
                if behind := runs.close(status):
                    listen("say", {"text": behind})
    return summary


def _check_space(plan: Plan) -> None:
    if plan.ablation is not None:
        return
    points = size(plan.base(), plan.search)
    if points is not None and plan.samples > points:
        raise UserError(f"--samples: expected at most {points}, the whole search space, found {plan.samples}")
    if plan.searcher == "optuna":
        import importlib.util

        if importlib.util.find_spec("optuna") is None:
            raise UserError("--searcher optuna: expected Optuna, found none; pip install 'unveil-denoise[optuna]'")
        if points is not None:
            raise UserError(
                "--searcher optuna: expected something continuous to search, such as --search optimizer.lr; found "
                f"{points} points in all, which --searcher random tries without trying one twice"
            )


def _where(started: Started, cluster: ClusterConfig) -> str:
    where = "embedded Ray" if started.embedded else "Ray cluster"
    workers, gpus = max(1, cluster.workers), cluster.gpus_per_worker
    each = f" of {workers} processes" if workers > 1 else ""
    room = min(started.cpus, started.gpus / gpus if gpus else started.cpus) / workers
    text = f"{where}: {started.cpus:g} CPUs, {started.gpus:g} GPUs; {int(room)} trials{each} at once"
    return f"{text}; dashboard {started.dashboard}" if started.dashboard else text


def _parameters(plan: Plan) -> dict[str, Any]:
    return {
        "samples": plan.samples,
        "search_seed": plan.seed,
        "scheduler": plan.scheduler,
        "searcher": plan.searcher,
        "leader_seeds": plan.seeds,
    }


def _measurable(plan: Plan, scores: list[Score], source: SourceSpec, listen: Listener) -> tuple[Plan, list[Score]]:
    """Fall back on the blind loss where the noise cannot be measured, unless a trust measure was asked for."""
    if not any(score.kind == "trust" for score in scores) or measurable(source, plan.base()):
        return plan, scores
    if plan.objectives and plan.objectives != ["blind_l1"]:
        raise UserError(
            f"--objective {plan.objectives[0]}: expected photos with flat areas, where noise can be told from texture, "
            "found too few; use blind_l1, or --pairs"
        )
    text = "too little of the held-out photos is flat to measure their noise; judging by the blind loss instead"
    listen("say", {"text": text})
    plan = replace(plan, objectives=["blind_l1"])
    return plan, choose_scores(plan)


@contextlib.contextmanager
def _ray(gpus: float, workers: int, dashboard: bool) -> Iterator[Started]:
    """Start or join Ray, quiet, and stop it if this process started it."""
    from pipeline.cluster import start_ray

    # Ctrl-C ends the search at once, like a training run; Ray would wait for all trials to write checkpoints.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    started = start_ray(workers, dashboard=dashboard)
    try:
        # Ray would wait for ever without a word.
        if workers > started.cpus:
            raise UserError(f"cluster.workers: a trial of {workers} workers needs as many CPUs, found {started.cpus:g}")
        if gpus * workers > started.gpus:
            needed = f"a trial needs {gpus * workers:g} GPUs, the cluster has {started.gpus:g}"
            raise UserError(f"cluster.gpus_per_worker: {needed}")
        # Failures are told in one line each, by the listener.
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        yield started
    finally:
        started.leave()


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Wait for MLflow less long: trials report to the thread that talks to it."""
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    before = os.environ.get(name)
    os.environ.setdefault(name, str(_SERVER_SECONDS))
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


def _run(job: Job, plan: Plan, started: Started, runs: TrialRuns) -> None:
    """Sample, or train the rows of a table; then repeat those that lead with other seeds."""
    from tuning.pbt import run_population, run_schedules
    from tuning.trials import Budget, run_fixed, run_search

    population = plan.scheduler == "pbt"
    share = _SEARCH_SHARE if (plan.seeds > 1 or population) and plan.ablation is None else 1.0
    cluster = plan.base().cluster
    seconds, gpu_seconds = 60 * plan.minutes, 3600 * plan.gpu_hours
    gpus = cluster.gpus_per_worker * max(1, cluster.workers)
    start = time.monotonic()
    budget = Budget(seconds=share * seconds, gpu_seconds=share * gpu_seconds, gpus=gpus)
    if plan.ablation is not None:
        from tuning.ablations import rows_of

        run_fixed(job, plan, started, runs, budget, rows_of(plan))
        return
    (run_population if population else run_search)(job, plan, started, runs, budget)
    if plan.seeds < 2 and not population:
        return
    left = max(1e-3, seconds - (time.monotonic() - start)) if seconds else 0.0
    rest = Budget(seconds=left, gpu_seconds=(1 - share) * gpu_seconds, gpus=gpus)
    if population:
        run_schedules(job, plan, started, runs, rest)
        return
    so_far = _summarize(Path(job.out), plan, job.scores, runs)
    run_fixed(job, plan, started, runs, rest, repetitions(so_far, plan))


def _summarize(out: Path, plan: Plan, scores: list[Score], runs: TrialRuns) -> Summary:
    if plan.scheduler == "pbt":
        from tuning.population_summary import summarize_population

        return summarize_population(out, plan, scores, runs.failed, run_id=runs.parent.run_id)
    return summarize(out, plan, scores, runs.failed, run_id=runs.parent.run_id)
