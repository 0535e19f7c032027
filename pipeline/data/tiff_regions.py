"""Large TIFF files read and written some rows at a time: neither side ever holds the picture."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from pipeline.data.exif import attach_exif_to_file, byte_order
from pipeline.data.image_types import CodecError, ImageError, Metadata, Pixels
from pipeline.data.images import MAX_PIXELS
from pipeline.data.opening import opened, sniff
from pipeline.data.paths import shown
from pipeline.data.reasons import reason
from pipeline.data.replacing import replacing
from pipeline.data.rows import in_strips
from pipeline.data.tiff_encoding import CLASSIC_LIMIT, page_options
from pipeline.data.tiff_isolated import read_layout_isolated, read_rows_isolated, read_tiff_header_isolated

MAX_REGION_PIXELS: Final = 4_000_000_000
"""Limit of pictures that are read some rows at a time; above it a header is taken for a mistake or an attack."""

SMALLEST: Final = 8_000_000
"""Pixels from which on it is worth it: smaller pictures are read whole."""

_DTYPES: Final = {8: np.uint8, 16: np.uint16, 32: np.float32}
_STRIP_BYTES: Final = 2**18


class TiffRows:
    """The rows of a TIFF file, decoded in the child process."""

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            ImageError: the file is no TIFF that can be read so.
        """
        self._path = path
        try:
            layout = read_layout_isolated(path, MAX_REGION_PIXELS)
        except (CodecError, OSError) as error:
            raise ImageError(f"{shown(path)}: {reason(error, path)}") from error
        self.height, self.width, self.channels = layout.height, layout.width, layout.channels
        self.dtype: np.dtype[np.generic] = np.dtype(_DTYPES[layout.bits])
        self.step = layout.segment_rows
        self.metadata = Metadata(
            exif=layout.exif,
            icc=layout.icc,
            xmp=layout.xmp,
            dpi=layout.dpi,
            photoshop=layout.photoshop,
            tiff_tags=layout.tiff_tags,
        )

    def read(self, start: int, stop: int) -> Pixels:
        """Return the rows [start, stop), (stop - start, W, C).

        Raises:
            ImageError: damaged, or values that are not finite.
        """
        try:
            rows = read_rows_isolated(self._path, start, stop, MAX_REGION_PIXELS)
            if rows.shape[1:] != (self.width, self.channels) or rows.dtype != self.dtype:
                raise CodecError("expected the picture that the header told of, found another")
            if rows.dtype == np.float32 and not np.isfinite(rows).all():
                raise CodecError("expected finite values, found NaN or infinite ones")
        except (CodecError, OSError) as error:
            raise ImageError(f"{shown(self._path)}: {reason(error, self._path)}") from error
        return rows


def large_tiff(path: Path) -> TiffRows | None:
    """Return the rows of a large TIFF file; None for anything else, and for what has to be read whole.

    Raises:
        ImageError: a TIFF that is too large to be read whole, and cannot be read otherwise.
    """
    try:
        with opened(path) as file:
            # Many raw files have the signature of a TIFF.
            if sniff(path, file) != "tiff":
                return None
        rows = TiffRows(path)
    except (CodecError, ImageError, OSError):
        _refuse_too_large(path)
        return None
    size = rows.height * rows.width
    if rows.dtype.kind == "f":
        # How they are shown to a network follows from all of them.
        if size > MAX_PIXELS:
            raise ImageError(f"{shown(path)}: expected 8 or 16 bits above {MAX_PIXELS} pixels, found floats of {size}")
        return None
    return rows if size >= SMALLEST else None


def _refuse_too_large(path: Path) -> None:
    """Raise if reading the file whole would only say that it is too large; its own error is better otherwise."""
    try:
        header = read_tiff_header_isolated(path, MAX_REGION_PIXELS)
    except (CodecError, OSError):
        return
    if header.height * header.width > MAX_PIXELS:
        TiffRows(path)


def write_tiff_rows(path: Path, parts: Iterator[Pixels], shape: tuple[int, int, int], metadata: Metadata) -> None:
    """Write a TIFF from consecutive rows, atomically; the file is that of `pipeline.data.tiff_encoding.encode_tiff`.

    Args:
        path: where to; its folder exists.
        parts: uint8, uint16 or float32, (rows, W, C) each, together ``shape``.
        shape: (H, W, C) of the picture.
        metadata: Exif, ICC, XMP and resolution, as far as the format takes them.

    Raises:
        OSError: the folder is not writable, or the disk is full.
        ValueError: the parts are not of the shape told.
    """
    import tifffile

    height, width, channels = shape
    first = next(parts)
    dtype = first.dtype
    row_bytes = width * channels * dtype.itemsize
    rows = min(max(1, _STRIP_BYTES // row_bytes), height)

    def every() -> Iterator[Pixels]:
        yield first
        yield from parts

    order = byte_order(metadata.exif)
    encoded = (_encoded(strip, order) for strip in _counted(in_strips(every(), rows), shape))
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary,
            encoded,
            shape=shape if channels > 1 else shape[:2],
            dtype=dtype,
            rowsperstrip=rows,
            bigtiff=height * row_bytes > CLASSIC_LIMIT,
            byteorder=order,
            **page_options(first, metadata, order),
        )
        # Nothing is left, but whoever makes the parts has its last word when it is asked for more.
        if next(encoded, None) is not None:
            raise ValueError(f"expected {height} rows, found more")
        if metadata.exif:
            _with_exif(temporary, metadata.exif)


def _with_exif(path: Path, exif: bytes) -> None:
    """Replace a temporary file by one with an Exif block, which has to come first."""
    with replacing(path) as other:
        try:
            attach_exif_to_file(path, exif, other)
        except ValueError:
            # A damaged block, or a file beyond 4 GB, must not cost the user the picture.
            shutil.copyfile(path, other)


def _encoded(strip: Pixels, order: str) -> bytes:
    """A strip as tifffile compresses it: differences of neighbours, deflated."""
    import imagecodecs

    ordered = np.ascontiguousarray(strip, np.dtype(order + strip.dtype.str[1:]))
    encode = imagecodecs.floatpred_encode if strip.dtype.kind == "f" else imagecodecs.delta_encode
    return bytes(imagecodecs.deflate_encode(encode(ordered, axis=-2).tobytes()))


def _counted(strips: Iterator[Pixels], shape: tuple[int, int, int]) -> Iterator[Pixels]:
    count = 0
    for strip in strips:
        if strip.shape[1:] != shape[1:]:
            raise ValueError(f"expected rows of shape {shape[1:]}, found {strip.shape[1:]}")
        count += len(strip)
        yield strip
    if count != shape[0]:
        raise ValueError(f"expected {shape[0]} rows, found {count}")
