"""Writes a configuration as TOML."""

from __future__ import annotations

import json
from typing import Any

_SPELLINGS = {True: "true", False: "false"}


def to_toml(tree: dict[str, Any], prefix: str = "") -> str:
    """Write a nested dict of strings, numbers, booleans and lists as TOML, which has no None: left out."""
    lines = [f"{key} = {_value(value)}" for key, value in tree.items() if not isinstance(value, dict | None)]
    tables = [(f"{prefix}{key}", value) for key, value in tree.items() if isinstance(value, dict)]
    text = "".join(f"{line}\n" for line in lines)
    for name, table in tables:
        text += f"\n[{name}]\n" + to_toml(table, f"{name}.")
    return text


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, bool):
        return _SPELLINGS[value]
    # TOML's basic strings are JSON's, but for escaped surrogates, which ensure_ascii would make.
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
