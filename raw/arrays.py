"""NumPy at the edge: the same functions take arrays where they take tensors, and answer in kind."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numpy as np
import torch

P = ParamSpec("P")
R = TypeVar("R")


def accepts_numpy(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function on tensors take NumPy arrays; if any argument is one, tensors come back as arrays.

    Arrays and tensors share memory on the way in and out: nothing is copied but what the function copies.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        if not any(isinstance(value, np.ndarray) for value in (*args, *kwargs.values())):
            return function(*args, **kwargs)
        result = function(*map(_tensor, args), **{key: _tensor(value) for key, value in kwargs.items()})  # type: ignore[arg-type]
        return result.numpy() if isinstance(result, torch.Tensor) else result  # type: ignore[return-value]

    return wrapped


def _tensor(value: object) -> object:
    if not isinstance(value, np.ndarray):
        return value
    # Negative strides (a flipped view) and big-endian or read-only memory are beyond torch.
    plain = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("="))
    return torch.from_numpy(plain if plain.flags.writeable else plain.copy())
