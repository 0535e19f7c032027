"""Specs as JSON values and back, strictly: unknown fields and wrong types are errors.

Enough for specs whose fields are numbers, strings, booleans, choices, tuples of numbers, and a number or a tuple.
"""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def spec_to_dict(spec: Any) -> dict[str, Any]:
    """All fields of a spec as JSON values."""
    return {
        field.name: list(value) if isinstance(value := getattr(spec, field.name), tuple) else value
        for field in dataclasses.fields(spec)
    }


def spec_from_mapping(cls: type[T], data: Mapping[str, Any]) -> T:
    """A spec of type ``cls`` from JSON values; fields that are left out have their defaults.

    Raises:
        ValueError: an unknown field, a wrong type or a value out of range, naming the field.
    """
    hints = get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    values = {}
    for key, value in data.items():
        if key not in names:
            raise ValueError(f"{key}: unknown field of {cls.__name__}; it has {', '.join(names)}")
        values[key] = _convert(key, value, hints[key])
    return cls(**values)


def _convert(name: str, value: Any, hint: Any) -> Any:
    origin = get_origin(hint)
    if origin is Literal:
        if value not in get_args(hint) or isinstance(value, bool):
            raise ValueError(f"{name} must be one of {get_args(hint)}, got {value!r}")
        return value
    if origin is tuple:
        items = get_args(hint)
        if not isinstance(value, list | tuple) or (items[-1] is not Ellipsis and len(value) != len(items)):
            raise ValueError(f"{name} must be a list{_count(items)}, got {value!r}")
        return tuple(_convert(name, item, items[0]) for item in value)
    if isinstance(hint, types.UnionType):  # a number or a tuple
        is_list = isinstance(value, list | tuple)
        return _convert(name, value, next(kind for kind in get_args(hint) if (get_origin(kind) is tuple) == is_list))
    if not isinstance(hint, type):
        raise TypeError(f"{name}: fields of type {hint} cannot be read from JSON")
    allowed = (int, float) if hint is float else hint
    # JSON's true is an int to Python.
    if not isinstance(value, allowed) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{name} must be {hint.__name__}, got {value!r}")
    return hint(value)


def _count(items: tuple[Any, ...]) -> str:
    return "" if items[-1] is Ellipsis else f" of {len(items)}"
