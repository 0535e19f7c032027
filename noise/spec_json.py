"""Specs as JSON values and back, strictly: specs within specs, unions told apart by ``kind``, tuples and choices."""

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from noise.by_kind import members_by_kind


def spec_to_dict(spec: Any) -> dict[str, Any]:
    """All fields of a spec as JSON values; tuples become lists, specs become objects."""
    return {field.name: _to_json(getattr(spec, field.name)) for field in dataclasses.fields(spec)}


def spec_from_dict(union: Any, values: Any, key: str = "") -> Any:
    """One spec of a union from JSON values, the inverse of `spec_to_dict`; what is left out has its default.

    Args:
        union: of spec classes; a missing ``kind`` means the first.
        values: the JSON object.
        key: dotted key of the object in whatever holds it, for messages.

    Raises:
        ValueError: the kind or a key is unknown, or a value has a wrong type or is out of range; the message
            begins with the dotted key.
    """
    members = members_by_kind(union)
    first = next(iter(members))
    kind = values.get("kind", first) if isinstance(values, Mapping) else first
    if not isinstance(kind, str) or kind not in members:
        raise ValueError(f"{_join(key, 'kind')}: no {kind!r}; there is {', '.join(members)}")
    return _build(members[kind], values, key)


def _build(spec: Any, values: Any, key: str) -> Any:
    if not isinstance(values, Mapping):
        raise ValueError(f"{key or 'a recipe'} must be an object, got {values!r}")
    hints = get_type_hints(spec, include_extras=True)
    names = [field.name for field in dataclasses.fields(spec)]
    for name in values:
        if name not in names:
            raise ValueError(f"{_join(key, str(name))}: unknown key{_of(hints)}; it has {', '.join(names)}")
    made = {name: _from_json(_join(key, name), value, hints[name]) for name, value in values.items()}
    try:
        return spec(**made)
    except ValueError as error:
        # A spec's own check begins with its field.
        raise ValueError(_join(key, str(error))) from None


def _to_json(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return spec_to_dict(value)
    return [_to_json(item) for item in value] if isinstance(value, tuple) else value


def _from_json(key: str, value: Any, hint: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _from_json(key, value, arguments[0])
    if origin in (Union, types.UnionType):
        return _from_union(key, value, arguments)
    if origin is Literal:
        if value not in arguments or isinstance(value, bool):
            raise ValueError(f"{key} must be one of {', '.join(map(repr, arguments))}, got {value!r}")
        return value
    if origin is tuple:
        return _from_list(key, value, arguments)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, key)
    return _from_scalar(key, value, hint)


def _from_union(key: str, value: Any, members: tuple[Any, ...]) -> Any:
    if type(None) in members and value is None:
        return None
    others = tuple(member for member in members if member is not type(None))
    if len(others) == 1:
        return _from_json(key, value, others[0])
    return spec_from_dict(Union[others], value, key)  # noqa: UP007 - members are known at run time only


def _from_list(key: str, value: Any, items: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{key} must be {_described(key, items)}, got {value!r}")
    if items[-1] is Ellipsis:
        items = (items[0],) * len(value)
    if len(value) != len(items):
        raise ValueError(f"{key} must be {_described(key, items)}, got {value!r}")
    return tuple(_from_json(f"{key}.{index}", item, items[index]) for index, item in enumerate(value))


def _described(key: str, items: tuple[Any, ...]) -> str:
    if items[-1] is Ellipsis:
        return "a list"
    # A field that is a pair is a range in every recipe; pairs within a list, such as noise levels, are not.
    is_field = not key.rpartition(".")[2].isdigit()
    return "[lowest, highest]" if len(items) == 2 and is_field else f"a list of {len(items)}"


def _from_scalar(key: str, value: Any, hint: Any) -> Any:
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    if hint not in words:
        raise TypeError(f"{key}: fields of type {hint} cannot be read from JSON")
    allowed = (int, float) if hint is float else hint
    # JSON's true is an int to Python, and Python's reader of JSON takes NaN.
    wrong = not isinstance(value, allowed) or (isinstance(value, bool) and hint is not bool)
    if wrong or (hint is float and math.isnan(value)):
        raise ValueError(f"{key} must be {words[hint]}, got {value!r}")
    return hint(value)


def _of(hints: Mapping[str, Any]) -> str:
    return f" of {get_args(hints['kind'])[0]}" if "kind" in hints else ""


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
