"""TOML file or preset plus `dotted.key=value` overrides -> one checked `TrainConfig`."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import json
import re
import tomllib
import types
import typing
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pydantic import ValidationError

    from pipeline.schema import TrainConfig

_BARE_WORD = re.compile(r"(?:[A-Za-z_~./]|\d+[A-Za-z])[\w./:@~-]*")


def preset_names() -> list[str]:
    """Return the names of the presets that ship with the program, sorted."""
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in files("pipeline").joinpath("presets").iterdir()
        if entry.name.endswith(".toml")
    )


def load_config(
    *,
    preset: str | None = None,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    data: str | None = None,
) -> TrainConfig:
    """Read a preset or a TOML file (not both), apply overrides in order, and check the result.

    Args:
        preset: name of a shipped preset.
        file: TOML file with the keys of `TrainConfig`.
        overrides: `dotted.key=value`; the value is TOML (`[0.5, 0.9]`, `true`, `1e-4`, `"text"`), and a single
            bare word is text.
        data: value for `data.path`; kept absolute, because workers run in other folders.

    Raises:
        UserError: unknown preset or key, unreadable file, or a value that is out of range.
    """
    return check(apply_overrides(read_tree(preset=preset, file=file), overrides, data))


def read_tree(*, preset: str | None = None, file: Path | None = None) -> dict[str, Any]:
    """Return the tables of a preset or of a TOML file (not both), unchecked.

    Raises:
        UserError: unknown preset, or unreadable file.
    """
    if (preset is None) == (file is None):
        raise UserError(f"--preset or --config: expected exactly one of them; presets are {', '.join(preset_names())}")
    return _read_preset(preset) if preset is not None else _read_toml(typing.cast(Path, file))


def apply_overrides(tree: dict[str, Any], overrides: Sequence[str], data: str | None) -> dict[str, Any]:
    """Return a copy of `tree` with the overrides put in, in order, and `data` as an absolute `data.path`.

    A key that is set is taken out of `adapt`.
    """
    tree = copy.deepcopy(tree)
    for override in overrides:
        key, value = parse_override(override)
        _assign(tree, key, value)
        # What is set is not to be chosen.
        if key in tree.get("adapt", ()):
            tree["adapt"] = [other for other in tree["adapt"] if other != key]
    if data is not None:
        _assign(tree, "data.path", str(Path(data).expanduser().resolve()))
    return tree


def check(tree: dict[str, Any]) -> TrainConfig:
    """Turn a nested dict into a `TrainConfig`.

    Raises:
        UserError: the first thing that is wrong, as `dotted.key: expected ..., found ...`.
    """
    from pydantic import ValidationError

    from pipeline.schema import TrainConfig

    try:
        return TrainConfig.model_validate(tree)
    except ValidationError as error:
        raise UserError(_explain(error, TrainConfig)) from None


def dump(config: TrainConfig) -> dict[str, Any]:
    """Return the resolved configuration as JSON-ready dicts; `check(dump(c)) == c`."""
    return typing.cast("dict[str, Any]", json.loads(config.model_dump_json()))


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{dotted.key: value}` of a nested dict, for MLflow and tables."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def parse_override(text: str) -> tuple[str, Any]:
    """Split `dotted.key=value` and read the value as TOML.

    Raises:
        UserError: no `=`, an empty key, or a value that is neither TOML nor one bare word.
    """
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not equals or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", key):
        raise UserError(f"{text!r}: expected dotted.key=value, such as training.steps=500")
    try:
        parsed = tomllib.loads(f"value = {value}")
        if set(parsed) == {"value"}:
            return key, parsed["value"]
    except tomllib.TOMLDecodeError:
        if _BARE_WORD.fullmatch(value):
            return key, value
    raise UserError(f'{key}: expected a TOML value such as 3, 1e-4, [0.5, 0.9] or "text", found {value!r}')


def _read_preset(name: str) -> dict[str, Any]:
    known = preset_names()
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise UserError(f"--preset {name!r}: no such preset; {hint}there are {', '.join(known)}")
    return tomllib.loads(files("pipeline").joinpath("presets", f"{name}.toml").read_text("utf-8"))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"--config {str(path)!r}: expected a readable TOML file, found: {reason}") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"--config {str(path)!r}: not valid TOML: {error}") from None


def _assign(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for depth, name in enumerate(parents):
        if tree.get(name) is None:
            tree[name] = {}
        if not isinstance(tree[name], dict):
            raise UserError(f"{'.'.join(parents[: depth + 1])}: expected a table, found {tree[name]!r}")
        tree = tree[name]
    if last == "kind" and tree.get("kind") != value:
        # Another kind has other keys: what the preset said about the old one would be unknown to it.
        tree.clear()
    tree[last] = value


def _explain(error: ValidationError, root: type) -> str:
    details = error.errors(include_url=False)
    # Unknown keys first: a misspelt key is the likely cause of whatever else is wrong.
    first = next((d for d in details if d["type"] in ("extra_forbidden", "unexpected_keyword_argument")), details[0])
    key, siblings, here = _locate(first["loc"], root)
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        name = key.rsplit(".", 1)[-1]
        close = difflib.get_close_matches(name, siblings, 1)
        hint = f"did you mean '{close[0]}'?" if close else f"expected one of {', '.join(sorted(siblings))}"
        return f"{key}: unknown key; {hint}{more}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        # Our own validators begin with the key: whole, or as a field of the spec that they check.
        field, _, rest = message.partition(" ")
        field = field.removesuffix(":")
        if key and field.split(".")[0] in here:
            return f"{key}.{field}: {rest}{more}"
        return f"{message}{more}" if "." in message.split(":")[0] else f"{key}: {message}{more}"
    found = first["input"]
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        context = first.get("ctx", {})
        kinds = context.get("expected_tags", "its name")
        return f"{key}.kind: expected {kinds.replace(', ', ' or ')}, found {context.get('tag', 'nothing')!r}{more}"
    shown = f", found {found!r}" if not isinstance(found, dict) else ""
    expected = message[0].lower() + message[1:]
    expected = expected.removeprefix("input should be ")
    return f"{key}: expected {expected}{shown}{more}"


def _locate(loc: tuple[int | str, ...], root: type) -> tuple[str, list[str], set[str]]:
    """Return the dotted key of a pydantic location, without union tags, the names valid beside it and below it."""
    parts: list[str] = []
    siblings: list[str] = []
    current: Any = root
    for item in loc:
        if isinstance(item, int):  # into a list, whose items have the type that `_members` sees already
            parts.append(str(item))
            continue
        members = _members(current)
        if len(members) > 1 or (members and item not in _fields(members[0]) and parts and _kind(members[0]) == item):
            tagged = [m for m in members if _kind(m) == item]
            if tagged:
                current = tagged[0]
                continue
        parts.append(str(item))
        names = _fields(members[0]) if members else {}
        siblings = list(names)
        current = names.get(str(item))
    return ".".join(parts), siblings, {name for member in _members(current) for name in _fields(member)}


def _members(annotation: Any) -> list[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [m for arg in typing.get_args(annotation) if arg is not type(None) for m in _members(arg)]
    if origin is tuple:
        return _members(typing.get_args(annotation)[0])
    return [annotation] if _fields(annotation) else []


def _fields(kind: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    fields = getattr(kind, "model_fields", None)
    return {name: info.annotation for name, info in fields.items()} if isinstance(fields, dict) else {}


def _kind(member: Any) -> str | None:
    annotation = _fields(member).get("kind")
    args = typing.get_args(annotation)
    return str(args[0]) if args else None
