"""The search: Ray Tune samples trials, ASHA stops those that fall behind, MLflow gets a parent and children.

Continuing a search does not go through Ray's own restore: trials are functions of the plan and keep what they
have done in their folders, so running the plan again reports it at once and trains only what is missing. That
survives a death at any moment, another version of Ray, and more samples than were asked for at first.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import dump, flatten
from pipeline.errors import RunError, UserError
from pipeline.training.intake import read_source
from pipeline.training.rundir import locked
from tuning.objective import REDUCTION, Job, run_trial, rungs
from tuning.plan import Plan, store_plan
from tuning.score import choose_score, split_source
from tuning.space import Uniform, axes, first_points, size
from tuning.summary import Summary, summarize, write_summary

if TYPE_CHECKING:
    from pipeline.cluster import Started
    from tuning.runs import Listener, TrialRuns

_RETRIES = 1
"""A worker may be lost to the machine; one that is lost twice is lost to the trial."""


def search(plan: Plan, out: Path, *, resume: bool = False, listen: Listener = lambda *_: None) -> Summary:
    """Run the trials of `plan`, or what is missing of them, in `out`, and write the results there.

    Raises:
        UserError: data, folder or resources are not as the plan needs them.
        RunError: no trial reached the end; `out` can be resumed.
    """
    out = out.resolve()
    started_at = time.monotonic()
    config = plan.base()
    _check_size(plan)
    source, manifest = read_source(config, listen)
    score = choose_score(config, Path(plan.pairs) if plan.pairs else None)
    training, held_out = split_source(source, score)
    with locked(out):
        store_plan(out, plan, resume=resume)
        listen("say", {"text": f"score: {score.name}, {score.definition}"})
        job = Job(config=plan.config, out=str(out), training=training, held_out=held_out, score=score)
        with _ray(config.cluster.gpus_per_worker) as started:
            # Ray reads its settings when it is first imported, which starting it has done as they should be.
            from tuning.runs import TrialRuns

            runs = TrialRuns(out, plan, score.name, listen)
            status = "FAILED"
            try:
                tags = {"data_hash": manifest["hash"], "run_dir": str(out), "score": score.definition}
                parameters = {"samples": plan.samples, "search_seed": plan.seed, **flatten(dump(config))}
                runs.parent.start(parameters, tags)
                _run(job, plan, started, runs)
                summary = summarize(out, plan, score, runs.failed, run_id=runs.parent.run_id)
                summary = replace(summary, seconds=round(time.monotonic() - started_at, 1))
                for path in write_summary(out, plan, score, summary):
                    runs.parent.artifact(path)
                if summary.best is None:
                    reason = next(iter(runs.failed.values()), "nothing was reported")
                    raise RunError(f"none of {len(summary.trials)} trials gave a score; {reason}")
                runs.parent.metrics({f"best_{score.name}": summary.best.score or 0.0})
                status = "FINISHED"
            except KeyboardInterrupt:
                status = "KILLED"
                raise
            finally:
                runs.close(status)
            if runs.parent.problem:
                listen("say", {"text": f"tracking: not everything reached the server: {runs.parent.problem}"})
    return summary


def _check_size(plan: Plan) -> None:
    points = size(plan.base())
    if points is not None and plan.samples > points:
        raise UserError(f"--samples: expected at most {points}, the whole search space, found {plan.samples}")


@contextlib.contextmanager
def _ray(gpus: float) -> Iterator[Started]:
    """Start or join Ray, quiet, and stop it if this process started it."""
    from pipeline.cluster import start_ray

    # Ctrl-C ends the search at once, like a training run; Ray would wait for all trials to write checkpoints.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    started = start_ray(1)

    try:
        if gpus > started.gpus:
            raise UserError(f"cluster.gpus_per_worker: a trial needs {gpus:g} GPUs, the cluster has {started.gpus:g}")
        # Failures are told in one line each, by the listener.
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        yield started
    finally:
        started.leave()


def _run(job: Job, plan: Plan, started: Started, runs: TrialRuns) -> None:
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.basic_variant import BasicVariantGenerator

    config = plan.base()
    gpus = config.cluster.gpus_per_worker
    space = {
        name: tune.uniform(axis.low, axis.high) if isinstance(axis, Uniform) else tune.choice(axis.values)
        for name, axis in axes(config).items()
    }
    resources = {"cpu": 1, **({"gpu": gpus} if gpus else {})}
    trainable = tune.with_resources(tune.with_parameters(run_trial, job=job), resources)
    tuner = tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            num_samples=plan.samples,
            search_alg=BasicVariantGenerator(
                points_to_evaluate=first_points(config, plan.seed)[: plan.samples],
                max_concurrent=max(1, int(started.cpus)),
                random_state=plan.seed,
            ),
            scheduler=ASHAScheduler(
                time_attr="rung",
                metric="score",
                mode=job.score.mode,
                max_t=rungs(config),
                grace_period=1,
                reduction_factor=REDUCTION,
            ),
            # Starting a process costs seconds, most of them torch's import.
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=f"{Path(job.out).name}-{time.time_ns()}",
            storage_path=str(Path(job.out) / "ray"),
            verbose=0,
            callbacks=[runs],
            failure_config=tune.FailureConfig(max_failures=_RETRIES),
        ),
    )
    # What Ray prints is told by the listener, and stdout may have to be one JSON object.
    with contextlib.redirect_stdout(io.StringIO()):
        tuner.fit()
