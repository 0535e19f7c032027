"""A TIFF of many pages, written one page after another, so that no more than one is in memory."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.data.exif import (
    Entry,
    append_directories,
    in_order,
    main_entries,
    pack_directory,
    read_directory,
    sub_directories,
)
from pipeline.data.image_types import Metadata, Pages, Pixels
from pipeline.data.tiff_encoding import CLASSIC_LIMIT, page_options, plain

_SUB_DIRECTORIES = 1 << 12
"""Room for the tags of a page, beyond its pixels."""


class StackWriter:
    """Writes pages as they come, uncompressed if the stack that they are from was, else deflated.

    Args:
        path: where to; not atomically.
        pages: the stack that the pages are from.
        growth: bytes to write for each byte of ``pages``, to tell whether the file will need 64-bit offsets.
    """

    def __init__(self, path: Path, pages: Pages, growth: float = 1.0) -> None:
        import tifffile

        self._path = path
        self._order = pages.order
        self._compressed = pages.compressed
        self._big = pages.size * growth + pages.count * _SUB_DIRECTORIES > CLASSIC_LIMIT
        self._writer: Any = tifffile.TiffWriter(path, byteorder=pages.order, bigtiff=self._big)
        self._directories: list[dict[int, dict[int, Entry]]] = []

    def __enter__(self) -> StackWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        if kind is None and not self._big and any(self._directories):
            _attach(self._path, self._directories, self._order)

    def add(self, pixels: Pixels, metadata: Metadata) -> None:
        """Write one page: (H, W, C) uint8, uint16 or float32, of any size."""
        options = page_options(pixels, metadata, self._order)
        if not self._compressed:
            options |= {"compression": None, "predictor": None}
        described = main_entries(metadata.exif) if metadata.exif else {}
        options["extratags"] += [
            (tag, entry.kind, entry.items, in_order(entry, self._order), False) for tag, entry in described.items()
        ]
        self._writer.write(plain(pixels), contiguous=False, **options)
        self._directories.append(sub_directories(metadata.exif) if metadata.exif else {})


def _attach(path: Path, directories: list[dict[int, dict[int, Entry]]], order: str) -> None:
    """Give pages of a classic TIFF file their Exif directories: main directories that have one are written anew."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        end = len(data)
        pointer = 4
        (start,) = struct.unpack_from(order + "I", data, pointer)
        for found in directories:
            (count,) = struct.unpack_from(order + "H", data, start)
            following = start + 2 + 12 * count
            (after,) = struct.unpack_from(order + "I", data, following)
            if found:
                block, pointers = append_directories(b"\0" * (end % 2), found, at=end, order=order)
                start = end + len(block)
                entries = read_directory(data, following - 2 - 12 * count) | pointers
                block += pack_directory(entries, start, order=order, following=after)
                file.seek(end)
                file.write(block)
                file.seek(pointer)
                file.write(struct.pack(order + "I", start))
                end += len(block)
                following = start + 2 + 12 * len(entries)
            pointer, start = following, after
