"""Deepest features of many patches, kept on disk: hundreds of maps are more than a small machine's memory."""

from __future__ import annotations

import contextlib
import tempfile
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunError
from pipeline.evaluation.cka import columns, gram_of_parts

Floats = NDArray[np.float64]

# Values of a sample for histograms: shares of bins are then right to a few thousandths of the tallest.
_SAMPLE = 1 << 20


class FeatureRows:
    """Rows of float32 features in a temporary file, one a patch. Use it as a context manager."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="unveil-features-")  # noqa: SIM115  closed by __exit__
        self._count = 0
        self._width = 0

    def __enter__(self) -> FeatureRows:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the disk space back."""
        # On a full disk closing tries to write what is left once more, and fails once more.
        with contextlib.suppress(OSError):
            self._file.close()

    def add(self, features: NDArray[np.floating[Any]]) -> None:
        """Append (n, ...) rows, all of one width.

        Raises:
            ValueError: another width than before.
            RunError: the disk of temporary files is full.
        """
        rows = np.ascontiguousarray(features.reshape(len(features), -1), np.float32)
        if self._count and rows.shape[1] != self._width:
            raise ValueError(f"rows must have {self._width} values, got {rows.shape[1]}")
        try:
            self._file.write(rows.tobytes())
            self._file.flush()
        except OSError as error:
            raise RunError(
                f"{tempfile.gettempdir()}: expected room for features, found: {error.strerror}; set TMPDIR to another "
                "folder, or use fewer --patches"
            ) from error
        self._count, self._width = self._count + len(rows), rows.shape[1]

    @property
    def nbytes(self) -> int:
        """Of the file."""
        return 4 * self._count * self._width

    def gram(self) -> Floats:
        """Products (N, N) of the centred rows, read a few columns at a time."""
        # Mapped anew for each part, because what has been read of a mapping counts as memory until it ends.
        parts = (self._mapped()[:, start:stop] for start, stop in columns(self._count, self._width))
        return gram_of_parts(parts)

    def sample(self) -> NDArray[np.float32]:
        """Values of evenly spaced columns of all rows, about a million at most."""
        step = max(1, -(-self._count * self._width // _SAMPLE))
        # Odd, so that a step that divides the width of a map does not pick the same columns of all its rows.
        return np.array(self._mapped()[:, :: step | 1]).ravel()

    def _mapped(self) -> NDArray[np.float32]:
        return np.memmap(self._file, np.float32, "r", shape=(self._count, self._width))
