"""Starting or joining Ray, and making sure that every process runs the same copy of this program."""

from __future__ import annotations

import importlib.util
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.schema import ClusterConfig

PACKAGES = ("raw", "noise", "models", "pipeline", "tuning")


def check_packages() -> Path:
    """Return the one folder that all five packages come from.

    Raises:
        ImportError: two of them come from different folders: another distribution owns one of these common
            names, or the current folder shadows the installed program.
    """
    homes: dict[Path, str] = {}
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ImportError(f"package {name!r} of unveil is not installed here (found {spec})")
        homes.setdefault(Path(spec.origin).resolve().parent.parent, name)
    if len(homes) > 1:
        (first, a), (second, b) = list(homes.items())[:2]
        raise ImportError(
            f"packages of unveil come from two places: {a!r} from {first} and {b!r} from {second}; "
            "use a virtual environment of its own, or leave the folder that shadows it"
        )
    return next(iter(homes))


def submitted() -> bool:
    """Return whether this process is the entrypoint of a submitted Ray job."""
    return bool(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"))


def runtime_env() -> dict[str, Any]:
    """Return Ray's runtime environment: always a `working_dir`, so that Ray never adds the driver's folder.

    A checkout is uploaded; an installed program needs an empty folder only; a submitted job has its own already.
    """
    if submitted():
        return {}
    home = check_packages()
    if (home / "pyproject.toml").is_file():
        # What is left out stands in .rayignore, which a submitted job needs as well.
        return {"working_dir": str(home)}
    return {"working_dir": tempfile.mkdtemp(prefix="unveil-empty-")}


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """What Ray offers this run."""

    embedded: bool
    """True when this process started Ray itself and stops it at the end."""

    mine: bool
    """True when this process started or joined Ray here, and leaves it at the end."""

    cpus: float
    gpus: float
    dashboard: str
    """Address of the dashboard, or empty."""

    def leave(self) -> None:
        """Stop the embedded Ray or leave the cluster, unless somebody else in this process had it already.

        As long as it is joined, Ray prints what befalls other nodes, and would do so after the result of a command.
        """
        import ray

        if self.mine:
            ray.shutdown()


def start_ray(need_cpus: float, *, dashboard: bool = True) -> Started:
    """Join the cluster of `RAY_ADDRESS` or a submitted job; else start Ray inside this process.

    An embedded Ray is sized to the machine, listens on loopback only and keeps token authentication as Ray sets it.

    Args:
        need_cpus: that it must have.
        dashboard: whether an embedded one serves its dashboard, which takes 3 % of a core as long as it runs.
    """
    from pipeline.home import quiet_third_parties

    quiet_third_parties()
    import ray

    embedded = False
    url = ""
    mine = not ray.is_initialized()
    if not mine:
        pass
    elif not embeds():
        url = ray.init(runtime_env=runtime_env(), log_to_driver=False, logging_level=logging.ERROR).dashboard_url
    else:
        embedded = True
        url = ray.init(
            address="local",
            num_cpus=max(os.cpu_count() or 1, int(-(-need_cpus // 1))),
            include_dashboard=dashboard,
            dashboard_host="127.0.0.1",
            runtime_env=runtime_env(),
            log_to_driver=False,
            logging_level=logging.ERROR,
        ).dashboard_url
    resources = ray.cluster_resources()
    return Started(
        embedded=embedded,
        mine=mine,
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
        dashboard=f"http://{url}" if url else "",
    )


def embeds() -> bool:
    """Return whether a run would start its own Ray: no cluster is named, and this is no submitted job."""
    return os.environ.get("RAY_ADDRESS", "local") in ("", "local")


def cpu_plan(config: ClusterConfig, cores: int, *, cheap_synthesis: bool) -> tuple[int, float]:
    """Return (threads and CPUs of a worker, CPUs of a synthesizer).

    Synthesizers count half a CPU each: they idle while the queue is full. Cutting crops from noisy photos costs next
    to nothing, so an embedded Ray gives the trainers all cores then; a cluster never lends more than it has.
    """
    if config.threads:
        return config.threads, 0.5
    reserved = 0 if cheap_synthesis and embeds() else (config.synthesizers + 1) // 2
    return max(1, (cores - reserved) // max(1, config.workers)), 0.5


def require_resources(config: ClusterConfig, started: Started, worker_cpus: int, synthesizer_cpus: float) -> None:
    """Refuse a run that could never be scheduled; Ray would wait for ever without a word.

    Raises:
        UserError: more CPUs or GPUs wanted than the cluster has.
    """
    workers = config.least_workers
    cpus = workers * worker_cpus + config.synthesizers * synthesizer_cpus
    if cpus > started.cpus:
        raise UserError(
            f"cluster: {workers} workers of {worker_cpus} CPUs and {config.synthesizers} synthesizers need "
            f"{cpus:g} CPUs, the cluster has {started.cpus:g}; lower cluster.workers or cluster.synthesizers"
        )
    gpus = workers * config.gpus_per_worker
    if gpus > started.gpus:
        raise UserError(
            f"cluster.gpus_per_worker: {workers} workers need {gpus:g} GPUs, the cluster has {started.gpus:g}"
        )


def ray_answers() -> str:
    """Start or join Ray, have a worker process answer, and say what was found."""
    started = start_ray(1)
    import ray

    try:
        home = ray.get(ray.remote(num_cpus=0.5)(_home_of_worker).remote(), timeout=120)
    finally:
        started.leave()
    where = "embedded" if started.embedded else os.environ["RAY_ADDRESS"]
    return f"{where}, {started.cpus:g} CPUs, {started.gpus:g} GPUs; workers run {home}"


def _home_of_worker() -> str:
    return str(check_packages())
