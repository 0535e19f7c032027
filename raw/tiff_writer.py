"""The head of a TIFF file with one strip of pixels: little endian, one directory and an Exif directory."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from typing import Final, NamedTuple

BYTE, ASCII, SHORT, LONG, RATIONAL, SRATIONAL, DOUBLE = 1, 2, 3, 4, 5, 10, 12
_CODES: Final = {BYTE: "B", SHORT: "H", LONG: "I", RATIONAL: "II", SRATIONAL: "ii", DOUBLE: "d"}
_STRIP_OFFSETS: Final = 273
_EXIF: Final = 34665
_HEAD: Final = 8
_ALIGNMENT: Final = 16
_DENOMINATOR: Final = 1_000_000
"""Of fractions: six digits, and numerators of 32 bits up to 2147."""


class Field(NamedTuple):
    """One entry of a directory."""

    tag: int
    """Its number."""

    kind: int
    """Its TIFF type."""

    value: str | Sequence[float]
    """Text for ``ASCII``, numbers otherwise."""


def tiff_header(fields: Sequence[Field], *, exif: Sequence[Field], strip_bytes: int) -> bytes:
    """Everything before the pixels, which follow at once.

    Args:
        fields: of the image, without its strip offset, in any order.
        exif: of the Exif directory; may be empty.
        strip_bytes: length of the pixels.

    Raises:
        ValueError: a number does not fit its type, or file offsets of 32 bits do not reach.
    """
    main = [*fields, Field(_STRIP_OFFSETS, LONG, (0,)), *([Field(_EXIF, LONG, (0,))] if exif else [])]
    size = len(_directory(main, _HEAD))
    exif_at = _HEAD + size
    exif_block = _directory(exif, exif_at) if exif else b""
    pixels_at = -(-(exif_at + len(exif_block)) // _ALIGNMENT) * _ALIGNMENT
    if pixels_at + strip_bytes >= 2**32:
        raise ValueError(f"a TIFF file holds less than {2**32} bytes, got {strip_bytes} of pixels")
    places = {_STRIP_OFFSETS: pixels_at, _EXIF: exif_at}
    placed = [Field(tag, kind, (places[tag],)) if tag in places else Field(tag, kind, v) for tag, kind, v in main]
    head = struct.pack("<2sHI", b"II", 42, _HEAD) + _directory(placed, _HEAD) + exif_block
    return head.ljust(pixels_at, b"\0")


def _directory(fields: Sequence[Field], offset: int) -> bytes:
    """A directory at ``offset`` of the file, with the values that do not fit into its entries behind it."""
    entries = struct.pack("<H", len(fields))
    after = b""
    values_at = offset + 2 + 12 * len(fields) + 4
    for field in sorted(fields):
        data = _encoded(field)
        count = len(data) // struct.calcsize("<" + _CODES.get(field.kind, "B"))
        if len(data) > 4:
            place = struct.pack("<I", values_at + len(after))
            after += data + b"\0" * (len(data) % 2)  # values start at even places
        else:
            place = data.ljust(4, b"\0")
        entries += struct.pack("<HHI", field.tag, field.kind, count) + place
    return entries + struct.pack("<I", 0) + after


def _encoded(field: Field) -> bytes:
    if isinstance(field.value, str):
        return field.value.encode("ascii", "replace").replace(b"\0", b"") + b"\0"
    numbers: list[float] = []
    for value in field.value:
        if field.kind in (RATIONAL, SRATIONAL):
            fraction = Fraction(value).limit_denominator(_DENOMINATOR)
            numbers += [fraction.numerator, fraction.denominator]
        else:
            numbers.append(value if field.kind == DOUBLE else int(value))
    try:
        return struct.pack("<" + _CODES[field.kind] * len(field.value), *numbers)
    except struct.error as error:
        raise ValueError(f"tag {field.tag} does not hold {field.value}") from error
