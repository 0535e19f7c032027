"""Messages between a process and its child: a JSON header, then the bytes of the arrays, and nothing executable.

A message is the length of the header (4 bytes, little endian), the header, and the arrays one after another. In
the header a tuple is ``{"tuple": [...]}``, an array ``{"array": dtype, "shape": [...]}`` and a dataclass
``{"fields": {...}}``; None, booleans, numbers and text are themselves.
"""

import base64
import json
import math
import struct
import types
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

MAX_HEADER: Final = 2**26
"""Room for colour profiles and the like, which come as bytes."""

OUT_OF_MEMORY: Final = "the decoder needed more memory than such a file may take"

_DTYPES: Final = frozenset({"uint8", "uint16", "uint32", "int64", "float16", "float32", "float64"})
_LENGTH = struct.Struct("<I")
_PLAIN: dict[Any, tuple[type, ...]] = {float: (float, int), int: (int,), str: (str,), bool: (bool,), bytes: (bytes,)}

T = TypeVar("T")


def send(write: Callable[[memoryview], None], value: object) -> None:
    """Write one message; arrays are written from where they lie.

    Args:
        write: takes all bytes that it is given.
        value: None, bool, int, float, str, bytes, tuple, array or dataclass, nested.

    Raises:
        TypeError: another type, or an array of a dtype that messages do not carry.
    """
    arrays: list[np.ndarray] = []
    header = json.dumps(_packed(value, arrays)).encode()
    write(memoryview(_LENGTH.pack(len(header)) + header))
    for array in arrays:
        if array.size:
            write(array.data.cast("B"))


def receive(read: Callable[[memoryview], None], limit: int) -> object:
    """Read one message; dataclasses come as ``dict`` of their fields, see `typed`.

    Args:
        read: fills all bytes that it is given.
        limit: bytes that all arrays together may take.

    Raises:
        ValueError: no such message, or arrays beyond ``limit``.
    """
    prefix = bytearray(_LENGTH.size)
    read(memoryview(prefix))
    (length,) = _LENGTH.unpack(prefix)
    if length > MAX_HEADER:
        raise ValueError(f"header of {length} bytes")
    header = bytearray(length)
    read(memoryview(header))
    try:
        tree = json.loads(header)
    except RecursionError as error:
        raise ValueError("header too deep") from error
    arrays: list[np.ndarray] = []
    value = _unpacked(tree, arrays, limit)
    for array in arrays:
        if array.size:
            read(array.data.cast("B"))
    return value


def typed(value: object, kind: type[T]) -> T:
    """Return what `receive` gave as an instance of ``kind``, every field checked against its type.

    Args:
        value: fields of a dataclass by name.
        kind: a dataclass whose fields are None, bool, int, float, str, bytes, literals, tuples and arrays.

    Raises:
        ValueError: a field is missing, unknown or of another type.
    """
    if not is_dataclass(kind) or not isinstance(value, dict):
        raise ValueError(f"expected the fields of {kind.__name__}, got {type(value).__name__}")
    hints = get_type_hints(kind)
    names = {field.name for field in fields(kind)}
    if value.keys() != names:
        raise ValueError(f"expected the fields of {kind.__name__}, got others: {sorted(value.keys() ^ names)}")
    for name in names:
        if not _fits(value[name], hints[name]):
            raise ValueError(f"{kind.__name__}.{name} of a wrong type")
    return kind(**value)


def _packed(value: object, arrays: list[np.ndarray]) -> object:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, tuple):
        return {"tuple": [_packed(item, arrays) for item in value]}
    if isinstance(value, np.ndarray) and value.dtype.name in _DTYPES:
        arrays.append(np.ascontiguousarray(value, value.dtype.name))
        return {"array": value.dtype.name, "shape": list(value.shape)}
    if is_dataclass(value) and not isinstance(value, type):
        return {"fields": {field.name: _packed(getattr(value, field.name), arrays) for field in fields(value)}}
    raise TypeError(f"a message carries no {type(value).__name__}")


def _unpacked(tree: object, arrays: list[np.ndarray], limit: int) -> object:
    match tree:
        case None | bool() | int() | float() | str():
            return tree
        case {"tuple": list(items)}:
            return tuple(_unpacked(item, arrays, limit) for item in items)
        case {"bytes": str(text)}:
            return base64.b64decode(text, validate=True)
        case {"fields": dict(items)}:
            return {name: _unpacked(item, arrays, limit) for name, item in items.items()}
        case {"array": str(name), "shape": list(shape)}:
            if name not in _DTYPES or len(shape) > 4 or not all(type(side) is int and side >= 0 for side in shape):
                raise ValueError(f"array of {name[:20]!r} and shape {str(shape)[:40]}")
            taken = sum(array.nbytes for array in arrays)
            if taken + math.prod(shape) * np.dtype(name).itemsize > limit:
                raise ValueError(f"arrays of more than {limit} bytes")
            arrays.append(np.empty(shape, name))
            return arrays[-1]
    raise ValueError("an unknown object")


def _fits(value: object, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if hint in (None, type(None)):
        return value is None
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return all(_fits(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    if origin is np.ndarray:  # NDArray[T] is ndarray[shape, dtype[T]]
        (scalar,) = get_args(arguments[1])
        return isinstance(value, np.ndarray) and (scalar is Any or value.dtype == np.dtype(scalar))
    if hint in _PLAIN:
        return isinstance(value, _PLAIN[hint]) and (hint is bool or not isinstance(value, bool))
    return False
