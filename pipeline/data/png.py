"""PNG with 8 and 16 bits: pixels through libpng, metadata chunk by chunk (W3C PNG, third edition)."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pipeline.data.image_types import CodecError, Header, Metadata, Pixels, check_bytes, check_pixels

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT_CHUNKS = (b"sRGB", b"gAMA", b"cHRM", b"cICP", b"mDCV", b"cLLI", b"tEXt", b"zTXt", b"iTXt", b"tIME")
_XMP_PREFIX = b"XML:com.adobe.xmp\0\0\0\0\0"
_MAX_PROFILE = 32 * 2**20
_INCH = 0.0254
_DEFLATE_RATIO = 1032
_COLOUR_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}


class _PngInfo(NamedTuple):
    header: Header
    metadata: Metadata
    animated: bool
    row_bytes: int


def read_png_header(data: bytes) -> Header:
    """Read size and depth from the first chunks; ``data`` may be only the start of the file."""
    return _info(data).header


def decode_png(data: bytes, max_pixels: int) -> tuple[Pixels, Metadata]:
    """Decode a PNG into (H, W, C) uint8 or uint16; palettes become RGB, 1 to 4 bit grey becomes 8 bit.

    Raises:
        CodecError: too large or animated. libpng's own errors (cut off, bad checksum) pass through.
    """
    import imagecodecs

    info = _info(data)
    height, width = info.header.height, info.header.width
    check_pixels(height, width, max_pixels)
    check_bytes(height, width, len(data), height * info.row_bytes / _DEFLATE_RATIO)
    if info.animated:
        raise CodecError("expected one picture, found an animated PNG")
    # What libpng thinks of chunks that the pixels do not depend on is logged there, and no matter for a user.
    logging.getLogger("imagecodecs").setLevel(logging.CRITICAL)
    pixels = np.asarray(imagecodecs.png_decode(data))
    return pixels.reshape(*pixels.shape[:2], -1), info.metadata


def encode_png(pixels: Pixels, metadata: Metadata) -> bytes:
    """Encode (H, W, C) uint8 or uint16 as PNG with its metadata."""
    import imagecodecs

    squeezed = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    encoded = bytes(imagecodecs.png_encode(np.ascontiguousarray(squeezed), level=6))
    split = len(SIGNATURE) + 25  # signature and IHDR
    return encoded[:split] + b"".join(_metadata_chunks(metadata)) + encoded[split:]


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def _info(data: bytes) -> _PngInfo:
    chunks = _chunks(data)
    kind, body = next(chunks, (b"", b""))
    if kind != b"IHDR" or len(body) != 13:
        raise CodecError("expected a PNG header, found a damaged one")
    width, height, depth, colour = struct.unpack(">IIBB", body[:10])
    if colour not in _COLOUR_CHANNELS:
        raise CodecError(f"expected a PNG colour type, found {colour}")
    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    kept: list[tuple[bytes, bytes]] = []
    channels, animated, profiled = _COLOUR_CHANNELS[colour], False, False
    for kind, body in chunks:
        if kind == b"eXIf":
            exif = body
        elif kind == b"iCCP" and not profiled:
            # One is allowed; each of ten thousand could be inflated a thousandfold.
            profiled, icc = True, _profile(body)
        elif kind == b"iTXt" and body.startswith(_XMP_PREFIX):
            xmp = body[len(_XMP_PREFIX) :]
        elif kind == b"pHYs" and len(body) == 9:
            across, down, unit = struct.unpack(">IIB", body)
            dpi = (across * _INCH, down * _INCH) if unit == 1 else None
        elif kind == b"tRNS":
            channels += 1
        elif kind == b"acTL":
            animated = True
        elif kind in _KEPT_CHUNKS:
            kept.append((kind, body))
    metadata = Metadata(exif=exif, icc=icc, xmp=xmp, dpi=dpi, png_chunks=tuple(kept))
    bits = 16 if depth == 16 else 8
    header = Header(height=height, width=width, channels=channels, bits=bits, format="png")
    return _PngInfo(
        header, metadata, animated, row_bytes=1 + width * (1 if colour == 3 else _COLOUR_CHANNELS[colour]) * depth // 8
    )


def _profile(body: bytes) -> bytes | None:
    _, _, compressed = body.partition(b"\0")
    try:
        inflater = zlib.decompressobj()
        profile = inflater.decompress(compressed[1:], _MAX_PROFILE)
    except zlib.error:
        return None
    # A profile that does not end within the limit is damaged or hostile; the pixels do not depend on it.
    return profile if inflater.eof else None


def _metadata_chunks(metadata: Metadata) -> Iterator[bytes]:
    kept = list(metadata.png_chunks)
    if metadata.icc:
        # sRGB and iCCP exclude each other.
        kept = [(kind, body) for kind, body in kept if kind != b"sRGB"]
        yield _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc, 9))
    if metadata.dpi:
        across, down = (round(value / _INCH) for value in metadata.dpi)
        yield _chunk(b"pHYs", struct.pack(">IIB", across, down, 1))
    if metadata.exif:
        yield _chunk(b"eXIf", metadata.exif)
    if metadata.xmp:
        yield _chunk(b"iTXt", _XMP_PREFIX + metadata.xmp)
    for kind, body in kept:
        yield _chunk(kind, body)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
