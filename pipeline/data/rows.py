"""Pictures read from the top to the bottom, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.data.image_types import Pixels

PIECE_BYTES = 2**25
"""Rows are decoded in pieces of about this size."""


class Rows(Protocol):
    """A picture of which any rows can be had."""

    height: int
    width: int
    channels: int
    dtype: np.dtype[np.generic]
    """uint8, uint16 or float32."""

    step: int
    """Rows that are best read together."""

    def read(self, start: int, stop: int) -> Pixels:
        """Return the rows [start, stop), (stop - start, W, C)."""


class ArrayRows:
    """The rows of a picture in memory."""

    step = 1

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels
        self.height, self.width, self.channels = pixels.shape
        self.dtype: np.dtype[np.generic] = pixels.dtype

    def read(self, start: int, stop: int) -> Pixels:
        """Return the rows [start, stop); they are not copied."""
        return self._pixels[start:stop]


class Window:
    """The rows of a picture that are needed at present; each is read once, in order."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._pieces: list[tuple[int, Pixels]] = []
        self._end = 0
        row = rows.width * rows.channels * rows.dtype.itemsize
        self._most = max(rows.step, PIECE_BYTES // row // rows.step * rows.step)

    def area(self, top: int, bottom: int, left: int, right: int) -> Pixels:
        """Return a copy of the rows [top, bottom) and columns [left, right), none of them forgotten yet."""
        area = np.empty((bottom - top, right - left, self._rows.channels), self._rows.dtype)
        for start, piece in self._covering(top, bottom):
            first, last = max(top, start), min(bottom, start + len(piece))
            area[first - top : last - top] = piece[first - start : last - start, left:right]
        return area

    def forget(self, before: int) -> None:
        """Drop what lies wholly above row ``before``."""
        self._pieces = [(start, piece) for start, piece in self._pieces if start + len(piece) > before]

    def _covering(self, top: int, bottom: int) -> Iterator[tuple[int, Pixels]]:
        while self._end < bottom:
            # Up to the end of a strip, so that none is decoded twice.
            stop = min(-(-bottom // self._rows.step) * self._rows.step, self._end + self._most, self._rows.height)
            self._pieces.append((self._end, self._rows.read(self._end, stop)))
            self._end = stop
        return ((start, piece) for start, piece in self._pieces if start < bottom and start + len(piece) > top)


def in_strips(parts: Iterator[Pixels], rows: int) -> Iterator[NDArray[np.generic]]:
    """Cut consecutive rows, in parts of any height, into strips of ``rows`` rows; the last may be shorter."""
    held: list[Pixels] = []
    count = 0
    for part in parts:
        while len(part):
            piece, part = part[: rows - count], part[rows - count :]
            held.append(piece)
            count += len(piece)
            if count == rows:
                yield np.concatenate(held) if len(held) > 1 else held[0]
                held, count = [], 0
    if held:
        yield np.concatenate(held)
