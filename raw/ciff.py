"""Maker and model of a Canon CRW file, whose structure (CIFF) is not TIFF: nested heaps with a directory at the end."""

import struct
from pathlib import Path
from typing import BinaryIO, Final

from raw.dng_tags import printable

MAX_ENTRIES: Final = 256
MAX_BYTES: Final = 256
_CAMERA_HEAP: Final = frozenset({0x300A, 0x2807})
"""Image properties, and the camera object inside of it."""

_MAKE_AND_MODEL: Final = 0x080A


def read_make_model(path: Path) -> tuple[str, str]:
    """Maker and model in a CRW file; empty for other files and damaged ones. Time and memory are bounded."""
    try:
        with path.open("rb") as file:
            header = file.read(14)
            if header[:2] != b"II" or header[6:14] != b"HEAPCCDR":
                return "", ""
            end = file.seek(0, 2)
            text = _find(file, struct.unpack("<I", header[2:6])[0], end, depth=3)
    except OSError:
        return "", ""
    make, model = (*text.split(b"\0"), b"", b"")[:2]
    return printable(make.decode("latin-1")), printable(model.decode("latin-1"))


def _find(file: BinaryIO, start: int, end: int, depth: int) -> bytes:
    """The value of maker and model in the heap from ``start`` to ``end``; empty if it is not there."""
    if depth == 0 or end - start < 6:
        return b""
    file.seek(end - 4)
    directory = start + struct.unpack("<I", file.read(4))[0]
    if not start <= directory <= end - 6:
        return b""
    file.seek(directory)
    count = struct.unpack("<H", file.read(2))[0]
    block = file.read(10 * min(count, MAX_ENTRIES))
    for at in range(0, len(block) - 9, 10):
        kind, size, offset = struct.unpack("<HII", block[at : at + 10])
        place = start + offset
        if place + size > end:
            continue
        if kind == _MAKE_AND_MODEL:
            file.seek(place)
            return file.read(min(size, MAX_BYTES))
        if kind in _CAMERA_HEAP and (found := _find(file, place, place + size, depth - 1)):
            return found
    return b""
