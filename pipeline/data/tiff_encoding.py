"""TIFF written: deflated, with the metadata and in the byte order that the picture came with."""

from __future__ import annotations

import io
import struct
from typing import Any, Final

from pipeline.data.exif import Entry, attach_exif, byte_order, in_order
from pipeline.data.image_types import Metadata, Pixels
from pipeline.data.iptc import iptc_of
from pipeline.data.tiff import IPTC, PHOTOSHOP, RESOLUTION_TAGS, XMP

CLASSIC_LIMIT: Final = 2**32 - 2**20
"""Bytes beyond which a file has 64-bit offsets (BigTIFF)."""


def encode_tiff(pixels: Pixels, metadata: Metadata) -> bytes:
    """Encode (H, W, C) uint8, uint16 or float32 as a deflate-compressed TIFF with its metadata."""
    import tifffile

    file = io.BytesIO()
    order = byte_order(metadata.exif)
    tifffile.imwrite(
        file,
        plain(pixels),
        byteorder=order,
        bigtiff=pixels.nbytes > CLASSIC_LIMIT,
        **page_options(pixels, metadata, order),
    )
    data = file.getvalue()
    if metadata.exif:
        try:
            return attach_exif(data, metadata.exif)
        except ValueError:
            # A damaged Exif block, or a file beyond 4 GB, must not cost the user the picture.
            return data
    return data


def plain(pixels: Pixels) -> Pixels:
    """Return (H, W, C) as tifffile wants it: without the last axis if it is 1."""
    return pixels if pixels.shape[2] > 1 else pixels[..., 0]


def page_options(pixels: Pixels, metadata: Metadata, order: str) -> dict[str, Any]:
    """Return what tifffile is told about a page of (H, W, C) and its metadata, but for the Exif block."""
    own = [
        (tag, kind, count, in_order(Entry(kind, count, value), order), False)
        for tag, kind, count, value in metadata.tiff_tags
        if tag not in RESOLUTION_TAGS
    ]
    if metadata.photoshop:
        own.append((PHOTOSHOP, 1, len(metadata.photoshop), metadata.photoshop, False))
        iptc = iptc_of(metadata.photoshop)
        own += [(IPTC, 7, len(iptc), iptc, False)] if iptc else []
    resolution, unit = _stored_resolution(metadata.tiff_tags) or (metadata.dpi, 2 if metadata.dpi else None)
    return {
        "photometric": "rgb" if pixels.shape[2] >= 3 else "minisblack",
        "planarconfig": "contig" if pixels.shape[2] > 1 else None,
        "extrasamples": ["unassalpha"] if pixels.shape[2] in (2, 4) else None,
        "compression": "zlib",
        "predictor": True,
        "iccprofile": metadata.icc,
        "resolution": resolution,
        "resolutionunit": unit,
        "metadata": None,
        "software": False,
        "extratags": own + ([(XMP, 1, len(metadata.xmp), metadata.xmp, False)] if metadata.xmp else []),
    }


def _stored_resolution(
    tags: tuple[tuple[int, int, int, bytes], ...],
) -> tuple[tuple[tuple[int, int], tuple[int, int]], int] | None:
    """Return the rational numbers of a TIFF as they are, and their unit: of a microscope it is none that we know."""
    values = {tag: value for tag, kind, count, value in tags if (kind, count) == (3 if tag == 296 else 5, 1)}
    if 282 not in values or 283 not in values:
        return None
    across, down = (struct.unpack("<II", values[tag]) for tag in (282, 283))
    (unit,) = struct.unpack("<H", values.get(296, b"\2\0"))
    if 0 in (across[1], down[1]) or unit not in (1, 2, 3):
        return None
    return (across, down), unit
