"""A run folder: who may write into it, and what it says about itself."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.config import check, dump, flatten
from pipeline.errors import UserError
from pipeline.schema import TrainConfig

_CONFIG = "config.json"
_LOCK = ".lock"
_MAY_CHANGE = (
    "training.",
    "cluster.",
    "feed.",
    "tracking.",
    "inference.",
    "data.cache_mb",
    "data.licence",
    "trust.every",
    "trust.patience",
    "trust.keep",
)
"""Keys that a resumed run may set anew: none of them changes what a step computes, only how far and where."""


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: readers see the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=1), "utf-8")
    temporary.replace(path)


def claim(run_dir: Path, *, resume: bool) -> TrainConfig | None:
    """Return the configuration that a resumed run was started with; None for a new run, whose folder is empty.

    Raises:
        UserError: the folder holds a run and `resume` is off, or there is nothing to resume.
    """
    stored = run_dir / _CONFIG
    if resume:
        if not stored.is_file():
            raise UserError(
                f"--resume: expected a run in {str(run_dir)!r}, found no {_CONFIG}; start it without --resume"
            )
        return read_config(run_dir)
    if any(path.name != _LOCK for path in run_dir.iterdir()):
        what = "holds a run; continue it with --resume, or" if stored.exists() else "is not empty;"
        raise UserError(f"--out {str(run_dir)!r}: {what} choose another folder")
    return None


def store(run_dir: Path, config: TrainConfig, *, before: TrainConfig | None) -> None:
    """Keep the resolved configuration in a run folder, if it fits the one that `claim` found there.

    Raises:
        UserError: a key that a resumed run must not change has changed.
    """
    if before is not None:
        old, now = flatten(dump(before)), flatten(dump(config))
        for key in sorted(old.keys() | now.keys()):
            free = key.startswith(_MAY_CHANGE) and key != "training.batch"
            if old.get(key) != now.get(key) and not free:
                raise UserError(
                    f"{key}: the run in {str(run_dir)!r} was started with {old.get(key)!r}, found {now.get(key)!r}; "
                    "resume with the same value, or use a new --out"
                )
    write_json(run_dir / _CONFIG, dump(config))


def read_config(run_dir: Path) -> TrainConfig:
    """Return the resolved configuration of a run folder.

    Raises:
        UserError: there is none, or it is damaged.
    """
    try:
        return check(json.loads((run_dir / _CONFIG).read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(f"{str(run_dir)!r}: expected a run folder with {_CONFIG}; {error}") from None


def read_gate(weights: Path) -> dict[str, Any] | None:
    """Return what a weights folder says about whether it can be trusted; None if it says nothing."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        gate = json.loads((weights / "model.json").read_text("utf-8"))["card"]["gate"]
        if isinstance(gate["passed"], bool) and isinstance(gate["why"], str):
            return dict(gate)
    return None


def read_kept(weights: Path) -> dict[str, Any] | None:
    """Return what the weights of a run that adapts a network say of the choice; None if they say nothing."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        kept = json.loads((weights / "model.json").read_text("utf-8"))["card"]["adaptation"]
        if kept["kept"] in ("start", "adapted"):
            return dict(kept)
    return None


def gate_text(gate: dict[str, Any]) -> str:
    """Return a gate as one line for people."""
    return f"passed ({gate['why']})" if gate["passed"] else f"failed: {gate['why']}"


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[str]:
    """Create and hold the folder for this process; the lock of a process that is gone is taken over.

    Yields a token by which workers tell whether the folder is still their driver's (`owns`).

    A folder that is still empty at the end, because the run was refused, is removed again.

    Raises:
        UserError: another live process holds it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = run_dir / _LOCK
    while True:
        try:
            handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            break
        except FileExistsError:
            holder = _holder(lock)
            if holder and (holder["host"] != socket.gethostname() or _alive(holder["pid"])):
                raise UserError(
                    f"{str(run_dir)!r}: in use by process {holder['pid']} on {holder['host']}; wait for it, or delete "
                    f"{str(lock)!r} if it is gone"
                ) from None
            lock.unlink(missing_ok=True)
    token = secrets.token_hex(8)
    with os.fdopen(handle, "w") as file:
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "token": token}, file)
    try:
        yield token
    finally:
        lock.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            run_dir.rmdir()


def owns(run_dir: Path, token: str) -> bool:
    """Return whether nobody else has taken the folder over: a killed driver's workers may outlive it by seconds."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        return bool(json.loads((run_dir / _LOCK).read_text("utf-8"))["token"] == token)
    return True


def _holder(lock: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        value = json.loads(lock.read_text("utf-8"))
        return {"pid": int(value["pid"]), "host": str(value["host"])}
    return None


def _alive(pid: int) -> bool:
    import psutil

    return pid != os.getpid() and psutil.pid_exists(pid)
