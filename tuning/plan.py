"""What a search was asked to do, stored in its folder so that it can be continued, and only as itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from pipeline.config import check, flatten
from pipeline.errors import UserError
from pipeline.schema import TrainConfig
from pipeline.training.rundir import write_json

_NAME = "search.json"
_MAY_CHANGE = (
    "config.cluster.",
    "config.tracking.",
    "config.data.cache_mb",
    "samples",
    "minutes",
    "gpu_hours",
    "seeds",
    "leaders",
)
"""What a continued search may set anew: none of it changes what a trial computes."""

JUDGING: Final = 5
"""Raised when the same trial gets another score than before: no search may hold both."""

SCHEDULERS: Final = ("asha", "none", "pbt")
SEARCHERS: Final = ("random", "optuna")
PRESET_SEARCH: Final[dict[str, tuple[str, ...]]] = {
    "tune_masks": (
        "method.mask_count",
        "method.pd_stride",
        "inference.pd_stride",
        "method.hole",
        "optimizer.lr",
    )
}
"""What presets made for searching search, unless told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The call of a search, resolved."""

    config: dict[str, Any]
    """Base configuration of all trials."""

    samples: int
    """Number of trials, repetitions not counted."""

    seed: int
    """Seed of the sampling; trials train with the seed of the configuration."""

    pairs: str | None = None
    """Folder of pairs to judge on, absolute."""

    search: list[str] = field(default_factory=list)
    """Keys that are searched; none for the mask ratios of the method."""

    objectives: list[str] = field(default_factory=list)
    """What trials are judged by, the most important first; none for the most telling that the data allow."""

    suite: str | None = None
    """Noises to judge on, a name of `pipeline.evaluation.case_sets.SUITES`."""

    clean: str | None = None
    """Clean pictures that the suite's noises are put on, absolute."""

    scheduler: str = "asha"
    searcher: str = "random"

    seeds: int = 1
    """Seeds that the leaders and the configuration itself are trained with in all."""

    leaders: int = 2
    """Trials that are repeated with other seeds, the best ones first."""

    minutes: float = 0
    """After which a call begins no more training; 0 for no limit."""

    gpu_hours: float = 0
    """GPU time of a call's trials, after which it begins no more training; 0 for no limit."""

    ablation: str | None = None
    """Table of a paper that is trained row by row, in place of a search."""

    judging: int = JUDGING
    """Version of how trials are judged."""

    def base(self) -> TrainConfig:
        """Return the base configuration as the checked object."""
        return check(self.config)


def check_plan(plan: Plan) -> Plan:
    """Return the plan if its parts are known and go together.

    Raises:
        UserError: they are not, or do not.
    """
    for option, value, known in (
        ("--scheduler", plan.scheduler, SCHEDULERS),
        ("--searcher", plan.searcher, SEARCHERS),
    ):
        if value not in known:
            raise UserError(f"{option}: expected one of {', '.join(known)}, found {value!r}")
    if plan.ablation is not None and plan.search:
        raise UserError("--ablation, --search: expected one of them, a table has its own rows; found both")
    if plan.scheduler == "pbt":
        from tuning.population import check_population

        check_population(plan)
    if plan.gpu_hours and not plan.base().cluster.gpus_per_worker:
        raise UserError("--gpu-hours: expected trials with GPUs (cluster.gpus_per_worker=1), found none; use --minutes")
    return plan


def read_plan(out: Path) -> Plan:
    """Return what the search in `out` was asked to do.

    Raises:
        UserError: there is no search, or its record is damaged.
    """
    try:
        stored = json.loads((out / _NAME).read_text("utf-8"))
        if "objectives" not in stored and not stored["pairs"] and stored["config"]["noise"] is None:
            # Of a version that knew no other score for noisy images alone.
            stored["objectives"] = ["blind_l1"]
        plan = Plan(**({"judging": 1} | stored))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"--resume: expected a search in {str(out)!r} with {_NAME}; {error}") from None
    if plan.judging != JUDGING:
        raise UserError(
            f"--resume: expected a search judged as this version does ({JUDGING}), found one of another in "
            f"{str(out)!r} ({plan.judging}), whose scores cannot be compared; end it there, or use a new --out"
        )
    return plan


def store_plan(out: Path, plan: Plan, *, resume: bool) -> None:
    """Store the plan in a new folder, or check that it continues the one that is there.

    Raises:
        UserError: the folder is taken, holds no search, or holds another one.
    """
    if resume:
        before, now = flatten(asdict(read_plan(out))), flatten(asdict(plan))
        if plan.scheduler == "pbt" and before["samples"] != now["samples"]:
            raise UserError(
                f"--samples: a population cannot grow, this one has {before['samples']} members, found {now['samples']}"
            )
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key) and not key.startswith(_MAY_CHANGE):
                raise UserError(
                    f"{key.removeprefix('config.')}: the search in {str(out)!r} was started with "
                    f"{before.get(key)!r}, found {now.get(key)!r}; continue with the same value, "
                    "or use a new --out"
                )
    elif any(path.name != ".lock" for path in out.iterdir()):
        what = "holds a search; continue it with --resume, or" if (out / _NAME).exists() else "is not empty;"
        raise UserError(f"--out {str(out)!r}: {what} choose another folder")
    write_json(out / _NAME, asdict(plan))
