"""JPEG written as its source was: the same quantisation, subsampling and side segments; or nearly lossless.

Segments are those of ISO/IEC 10918-1 annex B; Photoshop's are in "Photoshop File Formats" (Adobe), image resources.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from pipeline.data.image_types import JpegSettings, Metadata, Pixels

QUALITY: Final = 95
"""Of pictures that were no JPEG before."""

_EXIF_PREFIX = b"Exif\0\0"
_XMP_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
_APP1, _APP13, _COMMENT = 0xE1, 0xED, 0xFE
_START_OF_SCAN = 0xDA
_LONGEST = 65533


def encode_jpeg(pixels: Pixels, metadata: Metadata) -> bytes:
    """Encode (H, W, 1 or 3) uint8 with the settings of the JPEG it came from, else with quality 95 and 4:4:4."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    options: dict[str, Any] = {"quality": QUALITY, "subsampling": 0}
    settings = metadata.jpeg
    if settings is not None and (settings.colours == 1) == (pixels.shape[2] == 1):
        tables = [list(table) for table in settings.tables]
        options = {"qtables": tables, "subsampling": settings.subsampling, "progressive": settings.progressive}
    if metadata.exif:
        options["exif"] = _EXIF_PREFIX + metadata.exif
    if metadata.icc:
        options["icc_profile"] = metadata.icc
    if metadata.xmp:
        options["xmp"] = metadata.xmp
    if metadata.dpi and all(0.5 <= value < 65535.5 for value in metadata.dpi):
        options["dpi"] = tuple(round(value) for value in metadata.dpi)
    file = io.BytesIO()
    picture.save(file, "JPEG", **options)
    return _with_segments(file.getvalue(), metadata)


def jpeg_settings(picture: Any, data: bytes) -> JpegSettings | None:
    """Return how an opened JPEG is stored; None for one whose tables mean something else (RGB without YCbCr)."""
    from PIL.JpegImagePlugin import get_sampling

    if picture.mode not in ("L", "RGB") or (picture.mode == "RGB" and picture.info.get("adobe_transform", 1) == 0):
        return None
    tables = tuple(tuple(int(value) for value in table) for _, table in sorted(picture.quantization.items()))
    if not 1 <= len(tables) <= 4 or any(len(table) != 64 for table in tables):
        return None
    return JpegSettings(
        colours=1 if picture.mode == "L" else 3,
        tables=tables,
        # What has no name in Pillow (4:4:0, 4:1:1) is not subsampled.
        subsampling=max(get_sampling(picture), 0) if picture.mode == "RGB" else 0,
        progressive=bool(picture.info.get("progressive")),
        segments=tuple(
            (marker, body)
            for marker, body in _segments(data)
            if marker == _COMMENT or (marker == _APP1 and body.startswith(_XMP_EXTENSION))
        ),
    )


def photoshop_of_jpeg(data: bytes) -> bytes | None:
    """Return Photoshop's image resources, which hold the IPTC fields of a JPEG, or None."""
    parts = [
        body[len(_PHOTOSHOP) :] for marker, body in _segments(data) if marker == _APP13 and body.startswith(_PHOTOSHOP)
    ]
    return b"".join(parts) or None


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and body of the segments before the picture."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes are allowed
            at += 1
            continue
        if marker == _START_OF_SCAN:
            return
        (length,) = struct.unpack_from(">H", data, at + 2)
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + length


def _with_segments(data: bytes, metadata: Metadata) -> bytes:
    wanted = list(metadata.jpeg.segments) if metadata.jpeg else []
    if metadata.photoshop:
        room = _LONGEST - len(_PHOTOSHOP)
        parts = [metadata.photoshop[at : at + room] for at in range(0, len(metadata.photoshop), room)]
        wanted += [(_APP13, _PHOTOSHOP + part) for part in parts]
    if not wanted:
        return data
    # Behind the last of the application segments, which readers expect first.
    at = 2
    while data[at] == 0xFF and 0xE0 <= data[at + 1] <= 0xEF:
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    extra = b"".join(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body for marker, body in wanted)
    return data[:at] + extra + data[at:]
