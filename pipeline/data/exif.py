"""Exif between JPEG, PNG and TIFF: copy directory entries as raw values, so that nothing is reinterpreted.

TIFF 6.0 (Adobe, 1992) section 2 and Exif 2.32 (CIPA DC-008) section 4.6. Only classic (32-bit) structures.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

EXIF_POINTER, GPS_POINTER, INTEROP_POINTER = 0x8769, 0x8825, 0xA005
_ORIENTATION = 274
DESCRIPTIVE_TAGS = (270, 271, 272, 274, 305, 306, 315, 33432)
"""Tags of the main directory that describe the picture (maker, model, orientation, date, author ...).

Everything else there describes the stored bytes and belongs to the file, not to the picture.
"""

_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_WORD_SIZES = {3: 2, 8: 2, 4: 4, 9: 4, 11: 4, 13: 4, 5: 4, 10: 4, 12: 8}
_MAX_ENTRIES = 4096
_MAX_BYTES = 2**25
"""Of all values of a directory: entries may share bytes, so that a small file could ask for its square."""


class Entry(NamedTuple):
    """One directory entry with its value as little-endian bytes."""

    kind: int
    items: int
    value: bytes


def read_directory(block: bytes, offset: int | None = None, *, tags: Collection[int] | None = None) -> dict[int, Entry]:
    r"""Read one directory of a TIFF structure.

    Args:
        block: starts with ``II*\0`` or ``MM\0*``.
        offset: where the directory starts; the main one if None.
        tags: the entries to read; all if None.

    Raises:
        ValueError: not a classic TIFF structure, a value lies outside of it, or the values take over 32 MiB.
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
                raise ValueError(f"tag {tag} points outside the structure")
            if order == ">":
                value = _swapped(value, _WORD_SIZES.get(kind, 1))
            entries[tag] = Entry(kind, count, value)
    except struct.error as error:
        raise ValueError(f"directory is cut off: {error}") from error
    return entries


def pack_directory(entries: dict[int, Entry], offset: int) -> bytes:
    """Serialise a little-endian directory that will start at byte ``offset`` (even) of its structure."""
    head, tail = struct.pack("<H", len(entries)), b""
    tail_start = offset + 2 + 12 * len(entries) + 4
    for tag in sorted(entries):
        kind, items, value = entries[tag]
        if len(value) <= 4:
            field = value.ljust(4, b"\0")
        else:
            field = struct.pack("<I", tail_start + len(tail))
            tail += value + b"\0" * (len(value) % 2)
        head += struct.pack("<HHI", tag, kind, items) + field
    return head + struct.pack("<I", 0) + tail


def exif_from_tiff(tiff: bytes, *, upright: bool = False) -> bytes | None:
    """Collect the descriptive tags, the Exif and the GPS directory of a TIFF file into an Exif block.

    Args:
        tiff: the file, or enough of it.
        upright: leave the orientation tag out, because the pixels were turned.

    Returns:
        A little-endian Exif block, or None if the file has none or is no classic TIFF.
    """
    try:
        entries, directories = _picture_entries(tiff)
    except ValueError:
        return None
    if upright:
        entries.pop(_ORIENTATION, None)
    if not entries and not directories:
        return None
    return _assemble(b"II*\0" + struct.pack("<I", 8), entries, directories)


def attach_exif(tiff: bytes, exif: bytes) -> bytes:
    """Return a little-endian classic TIFF file with the descriptive tags and directories of an Exif block.

    The pixels stay where they are; a new main directory is appended and the header points to it.

    Raises:
        ValueError: either structure is not a classic TIFF structure.
    """
    if tiff[:4] != b"II*\0":
        raise ValueError("expected a little-endian classic TIFF")
    entries, directories = _picture_entries(exif)
    return _assemble(tiff + b"\0" * (len(tiff) % 2), read_directory(tiff) | entries, directories)


def _picture_entries(block: bytes) -> tuple[dict[int, Entry], dict[int, dict[int, Entry]]]:
    main = read_directory(block, tags={*DESCRIPTIVE_TAGS, EXIF_POINTER, GPS_POINTER})
    directories = {}
    for pointer in (EXIF_POINTER, GPS_POINTER):
        if pointer in main and len(main[pointer].value) == 4:
            (offset,) = struct.unpack("<I", main[pointer].value)
            entries = read_directory(block, offset)
            entries.pop(INTEROP_POINTER, None)
            if entries:
                directories[pointer] = entries
    return {tag: main[tag] for tag in DESCRIPTIVE_TAGS if tag in main}, directories


def _assemble(base: bytes, entries: dict[int, Entry], directories: dict[int, dict[int, Entry]]) -> bytes:
    entries = dict(entries)
    block = base
    for pointer, directory in directories.items():
        entries[pointer] = Entry(4, 1, struct.pack("<I", len(block)))
        packed = pack_directory(directory, len(block))
        block += packed + b"\0" * (len(packed) % 2)
    start = len(block)
    block += pack_directory(entries, start)
    return block[:4] + struct.pack("<I", start) + block[8:]


def _swapped(value: bytes, word: int) -> bytes:
    return value if word == 1 else np.frombuffer(value, f"u{word}").byteswap().tobytes()
