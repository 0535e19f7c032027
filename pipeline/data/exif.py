"""Exif between JPEG, PNG and TIFF: copy directory entries as raw values, so that nothing is reinterpreted.

TIFF 6.0 (Adobe, 1992) section 2 and Exif 2.32 (CIPA DC-008) section 4.6. Only classic (32-bit) structures.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Collection
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import NamedTuple

import numpy as np

Buffer = bytes | mmap
"""A TIFF structure, in memory or on disk."""

EXIF_POINTER, GPS_POINTER, INTEROP_POINTER = 0x8769, 0x8825, 0xA005
_ORIENTATION, _STRIPS, _TILES = 274, 273, 324
_XP_TAGS = (40091, 40092, 40093, 40094, 40095)
DESCRIPTIVE_TAGS = (270, 271, 272, 274, 305, 306, 315, 316, 18246, 18249, 33432, *_XP_TAGS)
"""Tags of the main directory that describe the picture (maker, model, orientation, date, author, rating ...).

Everything else there describes the stored bytes and belongs to the file, not to the picture.
"""

_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_WORD_SIZES = {3: 2, 8: 2, 4: 4, 9: 4, 11: 4, 13: 4, 5: 4, 10: 4, 12: 8}
_MAX_ENTRIES = 4096
_CLASSIC_BYTES = 2**32 - 1
_MAX_BYTES = 2**25
"""Of all values of a directory: entries may share bytes, so that a small file could ask for its square."""


class Entry(NamedTuple):
    """One directory entry with its value as little-endian bytes."""

    kind: int
    items: int
    value: bytes


def read_directory(
    block: Buffer, offset: int | None = None, *, tags: Collection[int] | None = None
) -> dict[int, Entry]:
    r"""Read one directory of a TIFF structure.

    Args:
        block: starts with ``II*\0`` or ``MM\0*``.
        offset: where the directory starts; the main one if None.
        tags: the entries to read; all if None.

    Returns:
        The entries by tag, without those that point outside of the structure.

    Raises:
        ValueError: not a classic TIFF structure, the directory lies outside of it, or the values take over 32 MiB.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        raise ValueError("not a classic TIFF structure")
    entries: dict[int, Entry] = {}
    room = _MAX_BYTES
    try:
        start: int = struct.unpack_from(order + "I", block, 4)[0] if offset is None else offset
        (length,) = struct.unpack_from(order + "H", block, start)
        for index in range(min(length, _MAX_ENTRIES)):
            at = start + 2 + 12 * index
            tag, kind, count = struct.unpack_from(order + "HHI", block, at)
            size = _TYPE_SIZES.get(kind, 0) * count
            if size == 0 or (tags is not None and tag not in tags):
                continue
            room -= size
            if room < 0:
                raise ValueError("the values are too large")
            place = at + 8 if size <= 4 else struct.unpack_from(order + "I", block, at + 8)[0]
            value = block[place : place + size]
            if len(value) != size:
                continue
            if order == ">":
                value = _swapped(value, _WORD_SIZES.get(kind, 1))
            entries[tag] = Entry(kind, count, value)
    except struct.error as error:
        raise ValueError(f"directory is cut off: {error}") from error
    return entries


def pack_directory(entries: dict[int, Entry], offset: int, *, order: str = "<", following: int = 0) -> bytes:
    """Serialise a directory.

    Args:
        entries: by tag.
        offset: byte of the structure, even, where it will start.
        order: ``<`` or ``>``, the byte order of the structure.
        following: offset of the next main directory; 0 for none.
    """
    head, tail = struct.pack(order + "H", len(entries)), b""
    tail_start = offset + 2 + 12 * len(entries) + 4
    for tag in sorted(entries):
        kind, items, _ = entries[tag]
        value = in_order(entries[tag], order)
        if len(value) <= 4:
            field = value.ljust(4, b"\0")
        else:
            field = struct.pack(order + "I", tail_start + len(tail))
            tail += value + b"\0" * (len(value) % 2)
        head += struct.pack(order + "HHI", tag, kind, items) + field
    return head + struct.pack(order + "I", following) + tail


def exif_from_tiff(tiff: Buffer, *, offset: int | None = None, upright: bool = False) -> bytes | None:
    """Collect the descriptive tags, the Exif and the GPS directory of a TIFF file into an Exif block.

    Args:
        tiff: the file, or enough of it.
        offset: where the page's directory starts; the first one if None.
        upright: leave the orientation tag out, because the pixels were turned.

    Returns:
        An Exif block in the byte order of the file, or None if the file has none or is no classic TIFF.
    """
    try:
        entries, directories = _picture_entries(tiff, offset)
    except ValueError:
        return None
    if upright:
        entries.pop(_ORIENTATION, None)
    if not entries and not directories:
        return None
    order = byte_order(tiff)
    block = tiff[:4] + bytes(4)
    block, pointers = append_directories(block, directories, order=order)
    start = len(block)
    return (
        block[:4] + struct.pack(order + "I", start) + block[8:] + pack_directory(entries | pointers, start, order=order)
    )


def byte_order(block: Buffer | None) -> str:
    """Return ``>`` for a big-endian TIFF structure, else ``<``."""
    return ">" if block is not None and block[:2] == b"MM" else "<"


def in_order(entry: Entry, order: str) -> bytes:
    """Return the bytes of an entry's value in a byte order."""
    return _swapped(entry.value, _WORD_SIZES.get(entry.kind, 1)) if order == ">" else entry.value


