"""Facts about a raw file that LibRaw does not hand on: maker, model, noise profile and black levels of its tags.

Most raw formats are TIFF structures. This reads their directories and nothing else, with bounds on everything that
a damaged or hostile file could inflate; a file that is no such structure has no tags, which is no error.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

MAX_DIRECTORIES: Final = 16
MAX_ENTRIES: Final = 1024
MAX_BYTES: Final = 4096
"""Of one value; black levels of 32x32 cells fit."""

MAX_PLACES: Final = 65536
"""Of one value that tells where the pixels lie; places of 16384 tiles fit."""

MAKE, MODEL, PHOTOMETRIC, COMPRESSION, WIDTH, LENGTH, SUB_IFDS = 271, 272, 262, 259, 256, 257, 330
_PLACES: Final = ((273, 279), (324, 325))
"""Offsets and byte counts, of strips and of tiles."""
EXIF, EXPOSURE_INDEX = 34665, 34866
DNG_VERSION, CFA_PLANE_COLOR, NOISE_PROFILE = 50706, 50710, 51041
BLACK_REPEAT, BLACK_LEVEL, BLACK_DELTA_H, BLACK_DELTA_V, ACTIVE_AREA = 50713, 50714, 50715, 50716, 50829
_WANTED: Final = frozenset(
    {MAKE, MODEL, PHOTOMETRIC, COMPRESSION, WIDTH, LENGTH, SUB_IFDS, EXIF, EXPOSURE_INDEX, ACTIVE_AREA, DNG_VERSION}
    | {CFA_PLANE_COLOR, NOISE_PROFILE, BLACK_REPEAT, BLACK_LEVEL, BLACK_DELTA_H, BLACK_DELTA_V}
    | {tag for pair in _PLACES for tag in pair}
)
_RAW_PHOTOMETRICS: Final = (32803, 34892)
_FORMATS: Final = {
    1: "B",
    2: "s",
    3: "H",
    4: "I",
    5: "II",
    6: "b",
    7: "B",
    8: "h",
    9: "i",
    10: "ii",
    11: "f",
    12: "d",
    13: "I",
}

Value = str | tuple[float, ...]
Directory = dict[int, Value]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tags:
    """What the tags say; empty or None where they say nothing usable."""

    make: str = ""
    """Maker of the camera."""

    model: str = ""
    """Model of the camera."""

    exposure_index: float | None = None
    """Recommended exposure index, which tells ISO speeds of 65535 and more."""

    noise_profile: tuple[tuple[float, float], ...] | None = None
    """(shot, read) of red, green and blue (DNG NoiseProfile)."""

    black_grid: tuple[tuple[float, ...], ...] | None = None
    """Black levels in a repeated pattern (DNG BlackLevel), from ``active_origin``; None if one holds for all."""

    end: int = 0
    """Bytes that the file must have for its compressed pixels (DNG); 0 if unknown."""

    active_origin: tuple[int, int] = (0, 0)
    """Row and column of the sensor at which the active area starts (DNG ActiveArea)."""


def read_tags(path: Path) -> Tags:
    """Read the tags of a raw file; whatever is damaged is left out.

    The file's own directories are followed up to ``MAX_DIRECTORIES``, with up to ``MAX_ENTRIES`` entries each and
    values of up to ``MAX_BYTES``: time and memory are bounded for any content.
    """
    try:
        with path.open("rb") as file:
            directories = _directories(file)
    except OSError:
        return Tags()
    if not directories:
        return Tags()
    first = directories[0]
    raw = max((d for d in directories if _number(d, PHOTOMETRIC) in _RAW_PHOTOMETRICS), key=_pixels, default=first)
    return Tags(
        make=_text(first, MAKE),
        model=_text(first, MODEL),
        exposure_index=max(_number(d, EXPOSURE_INDEX) or 0.0 for d in directories) or None,
        noise_profile=_noise_profile(raw, raw) or _noise_profile(first, raw),
        black_grid=_black_grid(raw) if DNG_VERSION in first else None,
        end=_end(raw) if DNG_VERSION in first else 0,
        active_origin=_active_origin(raw),
    )


def _directories(file: BinaryIO) -> list[Directory]:
    """The directories of a TIFF structure, chained ones before nested ones."""
    header = file.read(8)
    order = {b"II": "<", b"MM": ">"}.get(header[:2])
    if order is None or len(header) < 8:
        return []
    # The number after the byte order is 42 in TIFF and DNG, and others in ORF and RW2.
    waiting = [struct.unpack(order + "I", header[4:])[0]]
    found: list[Directory] = []
    seen: set[int] = set()
    while waiting and len(seen) < MAX_DIRECTORIES:
        offset = waiting.pop(0)
        if offset < 8 or offset in seen:
            continue
        seen.add(offset)
        directory, following = _directory(file, order, offset)
        if directory:
            found.append(directory)
            nested = _numbers(directory, SUB_IFDS) + _numbers(directory, EXIF)
            waiting = [following, *waiting, *(int(at) for at in nested if math.isfinite(at))]
    return found


def _directory(file: BinaryIO, order: str, offset: int) -> tuple[Directory, int]:
    file.seek(offset)
    start = file.read(2)
    count = struct.unpack(order + "H", start)[0] if len(start) == 2 else 0
    if not 0 < count <= MAX_ENTRIES:
        return {}, 0
    block = file.read(12 * count + 4)
    directory: Directory = {}
    for at in range(0, min(12 * count, len(block) - 11), 12):
        tag, kind, length = struct.unpack(order + "HHI", block[at : at + 8])
        if tag in _WANTED and tag not in directory:
            limit = MAX_PLACES if any(tag in pair for pair in _PLACES) else MAX_BYTES
            value = _value(file, order, kind, length, block[at + 8 : at + 12], limit)
            if value is not None:
                directory[tag] = value
    rest = block[12 * count :]
    return directory, struct.unpack(order + "I", rest)[0] if len(rest) == 4 else 0


def _value(file: BinaryIO, order: str, kind: int, length: int, inline: bytes, limit: int) -> Value | None:
    code = _FORMATS.get(kind)
    if code is None or not length:
        return None
    size = struct.calcsize("<" + code) * length
    if size > limit:
        return None
    data = inline[:size]
    if size > len(inline):
        file.seek(struct.unpack(order + "I", inline)[0])
        data = file.read(size)
    if len(data) < size:
        return None
    if code == "s":
        return data.split(b"\0")[0].decode("latin-1")
    numbers = struct.unpack(order + code * length, data)
    if len(code) == 2:
        return tuple(a / b if b else math.nan for a, b in zip(numbers[::2], numbers[1::2], strict=True))
    return numbers


def _noise_profile(directory: Directory, raw: Directory) -> tuple[tuple[float, float], ...] | None:
    """(shot, read) of red, green and blue; one pair holds for all."""
    values = _numbers(directory, NOISE_PROFILE)
    if len(values) not in (2, 6) or not all(map(math.isfinite, values)):
        return None
    pairs = tuple(zip(values[::2], values[1::2], strict=True))
    if not all(0 < shot <= 1 and 0 <= read <= 1 for shot, read in pairs):
        return None
    if len(pairs) == 1:
        return pairs * 3
    order = _numbers(raw, CFA_PLANE_COLOR) or (0, 1, 2)
    return tuple(pairs[order.index(color)] for color in (0, 1, 2)) if sorted(order) == [0, 1, 2] else None


def _black_grid(directory: Directory) -> tuple[tuple[float, ...], ...] | None:
    """Black levels in rows; None for a single one, several samples per pixel, or deltas that would change it."""
    sides = _numbers(directory, BLACK_REPEAT)
    levels = _numbers(directory, BLACK_LEVEL)
    if len(sides) != 2 or len(levels) < 2 or BLACK_DELTA_H in directory or BLACK_DELTA_V in directory:
        return None
    rows, columns = int(sides[0]), int(sides[1])
    if rows * columns != len(levels) or not all(0 <= level <= 65535 for level in levels):
        return None
    return tuple(levels[row * columns : (row + 1) * columns] for row in range(rows))


def _end(directory: Directory) -> int:
    """Where the last of the compressed strips or tiles ends. Counts of uncompressed ones are not always true."""
    if _number(directory, COMPRESSION) in (None, 1):
        return 0
    ends = [
        start + count
        for offsets, counts in _PLACES
        for start, count in zip(_numbers(directory, offsets), _numbers(directory, counts), strict=False)
    ]
    return int(max((end for end in ends if math.isfinite(end)), default=0))


def _active_origin(directory: Directory) -> tuple[int, int]:
    area = _numbers(directory, ACTIVE_AREA)
    if len(area) != 4 or not all(0 <= side <= 65535 for side in area):
        return 0, 0
    return int(area[0]), int(area[1])


def _numbers(directory: Directory, tag: int) -> tuple[float, ...]:
    value = directory.get(tag, ())
    return () if isinstance(value, str) else value


def _number(directory: Directory, tag: int) -> float | None:
    return next(iter(_numbers(directory, tag)), None)


def _pixels(directory: Directory) -> float:
    return (_number(directory, WIDTH) or 0) * (_number(directory, LENGTH) or 0)


def _text(directory: Directory, tag: int) -> str:
    value = directory.get(tag, "")
    return printable(value) if isinstance(value, str) else ""


def printable(text: str) -> str:
    """The text in one line of at most 64 characters, without any that would disturb a terminal."""
    kept: Sequence[str] = [letter if letter.isprintable() else " " for letter in text[:256]]
    return " ".join("".join(kept).split())[:64].strip()
