"""Tiles of a large image: read areas with a halo, ramps that blend neighbours, and passes of bounded size.

A tile keeps its own area plus half a ramp into each neighbour, and reads a halo around that. If the halo
covers the receptive field, all kept pixels equal those of the whole image, so there is nothing to blend and the
ramp may be left out; if it does not (transformers), the ramp hides the seam.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

HALF_RAMP = 8
"""Pixels that a tile keeps of each neighbour, to be blended with it."""
# A pass over several small images at once never needs more memory than one over a tile of 512x512.
_PASS_PIXELS = 1 << 18

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Span:
    """One tile along one axis, in pixels of the image: [read) contains [keep)."""

    read_start: int
    read_stop: int
    keep_start: int
    keep_stop: int
    weight: Tensor
    """(keep_stop - keep_start,) float32 in (0, 1]; the weights of all spans add up to 1 at every pixel."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile of an image."""

    rows: Span
    columns: Span

    @property
    def origin(self) -> tuple[int, int]:
        """Absolute (row, column) of the first pixel read."""
        return self.rows.read_start, self.columns.read_start

    def read(self, image: Tensor) -> Tensor:
        """The part of ``image`` (..., H, W) that this tile is computed from."""
        rows, columns = self.rows, self.columns
        return image[..., rows.read_start : rows.read_stop, columns.read_start : columns.read_stop]

    def add(self, output: Tensor, result: Tensor, *, first_row: int = 0) -> None:
        """Add the weighted kept part of ``result`` (of the size read) to ``output`` (..., H, W), in place.

        ``first_row`` is the row of the image that the first of ``output`` is, which may be a band of it.
        """
        rows, columns = self.rows, self.columns
        top, left = rows.keep_start - rows.read_start, columns.keep_start - columns.read_start
        height, width = rows.keep_stop - rows.keep_start, columns.keep_stop - columns.keep_start
        weight = (rows.weight[:, None] * columns.weight).to(result.device)
        kept = (result[..., top : top + height, left : left + width] * weight).to(output.device)
        start, stop = rows.keep_start - first_row, rows.keep_stop - first_row
        output[..., start:stop, columns.keep_start : columns.keep_stop] += kept


def tiles(
    height: int,
    width: int,
    *,
    tile: int | tuple[int, int],
    halo: int,
    multiple: int,
    half_ramp: int = HALF_RAMP,
) -> Iterator[Tile]:
    """Tiles that cover an image of ``height`` x ``width``, row by row.

    Args:
        height: rows of the image.
        width: columns of the image.
        tile: side, or rows and columns, of the area a tile is responsible for; evened out and rounded up to
            ``multiple``.
        halo: pixels read beyond the kept area, at least.
        multiple: origins of the read areas are multiples of this.
        half_ramp: pixels that a tile keeps of each neighbour, to be blended with it; 0 for none.
    """
    down, across = (tile, tile) if isinstance(tile, int) else tile
    for rows in spans(height, down, halo, multiple, half_ramp):
        for columns in spans(width, across, halo, multiple, half_ramp):
            yield Tile(rows, columns)


def spans(length: int, tile: int, halo: int, multiple: int, half_ramp: int = HALF_RAMP) -> list[Span]:
    """Spans that cover one axis; arguments as of `tiles`."""
    count = -(-length // tile)
    core = _ceil(-(-length // count), multiple)
    half = min(half_ramp, core // 2)
    spans = []
    for start in range(0, length, core):
        stop = start + core
        keep_start = max(start - half, 0)
        keep_stop = min(stop + half, length) if stop < length else length
        position = torch.arange(keep_start, keep_stop, dtype=torch.float64) + 0.5
        weight = torch.ones_like(position)
        # Multiples of 1/16 for the usual ramp of 16 pixels: products and sums of weights are exact.
        if half and start > 0:
            weight *= ((position - start + half) / (2 * half)).clamp(0, 1)
        if half and stop < length:
            weight *= ((stop + half - position) / (2 * half)).clamp(0, 1)
        spans.append(
            Span(
                read_start=max(keep_start - halo, 0) // multiple * multiple,
                read_stop=min(_ceil(keep_stop + halo, multiple), length),
                keep_start=keep_start,
                keep_stop=keep_stop,
                weight=weight.to(torch.float32),
            )
        )
    return spans


def _ceil(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def passes(items: Sequence[T], pixels: int) -> Iterator[Sequence[T]]:
    """Cut ``items``, each of which shows the network ``pixels`` pixels, into parts that one pass can take."""
    size = max(1, _PASS_PIXELS // pixels)
    for start in range(0, len(items), size):
        yield items[start : start + size]
