"""Read MATLAB files: version 5 to 7 through SciPy, version 7.3 (HDF5) through h5py, which is an optional extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.paths import shown
from pipeline.errors import UserError

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HDF5_OFFSETS = (0, 512, 1024, 2048)
_KINDS = {"double": "float64", "single": "float32", "logical": "bool"}


class Variable(NamedTuple):
    """What a MATLAB file says of one of its variables."""

    shape: tuple[int, ...]
    """As MATLAB has it."""

    dtype: str
    """NumPy's name; MATLAB's own for what is no array of numbers (``cell``, ``struct``, ``char``)."""


def is_hdf5(path: Path) -> bool:
    """Tell whether a MATLAB file is of version 7.3; raises UserError if it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_HDF5_OFFSETS[-1] + len(_HDF5_SIGNATURE))
    except OSError as error:
        raise UserError(f"{shown(path)}: expected a MATLAB file, found: {error.strerror}") from error
    return any(head[offset : offset + len(_HDF5_SIGNATURE)] == _HDF5_SIGNATURE for offset in _HDF5_OFFSETS)


def variables(path: Path) -> dict[str, Variable]:
    """Return name -> shape and dtype, without reading the arrays.

    Raises:
        UserError: no MATLAB file, a damaged one, or of version 7.3 without h5py.
    """
    if is_hdf5(path):
        with opened_hdf5(path) as file:
            return {name: Variable(tuple(reversed(item.shape)), str(item.dtype)) for name, item in _datasets(file)}
    from scipy.io import whosmat

    with _damage_named(path):
        return {name: Variable(tuple(shape), _KINDS.get(kind, kind)) for name, shape, kind in whosmat(str(path))}


def read_variable(path: Path, name: str) -> NDArray[Any]:
    """Return one array of numbers, with MATLAB's order of axes whatever the version of the file.

    Raises:
        UserError: as for `variables`, or there is no such array.
    """
    array: NDArray[Any] | None = None
    if is_hdf5(path):
        with opened_hdf5(path) as file:
            # HDF5 counts axes from the slowest, MATLAB from the fastest: a transposed view, nothing is copied.
            array = next((np.asarray(item[()]).T for key, item in _datasets(file) if key == name), None)
    else:
        from scipy.io import loadmat

        with _damage_named(path):
            array = loadmat(str(path), variable_names=[name]).get(name)
    if array is None:
        raise UserError(f"{shown(path)}: expected the variable {name!r}, found {_names(path)}")
    return array


@contextmanager
def opened_hdf5(path: Path) -> Iterator[Any]:
    """Open a MATLAB 7.3 file as `h5py.File` to read.

    Raises:
        UserError: h5py is not installed, or the file is damaged.
    """
    try:
        import h5py
    except ImportError:
        raise UserError(
            f"{shown(path)}: MATLAB 7.3 files are HDF5 and need the package h5py; install it with "
            "pip install 'unveil-denoise[mat]'"
        ) from None
    with _damage_named(path), h5py.File(path, "r") as file:
        yield file


def _datasets(file: Any) -> Iterator[tuple[str, Any]]:
    import h5py

    for name, item in file.items():
        if isinstance(item, h5py.Dataset):
            yield name, item


def _names(path: Path) -> str:
    return ", ".join(sorted(variables(path))) or "none"


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # SciPy and h5py raise whatever a damaged file leads them to
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{shown(path)}: expected a whole MATLAB file, found a damaged one ({reason})") from error
