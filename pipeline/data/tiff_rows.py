"""Some rows of a TIFF picture at a time: the decoder's side, for pictures that should never lie in memory whole."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pipeline.data.image_types import CodecError, Header, Pixels, check_pixels
from pipeline.data.tiff import as_pixels, check_segments, find_picture, page_header, read_metadata

MAX_SEGMENT_BYTES = 2**28
"""Of a row of strips or tiles, decoded: what has to be in memory at once."""

_JPEG = (6, 7, 34892, 33007)


@dataclass(frozen=True, kw_only=True, slots=True)
class TiffLayout:
    """Size, depth and metadata of a TIFF picture, and how many rows are stored together."""

    height: int
    width: int
    channels: int
    bits: int
    segment_rows: int
    """Rows of a strip or tile: reading fewer costs as much."""
    exif: bytes | None
    icc: bytes | None
    xmp: bytes | None
    dpi: tuple[float, float] | None
    photoshop: bytes | None
    tiff_tags: tuple[tuple[int, int, int, bytes], ...]


def read_layout(path: Path, max_pixels: int) -> TiffLayout:
    """Read what a file holds and how, without decoding a pixel.

    Raises:
        CodecError: no TIFF that we read, larger than ``max_pixels``, or stored in pieces so large that reading some
            rows would take as much memory as reading all.
    """
    with _opened(path, max_pixels) as (file, page, header):
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            metadata = read_metadata(page, data)
        return TiffLayout(
            height=header.height,
            width=header.width,
            channels=header.channels,
            bits=header.bits,
            segment_rows=_segment_rows(page),
            exif=metadata.exif,
            icc=metadata.icc,
            xmp=metadata.xmp,
            dpi=metadata.dpi,
            photoshop=metadata.photoshop,
            tiff_tags=metadata.tiff_tags,
        )


def read_rows(path: Path, start: int, stop: int, max_pixels: int, allow: Callable[[int], None]) -> Pixels:
    """Decode the rows [start, stop) as `pipeline.data.tiff.decode_tiff` would.

    Args:
        path: the file.
        start: first row.
        stop: row after the last one.
        max_pixels: of the whole picture.
        allow: called with the bytes of the rows, and of the strips that they cut, before they are decoded.

    Raises:
        CodecError: as for `read_layout`.
    """
    with _opened(path, max_pixels) as (_, page, header):
        rows = stop - start + 2 * _segment_rows(page)
        allow(rows * header.width * header.channels * header.bits // 8)
        if not 0 <= start < stop <= header.height:
            raise CodecError(f"expected rows of 0 to {header.height}, found {start} to {stop}")
        samples = _stored(page, start, stop) if _is_plain(page) else _decoded(page, start, stop)
        return as_pixels(page, samples)


@contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[tuple[BinaryIO, Any, Header]]:
    """Yield the file, the page of its picture and the header, of what can be read some rows at a time."""
    import tifffile

    with path.open("rb") as file, tifffile.TiffFile(file) as tiff:
        page = find_picture(tiff)
        header = page_header(page)
        check_pixels(header.height, header.width, max_pixels)
        check_segments(page, path.stat().st_size)
        rows = _segment_rows(page)
        needed = rows * page.imagewidth * page.samplesperpixel * page.dtype.itemsize
        if needed > MAX_SEGMENT_BYTES:
            raise CodecError(
                f"expected strips or tiles that can be read one by one, found some of {rows} rows; "
                "save it with smaller ones, or uncompressed"
            )
        yield file, page, header


def _is_plain(page: Any) -> bool:
    """Whether any row can be found in the file by its number."""
    return bool(
        page.compression == 1
        and page.is_contiguous
        and page.predictor == 1
        and page.fillorder == 1
        and page.dtype.kind in "uf"
        and page.bitspersample == 8 * page.dtype.itemsize
    )


def _segment_rows(page: Any) -> int:
    if _is_plain(page):
        return 1
    return int(page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength))


def _stored(page: Any, start: int, stop: int) -> Pixels:
    """Rows of a picture whose samples lie one after another."""
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    together = page.samplesperpixel // planes
    dtype = np.dtype(page.parent.byteorder + page.dtype.char)
    row = page.imagewidth * together * dtype.itemsize
    parts = []
    for plane in range(planes):
        page.parent.filehandle.seek(page.dataoffsets[0] + (plane * page.imagelength + start) * row)
        data = page.parent.filehandle.read((stop - start) * row)
        if len(data) != (stop - start) * row:
            raise CodecError("expected a whole image, found a file that is cut off")
        parts.append(np.frombuffer(data, dtype).reshape(stop - start, page.imagewidth, together))
    joined = parts[0] if planes == 1 else np.concatenate(parts, axis=2)
    return joined.astype(page.dtype, copy=False)


def _decoded(page: Any, start: int, stop: int) -> Pixels:
    """Rows of a picture in strips or tiles."""
    rows = _segment_rows(page)
    down = math.ceil(page.imagelength / rows)
    across = math.ceil(page.imagewidth / page.tilewidth) if page.is_tiled else 1
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    wanted = [
        (plane * down + row) * across + column
        for plane in range(planes)
        for row in range(start // rows, math.ceil(stop / rows))
        for column in range(across)
    ]
    tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader} if page.compression in _JPEG else {}
    samples = np.zeros((stop - start, page.imagewidth, page.samplesperpixel), page.dtype)
    segments = page.parent.filehandle.read_segments(
        [page.dataoffsets[index] for index in wanted], [page.databytecounts[index] for index in wanted], wanted
    )
    for data, index in segments:
        segment, (plane, _, top, left, _), _ = page.decode(data, index, **tables)
        if segment is None:
            raise CodecError("expected a whole image, found strips or tiles without data")
        first, last = max(top, start), min(top + segment.shape[1], stop)
        piece = segment[0, first - top : last - top, : page.imagewidth - left]
        where = samples[first - start : last - start, left : left + piece.shape[1]]
        if planes > 1:
            where[..., plane] = piece[..., 0]
        else:
            where[...] = piece
    return samples
