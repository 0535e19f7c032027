"""The shell line that trains with the settings of a run again: the nearest preset, and what differs from it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

_OWN = ("data.path", "adapt", "adapted.")
"""Said by ``--data``, or found out in training and written into other keys."""


def train_command(config: Mapping[str, Any], out: Path) -> str | None:
    """Return the line; None if no preset and overrides give the very settings.

    Args:
        config: resolved, as in config.json of a run.
        out: its folder.
    """
    from pipeline.config import preset_names

    lines = [line for name in preset_names() if (line := _from_preset(name, config, out)) is not None]
    return min(lines, key=len, default=None)


def _from_preset(preset: str, config: Mapping[str, Any], out: Path) -> str | None:
    from pipeline.config import check, dump, flatten, load_config

    try:
        wanted = flatten(dump(check(dict(config))))
        start = flatten(dump(load_config(preset=preset)))
        overrides = [
            f"{key}={_toml(value)}"
            # Kinds first: another kind takes its keys with it.
            for key, value in sorted(wanted.items(), key=lambda item: not item[0].endswith("kind"))
            if not key.startswith(_OWN) and (start.get(key) != value or _replaced(key, wanted, start))
        ]
        found = flatten(dump(load_config(preset=preset, overrides=overrides)))
    except (UserError, ValueError):
        return None
    keys = {key for key in wanted.keys() | found.keys() if not key.startswith(_OWN)}
    if any(wanted.get(key) != found.get(key) for key in keys):
        return None
    data = ["--data", wanted["data.path"]] if wanted.get("data.path") else []
    return shlex.join(["unveil", "train", *data, "--out", str(out), "--preset", preset, *overrides])


def _replaced(key: str, wanted: Mapping[str, Any], start: Mapping[str, Any]) -> bool:
    """Whether the section of a key becomes another kind, whose defaults are not those of the preset."""
    kind = f"{key.rpartition('.')[0]}.kind"
    return kind in wanted and kind != key and wanted[kind] != start.get(kind)


def _toml(value: Any) -> str:
    """A value as ``key=value`` takes it.

    Raises:
        ValueError: it has no spelling.
    """
    if value is None:
        raise ValueError("None cannot be typed")
    return json.dumps(value, ensure_ascii=False)
