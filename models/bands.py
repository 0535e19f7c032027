"""An image denoised band by band: what a band of tile rows needs is read, and rows are given away when they are final.

Neither the image nor the result has to lie in memory whole. `denoise` and whoever denoises files too large for that
go through here, so both get the same numbers.
"""

import gc
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .tiling import Tile, spans, tiles

Read = Callable[[int, int, int, int], Tensor]
"""Gives rows [top, bottom) and columns [left, right) of the image, (B, C, rows, columns); ``top`` never decreases."""

Compute = Callable[[Tensor, tuple[int, int]], Tensor]
"""Denoises a part (B, C, H, W) of the image whose first pixel has the absolute (row, column) given; float32."""


def band_rows(
    read: Read,
    height: int,
    width: int,
    compute: Compute,
    *,
    tile: int | tuple[int, int],
    halo: int,
    multiple: int,
    half_ramp: int,
    device: torch.device | str = "cpu",
) -> Iterator[Tensor]:
    """Denoise an image tile by tile and yield its rows from the first to the last.

    Args:
        read: gives parts of the image.
        height: rows of the image.
        width: columns of the image.
        compute: what is done with each part.
        tile: side, or rows and columns, of the tiles (`tiling.tiles`).
        halo: pixels read beyond what is kept.
        multiple: origins of parts are multiples of this.
        half_ramp: of `tiling.tiles`.
        device: where the results are put together.

    Yields:
        (B, C, rows, W) float32: the next rows that no other tile contributes to.
    """
    down, across = (tile, tile) if isinstance(tile, int) else tile
    rows, columns = spans(height, down, halo, multiple, half_ramp), spans(width, across, halo, multiple, half_ramp)
    band: Tensor | None = None
    first = 0
    for index, span in enumerate(rows):
        for column in columns:
            part = read(span.read_start, span.read_stop, column.read_start, column.read_stop)
            result = compute(part, (span.read_start, column.read_start))
            band = _grown(band, (*result.shape[:2], span.keep_stop - first, width), device)
            Tile(span, column).add(band, result, first_row=first)
            del part, result
        assert band is not None
        final = rows[index + 1].keep_start if index + 1 < len(rows) else height
        yield band[:, :, : final - first]
        # A copy: what was given away must not be kept alive by a few rows of it.
        band, first = band[:, :, final - first :].clone(), final


def _grown(band: Tensor | None, shape: tuple[int, ...], device: torch.device | str) -> Tensor:
    """The band with rows of zeros below, as many as ``shape`` asks for."""
    if band is None:
        return torch.zeros(shape, dtype=torch.float32, device=device)
    if band.shape[2] >= shape[2]:
        return band
    grown = torch.zeros(shape, dtype=torch.float32, device=device)
    grown[:, :, : band.shape[2]] = band
    return grown


class InParts:
    """A `Compute` that cuts a part in two where memory does not suffice for it, and goes on with smaller ones.

    With a halo that covers what the network sees, the result is the same.
    """

    def __init__(
        self, compute: Compute, *, halo: int, multiple: int, on_halved: Callable[[], None] | None = None
    ) -> None:
        self._compute, self._on_halved = compute, on_halved
        self._halo, self._multiple = halo, multiple
        self._limit: int | None = None

    def __call__(self, part: Tensor, origin: tuple[int, int]) -> Tensor:
        """Denoise a part.

        Raises:
            MemoryError: there is not enough memory even for parts that are mostly halo.
        """
        height, width = part.shape[-2:]
        if self._limit is None or height * width <= self._limit:
            try:
                return self._compute(part, origin)
            except (RuntimeError, MemoryError) as error:
                if not _is_short_of_memory(error):
                    raise
            # Outside of the except clause, which keeps the tensors of the failed pass alive.
            self._limit = height * width * 3 // 4
            if self._on_halved is not None:
                self._on_halved()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return self._halves(part, origin)

    def _halves(self, part: Tensor, origin: tuple[int, int]) -> Tensor:
        height, width = part.shape[-2:]
        side = (-(-height // 2), width) if height >= width else (height, -(-width // 2))
        halves = list(tiles(height, width, tile=side, halo=self._halo, multiple=self._multiple))
        largest = max(area.read(part)[0, 0].numel() for area in halves)
        if largest >= height * width:
            raise MemoryError(f"not enough memory for a tile of {height}x{width} pixels, halo included")
        output = torch.zeros(part.shape, dtype=torch.float32, device=part.device)
        for area in halves:
            down, right = area.origin
            area.add(output, self(area.read(part), (origin[0] + down, origin[1] + right)))
        return output


def _is_short_of_memory(error: Exception) -> bool:
    text = str(error)
    return (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or "not enough memory" in text
        or "can't allocate memory" in text
        or "out of memory" in text
        or "could not create a memory" in text  # oneDNN
        or "could not create a primitive" in text  # oneDNN, if it was the memory of its scratchpad
    )
