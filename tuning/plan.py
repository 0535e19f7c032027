"""What a search was asked to do, stored in its folder so that it can be continued, and only as itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.config import check, flatten
from pipeline.errors import UserError
from pipeline.schema import TrainConfig
from pipeline.training.rundir import write_json

_NAME = "search.json"
_MAY_CHANGE = ("config.cluster.", "config.tracking.", "config.data.cache_mb", "samples")
"""What a continued search may set anew: none of it changes what a trial computes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The call of a search, resolved."""

    config: dict[str, Any]
    """Base configuration of all trials."""

    samples: int
    """Number of trials."""

    seed: int
    """Seed of the sampling; trials train with the seed of the configuration."""

    pairs: str | None
    """Folder of pairs to judge on, absolute."""

    def base(self) -> TrainConfig:
        """Return the base configuration as the checked object."""
        return check(self.config)


def read_plan(out: Path) -> Plan:
    """Return what the search in `out` was asked to do.

    Raises:
        UserError: there is no search, or its record is damaged.
    """
    try:
        return Plan(**json.loads((out / _NAME).read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"--resume: expected a search in {str(out)!r} with {_NAME}; {error}") from None


def store_plan(out: Path, plan: Plan, *, resume: bool) -> None:
    """Store the plan in a new folder, or check that it continues the one that is there.

    Raises:
        UserError: the folder is taken, holds no search, or holds another one.
    """
    if resume:
        before, now = flatten(asdict(read_plan(out))), flatten(asdict(plan))
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
