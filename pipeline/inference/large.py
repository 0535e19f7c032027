"""Pictures denoised band by band: nothing as large as the picture is held in floats, large TIFFs not at all.

Rows come from a picture in memory or from a file, go through the network in tiles whose size follows from the free
memory, and leave in the depth of the file as soon as no other tile touches them. Both ways are this one, so a file
gets the same pixels whichever way it takes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.depth import BIT_DEPTHS, from_float, in_depth, to_float
from pipeline.data.image_types import ImageError, Pixels
from pipeline.data.images import read_header, read_unbounded, write_image
from pipeline.data.rows import ArrayRows, Rows, Window
from pipeline.data.tiff_regions import TiffRows, large_tiff, write_tiff_rows
from pipeline.errors import UserError
from pipeline.inference.denoiser import Denoiser, NetworkDenoiser
from pipeline.inference.large_sample import Sample, mended_by
from pipeline.inference.outputs import DEFAULT, OutputOptions
from pipeline.inference.picture import joined, profile_note
from pipeline.inference.results import Made
from pipeline.inference.tile_plan import TilePlan, plan_tiles
from pipeline.inference.written import blend

if TYPE_CHECKING:
    from torch import Tensor


FloatImage = NDArray[np.float32]

LARGE = 1 << 22
"""Pixels from which on a picture is denoised so; the offset of smaller ones is measured on all of them."""

_AT_ONCE = 1 << 18
"""Pixels that are converted to the depth of the file together: float64 is needed for that."""


@dataclass(kw_only=True, slots=True)
class Finished:
    """What is known when the last row is done."""

    offset: dict[str, Any] | None = None
    """See `pipeline.inference.offset.denoise_measured`."""

    residual: dict[str, Any] | None = None
    """See `pipeline.inference.residual.residual_of`."""

    halvings: int = 0
    """How often a tile had to be halved because memory was short."""

    plan: TilePlan = field(default_factory=TilePlan)
    """The tiles."""

    def made(self, *notes: str | None) -> Made:
        """Return it as it is told of a file, with notes."""
        short = "memory was short: tiles were halved and computed again; --tile sets a smaller size from the start"
        return Made(note=joined(*notes, short if self.halvings else None), offset=self.offset, residual=self.residual)


def denoise_large(denoiser: Denoiser, source: Path, output: Path, options: OutputOptions = DEFAULT) -> Made | None:
    """Denoise a large picture of whole numbers band by band; the folder of the output is made.

    Returns:
        What is known about the output; None, and nothing is done, if this is not for the picture or the denoiser.

    Raises:
        ImageError: the source is damaged, or is too large to be read whole and cannot be read otherwise.
        UserError: the network is not one for such a picture.
        ValueError: the network's output is not finite.
        MemoryError: not even small tiles fit into memory.
        OSError: the folder is not writable, or the disk is full.
    """
    if not isinstance(denoiser, NetworkDenoiser):
        return None
    if output.suffix.lower() in (".tif", ".tiff"):
        rows = large_tiff(source)
        if rows is not None:
            return _by_region(denoiser, rows, output, options)
    try:
        header = read_header(source)
    except ImageError:
        return None  # told better by whoever reads it
    if header.bits > 16 or header.height * header.width < LARGE:
        return None
    image = read_unbounded(source)
    pixels, finished = denoise_pixels(denoiser, image.pixels, options)
    output.parent.mkdir(parents=True, exist_ok=True)
    note = write_image(output, replace(image, pixels=pixels), bit_depth=options.bit_depth)
    return finished.made(image.note, profile_note(image.metadata), note)


def _by_region(denoiser: NetworkDenoiser, rows: TiffRows, output: Path, options: OutputOptions) -> Made:
    finished = Finished()
    output.parent.mkdir(parents=True, exist_ok=True)
    parts = denoised_rows(denoiser, rows, finished, options, spool=output.parent)
    write_tiff_rows(output, parts, (rows.height, rows.width, rows.channels), rows.metadata)
    return finished.made(profile_note(rows.metadata))


def denoise_pixels(
    denoiser: NetworkDenoiser, pixels: Pixels, options: OutputOptions = DEFAULT
) -> tuple[Pixels, Finished]:
    """Denoise a picture in memory.

    Args:
        denoiser: a network that was trained on pictures.
        pixels: (H, W, C) uint8 or uint16, as `pipeline.data.images.Image` has them.
        options: bit depth and strength.

    Returns:
        The denoised picture, alpha as it was, and what is known about it.

    Raises:
        UserError, ValueError, MemoryError: as for `denoise_large`.
    """
    finished = Finished()
    result = np.empty(pixels.shape, _dtype(pixels.dtype, options))
    row = 0
    for part in denoised_rows(denoiser, ArrayRows(pixels), finished, options):
        result[row : row + len(part)] = part
        row += len(part)
    return result, finished


def denoised_rows(
    denoiser: NetworkDenoiser,
    rows: Rows,
    finished: Finished,
    options: OutputOptions = DEFAULT,
    *,
    spool: Path | None = None,
) -> Iterator[Pixels]:
    """Denoise a picture from the top to the bottom.

    Args:
        denoiser: a network that was trained on pictures.
        rows: the picture; read twice where an offset is mended.
        finished: filled when all rows are given away and one more is asked for.
        options: bit depth and strength.
        spool: folder for a temporary file of 4 bytes a sample, where an offset is mended: it is known when all rows
            are denoised. None for the system's.

    Yields:
        (n, W, C): the next rows.
    """
    if denoiser.domain == "raw":
        raise UserError("model: expected one trained on pictures, found one for raw files (unveil denoise RAW...)")
    sample = Sample(rows.height, rows.width)
    dtype = _dtype(rows.dtype, options)
    if denoiser.inference.offset == "keep":
        for row, noisy, denoised in _denoised(denoiser, rows, finished):
            sample.take(row, noisy, denoised)
            yield _stored(noisy, denoised, dtype, options.strength)
        finished.offset, finished.residual = sample.offset(None), sample.residual(None)
        return
    with tempfile.TemporaryFile(dir=spool) as file:
        heights = []
        for row, noisy, denoised in _denoised(denoiser, rows, finished):
            sample.take(row, noisy, denoised)
            file.write(np.ascontiguousarray(denoised).data)
            heights.append(len(denoised))
        curve = sample.curve()
        finished.offset, finished.residual = sample.offset(curve), sample.residual(curve)
        file.seek(0)
        window, row = Window(rows), 0
        for height in heights:
            window.forget(row)
            noisy = window.area(row, row + height, 0, rows.width)
            shape = (height, rows.width, _colours(rows.channels))
            denoised = np.frombuffer(file.read(4 * height * rows.width * shape[2]), np.float32).reshape(shape)
            yield _stored(noisy, mended_by(curve, denoised), dtype, options.strength)
            row += height


def _denoised(denoiser: NetworkDenoiser, rows: Rows, finished: Finished) -> Iterator[tuple[int, Pixels, FloatImage]]:
    """First row, noisy pixels and denoised colours (n, W, C) of one band after another, in small pieces."""
    from models import denoise_bands, from_network, to_network

    network = denoiser.network
    colours = _colours(rows.channels)
    window = Window(rows)

    def read(top: int, bottom: int, left: int, right: int) -> Tensor:
        window.forget(top)
        return to_network(to_float(window.area(top, bottom, left, right)[..., :colours]), network.channels)

    def halved() -> None:
        finished.halvings += 1

    finished.plan = plan_tiles(denoiser, rows)
    spec = replace(denoiser.inference, offset="keep")
    bands = denoise_bands(network, read, rows.height, rows.width, spec, tile=finished.plan.tile, on_halved=halved)
    first = 0
    for band in bands:
        step = max(1, _AT_ONCE // rows.width)
        for start in range(0, band.shape[2], step):
            # A copy: whoever holds the last part would keep the whole band alive.
            part = from_network(band[:, :, start : start + step].clone(), colours)
            if not np.isfinite(part).all():
                raise ValueError("the model returned NaN or infinite values")
            row = first + start
            yield row, window.area(row, row + len(part), 0, rows.width), part
        first += band.shape[2]
        del band


def _stored(noisy: Pixels, denoised: FloatImage, dtype: np.dtype[Any], strength: float) -> Pixels:
    """Denoised colours as they are stored, with the alpha of the noisy pixels: not ours to change."""
    colours = denoised.shape[2]
    stored = np.empty(noisy.shape, dtype)
    stored[..., :colours] = from_float(blend(to_float(noisy[..., :colours]), denoised, strength), dtype)
    stored[..., colours:] = in_depth(noisy[..., colours:], dtype)
    return stored


def _dtype(own: np.dtype[Any], options: OutputOptions) -> np.dtype[Any]:
    return own if options.bit_depth is None else np.dtype(BIT_DEPTHS[options.bit_depth])


def _colours(channels: int) -> int:
    return channels - 1 if channels in (2, 4) else channels
