"""TIFF with 8, 16 or 32-bit float samples: a picture, or the pages of a stack."""

from __future__ import annotations

import io
import math
import re
from typing import Any, Final

import numpy as np

from pipeline.data.exif import Buffer, byte_order, exif_from_tiff, in_order, read_directory
from pipeline.data.image_types import CodecError, Header, Metadata, Pages, Pixels, check_bytes, check_pixels
from pipeline.data.iptc import resource_of

_REDUCED, _MASK = 1, 4
_MINISWHITE, _GREY, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_READABLE = {_MINISWHITE: 1, _GREY: 1, _RGB: 3, _PALETTE: 3, _YCBCR: 3}
_KINDS = {"u1": 8, "u2": 16, "f2": 32, "f4": 32, "f8": 32, "b1": 8}
XMP, _ICC = 700, 34675
IPTC, PHOTOSHOP = 33723, 34377
_MAX_DIRECTORIES = 100_000
_IMAGEJ_PAGES = re.compile(r"^ImageJ=.*?^images=(\d{1,9})$", re.MULTILINE | re.DOTALL)

RESOLUTION_TAGS: Final = (282, 283, 296)
_OWN_TAGS: Final = (
    269,  # name of the document
    285,  # name of the page
    286,  # position
    287,
    297,  # number of the page
    34118,  # Zeiss SEM
    34680,  # FEI
    34682,
    50838,  # ImageJ
    50839,
    51023,  # Micro-Manager
    51123,
)
"""Tags that travel from TIFF to TIFF as they are: they describe the picture, and nothing in them is a place in the
file."""

_RATIOS = {1: 1, 5: 2560, 7: 3072, 8: 1032, 32773: 64, 32946: 1032}
"""How many bytes a byte of the file can become: uncompressed, LZW, JPEG, deflate, PackBits; unknown of others."""


def read_tiff_header(file: Any) -> Header:
    """Read the first picture's size and depth from an open binary file."""
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        return page_header(find_picture(tiff))


def read_pages(file: Any, max_pixels: int) -> Pages:
    """Count the pages of an open binary file.

    Raises:
        CodecError: as in `picture_pages`, or a page is no picture that we read.
    """
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        pages, left_out = picture_pages(tiff)
        if not pages:
            raise CodecError("expected a picture, found none in the file")
        size, floats, needed = 0, False, 0.0
        for number, page in enumerate(pages, start=1):
            try:
                header = page_header(page)
                check_pixels(header.height, header.width, max_pixels)
            except CodecError as error:
                raise CodecError(f"page {number}: {error}" if len(pages) > 1 else str(error)) from None
            size += header.height * header.width * header.channels * header.bits // 8
            floats = floats or header.bits == 32
            # Pages may share their bytes, so that each one for itself is plausible.
            samples = header.height * header.width * page.samplesperpixel
            needed += samples * page.bitspersample / 8 / _RATIOS.get(int(page.compression), math.inf)
        if needed > file.seek(0, 2) + 64 * len(pages):
            raise CodecError(f"expected {len(pages)} whole pages, found {file.tell()} bytes for them")
        return Pages(
            count=len(pages),
            left_out=left_out,
            compressed=int(pages[0].compression) != 1,
            floats=floats,
            order=tiff.byteorder,
            size=size,
        )


def decode_tiff(data: bytes, max_pixels: int) -> tuple[Pixels, Metadata]:
    """Decode the picture of a TIFF file into (H, W, C) uint8, uint16 or float32.

    Palettes become RGB, min-is-white is inverted, 16 and 64-bit floats become 32-bit. Reduced copies and
    transparency masks beside the picture are ignored.

    Raises:
        CodecError: too large, several pictures, or a kind of sample that a photograph does not have.
    """
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        return decode_page(find_picture(tiff), data, max_pixels)


def decode_page(page: Any, data: Buffer, max_pixels: int) -> tuple[Pixels, Metadata]:
    """Decode one page; see `decode_tiff`.

    Args:
        page: of tifffile.
        data: the file that it is in.
        max_pixels: of the page.
    """
    header = page_header(page)
    check_pixels(header.height, header.width, max_pixels)
    check_segments(page, len(data))
    samples = np.asarray(page.asarray())
    if page.planarconfig == 2 and page.samplesperpixel > 1:
        samples = np.moveaxis(samples, 0, -1)
    return as_pixels(page, samples.reshape(header.height, header.width, -1)), read_metadata(page, data)


def as_pixels(page: Any, samples: Pixels) -> Pixels:
    """Turn the stored samples (H, W, S) of a page, or some of its rows, into (H, W, C) uint8, uint16 or float32."""
    if page.photometric == _PALETTE:
        samples = _expand_palette(samples[..., 0], np.asarray(page.colormap))
    if page.photometric == _MINISWHITE:
        samples = _inverted(samples)
    if samples.dtype == np.bool_:
        samples = samples.astype(np.uint8) * 255
    if samples.dtype.kind == "f":
        samples = samples.astype(np.float32, copy=False)
    return np.ascontiguousarray(samples)


def read_metadata(page: Any, data: Buffer) -> Metadata:
    """Collect what stands beside the pixels of a page of the file ``data``."""
    icc = page.tags.get(_ICC)
    xmp = page.tags.get(XMP)
    return Metadata(
        exif=exif_from_tiff(data, offset=page.offset),
        icc=bytes(icc.value) if icc else None,
        xmp=bytes(xmp.value) if xmp else None,
        dpi=_resolution(page),
        photoshop=_photoshop(data, page.offset),
        tiff_tags=_own_tags(data, page.offset),
    )


