"""Resumable checkpoints: tensors in safetensors, the rest in JSON, written beside and renamed; no pickle."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import RunError
from pipeline.training.step import TrainState

if TYPE_CHECKING:
    from pipeline.training.trust import Watch

_PREFIX = "step_"
_COUNTS = {"step": 0, "bad_steps": 0, "rollbacks": 0, "loss_sum": 0.0, "loss_steps": 0, "seconds": 0.0}
"""Numbers of the state, and what they are in checkpoints of earlier versions, which know fewer."""


def save_checkpoint(folder: Path, state: TrainState, keep: int, watch: Watch | None = None) -> Path:
    """Write `folder/step_XXXXXXXXX` atomically and delete all but the latest `keep`.

    With a `watch`, the best weights so far go with it: what a resumed run chooses must not hang on other files.

    A crash at any moment leaves either the whole new checkpoint or none of it.

    Raises:
        RunError: there is too little free space, or the disk refuses.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    final = checkpoint_path(folder, state.step)
    if final.exists():
        return final
    tensors, facts = _to_parts(state, watch)
    need = 2 * sum(t.numel() * t.element_size() for t in tensors.values())
    if shutil.disk_usage(folder).free < need:
        raise RunError(
            f"{folder}: a checkpoint needs {need >> 20} MiB free; free some space and continue with --resume"
        )
    temporary = folder / f".{final.name}.{os.getpid()}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        save_file(tensors, temporary / "state.safetensors")
        (temporary / "state.json").write_text(json.dumps(facts), "utf-8")
        for path in (*temporary.iterdir(), temporary):
            sync(path)
        temporary.rename(final)
        sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = getattr(error, "strerror", None) or str(error)
        raise RunError(f"{final}: could not write the checkpoint ({reason}); the last one is intact") from error
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step is, or would be."""
    return folder / f"{_PREFIX}{step:09d}"


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the finished checkpoints of a run, oldest first."""
    return sorted(folder.glob(f"{_PREFIX}*")) if folder.is_dir() else []


def load_latest(folder: Path, state: TrainState, watch: Watch | None = None) -> bool:
    """Put the latest checkpoint of `folder` into `state` and `watch`; False if there is none.

    Raises:
        RunError: the checkpoint does not fit the network of this run, or is damaged.
    """
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        return False
    load_checkpoint(checkpoints[-1], state, watch)
    return True


def load_checkpoint(path: Path, state: TrainState, watch: Watch | None = None) -> None:
    """Put one checkpoint into `state` and `watch`.

    Raises:
        RunError: the checkpoint does not fit the network of this run, or is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path / "state.safetensors")
        facts = json.loads((path / "state.json").read_text("utf-8"))
        _from_parts(state, tensors, facts)
        if watch is not None and "watch" in facts:
            watch.restore(_part(tensors, "best"), facts["watch"])
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"{path}: cannot be resumed from ({reason}); delete it to go back to the one before") from error


def set_aside(path: Path) -> None:
    """Rename a damaged checkpoint, so that it is neither found again nor lost."""
    path.rename(path.with_name(f"damaged_{path.name}"))


def _to_parts(state: TrainState, watch: Watch | None) -> tuple[dict[str, Any], dict[str, Any]]:
    tensors = {f"network/{k}": v for k, v in state.network.state_dict().items()}
    tensors |= {f"average/{k}": v for k, v in state.average.state_dict().items()}
    for index, slots in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in slots.items()}
    facts: dict[str, Any] = {name: getattr(state, name) for name in _COUNTS}
    if watch is not None:
        best, facts["watch"] = watch.parts()
        tensors |= {f"best/{name}": value for name, value in best.items()}
    return {k: v.detach().contiguous().cpu() for k, v in tensors.items()}, facts


def _part(tensors: dict[str, Any], name: str) -> dict[str, Any]:
    return {k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.startswith(f"{name}/")}


def _from_parts(state: TrainState, tensors: dict[str, Any], facts: dict[str, Any]) -> None:
    state.network.load_state_dict(_part(tensors, "network"))
    state.average.load_state_dict(_part(tensors, "average"))
    slots: dict[int, dict[str, Any]] = {}
    for key, value in _part(tensors, "optimizer").items():
        index, name = key.split("/")
        slots.setdefault(int(index), {})[name] = value
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": slots, "param_groups": groups})
    for name, unknown in _COUNTS.items():
        setattr(state, name, facts["step"] if name == "step" else facts.get(name, unknown))


def sync(path: Path) -> None:
    """Ask the system to put a file or folder on the disk now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