def append_directories(
    block: bytes, directories: dict[int, dict[int, Entry]], at: int = 0, *, order: str = "<"
) -> tuple[bytes, dict[int, Entry]]:
    """Append the directories of `sub_directories` to a structure.

    Args:
        block: of even length.
        directories: by pointer.
        at: where ``block`` lies in the structure, even.
        order: byte order of the structure.

    Returns:
        The longer block, and the entries for a main directory that point to what was appended.
    """
    directories = dict(directories)
    interoperability = directories.pop(INTEROP_POINTER, None)
    if interoperability and EXIF_POINTER in directories:
        pointer = Entry(4, 1, struct.pack("<I", at + len(block)))
        block = _appended(block, interoperability, at, order)
        directories[EXIF_POINTER] = directories[EXIF_POINTER] | {INTEROP_POINTER: pointer}
    pointers = {}
    for tag, directory in directories.items():
        pointers[tag] = Entry(4, 1, struct.pack("<I", at + len(block)))
        block = _appended(block, directory, at, order)
    return block, pointers


def attach_exif(tiff: bytes, exif: bytes) -> bytes:
    """Return a classic TIFF file with the descriptive tags and directories of an Exif block.

    The block comes first, byte for byte where it was, and the pixels after it: the maker note of a camera counts from
    the start of the structure, and nobody but the maker knows where. A new main directory is appended.

    Args:
        tiff: with one page.
        exif: a block in the byte order of ``tiff``.

    Raises:
        ValueError: either structure is not a classic TIFF structure, or their byte orders differ.
    """
    before, after = _around(tiff, exif)
    return before + tiff[8:] + after


def attach_exif_to_file(source: Path, exif: bytes, target: Path) -> None:
    """Do what `attach_exif` does with a file that need not fit into memory.

    Args:
        source: with one page.
        exif: a block in its byte order.
        target: written.

    Raises:
        ValueError: as in `attach_exif`, or the file would be beyond 4 GB.
    """
    with source.open("rb") as file:
        with mmap(file.fileno(), 0, access=ACCESS_READ) as tiff:
            before, after = _around(tiff, exif)
            if len(before) + len(tiff) + len(after) > _CLASSIC_BYTES:
                raise ValueError("expected a file that a classic TIFF can hold")
        file.seek(8)
        with target.open("wb") as output:
            output.write(before)
            shutil.copyfileobj(file, output, 2**20)
            output.write(after)


def _around(tiff: Buffer, exif: bytes) -> tuple[bytes, bytes]:
    """What `attach_exif` puts before and behind ``tiff[8:]``."""
    if tiff[:4] != exif[:4]:
        raise ValueError("expected an Exif block in the byte order of the file")
    order = byte_order(tiff)
    described, directories = _picture_entries(exif)
    main = read_directory(exif, tags=(EXIF_POINTER, GPS_POINTER))
    exif += b"\0" * (len(exif) % 2)
    moved = {}
    for tag, entry in read_directory(tiff).items():
        if tag in (_STRIPS, _TILES):
            places = np.frombuffer(entry.value, "<u4" if entry.kind == 4 else "<u2").astype("<u4") + len(exif) - 8
            entry = Entry(4, entry.items, places.tobytes())
        moved[tag] = entry
    length = len(exif) + len(tiff) - 8
    start = length + length % 2
    if start > _CLASSIC_BYTES:
        raise ValueError("expected a file that a classic TIFF can hold")
    entries = moved | described | {pointer: main[pointer] for pointer in main if pointer in directories}
    after = b"\0" * (length % 2) + pack_directory(entries, start, order=order)
    return exif[:4] + struct.pack(order + "I", start) + exif[8:], after


def main_entries(exif: bytes) -> dict[int, Entry]:
    """Return the descriptive tags of an Exif block; none of a damaged one."""
    try:
        return _picture_entries(exif)[0]
    except ValueError:
        return {}


def sub_directories(exif: bytes) -> dict[int, dict[int, Entry]]:
    """Return the Exif, GPS and interoperability directories of an Exif block by their pointers, if it is whole."""
    try:
        return _picture_entries(exif)[1]
    except ValueError:
        return {}


def _picture_entries(block: Buffer, offset: int | None = None) -> tuple[dict[int, Entry], dict[int, dict[int, Entry]]]:
    main = read_directory(block, offset, tags={*DESCRIPTIVE_TAGS, EXIF_POINTER, GPS_POINTER})
    exif, gps = (_pointed_to(block, main.get(pointer)) for pointer in (EXIF_POINTER, GPS_POINTER))
    interoperability = _pointed_to(block, exif.pop(INTEROP_POINTER, None))
    found = {EXIF_POINTER: exif, GPS_POINTER: gps, INTEROP_POINTER: interoperability}
    directories = {pointer: entries for pointer, entries in found.items() if entries}
    return {tag: main[tag] for tag in DESCRIPTIVE_TAGS if tag in main}, directories


def _pointed_to(block: Buffer, pointer: Entry | None) -> dict[int, Entry]:
    """Return the entries of a sub-directory; none of a damaged one, which must not cost the others."""
    if pointer is None or len(pointer.value) != 4:
        return {}
    try:
        return read_directory(block, struct.unpack("<I", pointer.value)[0])
    except ValueError:
        return {}


def _appended(block: bytes, directory: dict[int, Entry], at: int, order: str) -> bytes:
    packed = pack_directory(directory, at + len(block), order=order)
    return block + packed + b"\0" * (len(packed) % 2)


def _swapped(value: bytes, word: int) -> bytes:
    return value if word == 1 else np.frombuffer(value, f"u{word}").byteswap().tobytes()