def picture_pages(tiff: Any) -> tuple[list[Any], int]:
    """Return the pages that are pictures, and the number of those that are not: reduced copies and masks.

    Raises:
        CodecError: the list has no end, or does not have the pages that ImageJ says it has.
    """
    pages: list[Any] = []
    seen: set[int] = set()
    # The directories are a linked list, which may lead back into itself.
    for page in tiff.pages:
        if page.offset in seen or len(seen) >= _MAX_DIRECTORIES:
            raise CodecError("expected a list of pictures, found one without an end")
        seen.add(page.offset)
        if not int(getattr(page, "subfiletype", 0)) & (_REDUCED | _MASK):
            pages.append(page)
    told = _IMAGEJ_PAGES.match(str(getattr(pages[0], "description", ""))) if pages else None
    if told and len(pages) == 1 < int(told[1]):
        raise CodecError(f"expected {told[1]} pages as ImageJ says, found a directory for one; save it as BigTIFF")
    return pages, len(seen) - len(pages)


def find_picture(tiff: Any) -> Any:
    """Return the one page that is a picture; raises CodecError if there are several, or none."""
    pages, _ = picture_pages(tiff)
    if len(pages) != 1:
        raise CodecError(f"expected one picture, found a TIFF with {len(pages)}; split it first")
    return pages[0]


def _photoshop(data: Buffer, offset: int) -> bytes | None:
    try:
        entries = read_directory(data, offset, tags=(IPTC, PHOTOSHOP))
    except ValueError:
        return None
    if PHOTOSHOP in entries:
        return entries[PHOTOSHOP].value
    if IPTC not in entries:
        return None
    # Some writers store the bytes as 32-bit numbers in the file's order.
    return resource_of(in_order(entries[IPTC], byte_order(data)))


def _own_tags(data: Buffer, offset: int) -> tuple[tuple[int, int, int, bytes], ...]:
    try:
        entries = read_directory(data, offset, tags=(*_OWN_TAGS, *RESOLUTION_TAGS))
    except ValueError:
        return ()
    return tuple((tag, entry.kind, entry.items, entry.value) for tag, entry in sorted(entries.items()))


def page_header(page: Any) -> Header:
    """Return size and depth of a page.

    Raises:
        CodecError: a kind of sample that a photograph does not have.
    """
    numbers = (page.imagelength, page.imagewidth, page.samplesperpixel, page.bitspersample, page.imagedepth)
    if not all(isinstance(number, int) for number in (*numbers, page.photometric, page.compression)):
        raise CodecError("expected whole numbers in the header, found others")
    colours = _READABLE.get(int(page.photometric))
    if colours is None:
        name = getattr(page.photometric, "name", page.photometric)
        raise CodecError(f"expected grey or RGB samples, found {name}; convert it first")
    kind = f"{page.dtype.kind}{page.dtype.itemsize}" if page.dtype is not None else "nothing"
    bits = page.bitspersample
    if kind not in _KINDS or (kind[0] == "u" and page.photometric != _PALETTE and bits != 8 * int(kind[1])):
        raise CodecError(f"expected 8 or 16-bit or float samples, found {bits}-bit {page.dtype or 'ones of no kind'}")
    if page.imagedepth != 1:
        raise CodecError(f"expected a flat picture, found a volume of depth {page.imagedepth}")
    channels = 3 if page.photometric == _PALETTE else int(page.samplesperpixel)
    if channels not in (colours, colours + 1):
        raise CodecError(f"expected {colours} or {colours + 1} channels, found {channels}")
    depth = 8 if page.photometric == _PALETTE else _KINDS[kind]
    return Header(height=page.imagelength, width=page.imagewidth, channels=channels, bits=depth, format="tiff")


def check_segments(page: Any, size: int) -> None:
    """Refuse what a file of ``size`` bytes cannot hold, before memory for it is taken; missing parts would be black."""
    count, side = math.prod(page.chunked), math.prod(page.chunks)
    if len(page.dataoffsets) < count or 0 in page.dataoffsets[:count] or 0 in page.databytecounts[:count]:
        raise CodecError(f"expected {count} strips or tiles, found fewer")
    pixels = page.imagelength * page.imagewidth * page.samplesperpixel
    if page.is_tiled and side > 4 * pixels + 2**22:
        raise CodecError(f"expected tiles of the picture's size, found {page.tilewidth}x{page.tilelength}")
    ratio = _RATIOS.get(int(page.compression))
    if ratio is not None:
        check_bytes(page.imagelength, page.imagewidth, size, pixels * page.bitspersample / 8 / ratio)


def _expand_palette(indices: Pixels, colormap: Pixels) -> Pixels:
    # Writers scale 8-bit colours by 256 or by 257 to the map's 16 bits; the high byte is right for both.
    table = (np.asarray(colormap) >> 8).astype(np.uint8).T
    return table[indices]


def _inverted(samples: Pixels) -> Pixels:
    if samples.dtype == np.bool_:
        return ~samples
    white = np.iinfo(samples.dtype).max if samples.dtype.kind == "u" else 1.0
    inverted = samples.copy()
    inverted[..., 0] = white - samples[..., 0]
    return inverted


def _resolution(page: Any) -> tuple[float, float] | None:
    try:
        values = [page.tags[tag].value for tag in (282, 283)]
        across, down = (float(top) / float(bottom) for top, bottom in values)
        unit = int(page.tags[296].value) if 296 in page.tags else 2
    except (KeyError, ValueError, TypeError, ZeroDivisionError):
        return None
    scale = {2: 1.0, 3: 2.54}.get(unit)
    return (across * scale, down * scale) if scale and across > 0 and down > 0 else None
