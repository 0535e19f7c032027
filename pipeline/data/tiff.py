"""TIFF with 8, 16 or 32-bit float samples: one picture a file, deflate on writing."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

from pipeline.data.exif import attach_exif, exif_from_tiff
from pipeline.data.image_types import CodecError, Header, Metadata, Pixels, check_bytes, check_pixels

_REDUCED, _MASK = 1, 4
_MINISWHITE, _GREY, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_READABLE = {_MINISWHITE: 1, _GREY: 1, _RGB: 3, _PALETTE: 3, _YCBCR: 3}
_KINDS = {"u1": 8, "u2": 16, "f2": 32, "f4": 32, "f8": 32, "b1": 8}
_XMP, _ICC = 700, 34675
_CLASSIC_LIMIT = 2**32 - 2**20
_MAX_DIRECTORIES = 1000

_RATIOS = {1: 1, 5: 2560, 7: 3072, 8: 1032, 32773: 64, 32946: 1032}
"""How many bytes a byte of the file can become: uncompressed, LZW, JPEG, deflate, PackBits; unknown of others."""


def read_tiff_header(file: Any) -> Header:
    """Read the first picture's size and depth from an open binary file."""
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        return _header(_picture(tiff))


def decode_tiff(data: bytes, max_pixels: int) -> tuple[Pixels, Metadata]:
    """Decode the picture of a TIFF file into (H, W, C) uint8, uint16 or float32.

    Palettes become RGB, min-is-white is inverted, 16 and 64-bit floats become 32-bit. Reduced copies and
    transparency masks beside the picture are ignored.

    Raises:
        CodecError: too large, several pictures, or a kind of sample that a photograph does not have.
    """
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page = _picture(tiff)
        header = _header(page)
        check_pixels(header.height, header.width, max_pixels)
        _check_segments(page, len(data))
        samples = np.asarray(page.asarray())
        if page.planarconfig == 2 and page.samplesperpixel > 1:
            samples = np.moveaxis(samples, 0, -1)
        samples = samples.reshape(header.height, header.width, -1)
        if page.photometric == _PALETTE:
            samples = _expand_palette(samples[..., 0], np.asarray(page.colormap))
        icc = page.tags.get(_ICC)
        xmp = page.tags.get(_XMP)
        metadata = Metadata(
            exif=exif_from_tiff(data),
            icc=bytes(icc.value) if icc else None,
            xmp=bytes(xmp.value) if xmp else None,
            dpi=_resolution(page),
        )
        if page.photometric == _MINISWHITE:
            samples = _inverted(samples)
    if samples.dtype == np.bool_:
        samples = samples.astype(np.uint8) * 255
    if samples.dtype.kind == "f":
        samples = samples.astype(np.float32)
    return np.ascontiguousarray(samples), metadata


def encode_tiff(pixels: Pixels, metadata: Metadata) -> bytes:
    """Encode (H, W, C) uint8, uint16 or float32 as a deflate-compressed TIFF with its metadata."""
    import tifffile

    colour = pixels.shape[2] >= 3
    extra = [(_XMP, 1, len(metadata.xmp), metadata.xmp, True)] if metadata.xmp else []
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        pixels if pixels.shape[2] > 1 else pixels[..., 0],
        byteorder="<",
        bigtiff=pixels.nbytes > _CLASSIC_LIMIT,
        photometric="rgb" if colour else "minisblack",
        planarconfig="contig" if pixels.shape[2] > 1 else None,
        extrasamples=["unassalpha"] if pixels.shape[2] in (2, 4) else None,
        compression="zlib",
        predictor=True,
        iccprofile=metadata.icc,
        resolution=metadata.dpi,
        resolutionunit=2 if metadata.dpi else None,
        metadata=None,
        software=False,
        extratags=extra,
    )
    data = file.getvalue()
    if metadata.exif and data[:4] == b"II*\0":
        try:
            return attach_exif(data, metadata.exif)
        except ValueError:
            # A damaged Exif block must not cost the user the picture.
            return data
    return data


def _picture(tiff: Any) -> Any:
    pages: list[Any] = []
    seen: set[int] = set()
    # The directories are a linked list, which may lead back into itself.
    for page in tiff.pages:
        if page.offset in seen or len(seen) >= _MAX_DIRECTORIES:
            raise CodecError("expected a list of pictures, found one without an end")
        seen.add(page.offset)
        if not int(getattr(page, "subfiletype", 0)) & (_REDUCED | _MASK):
            pages.append(page)
    if len(pages) != 1:
        raise CodecError(f"expected one picture, found a TIFF with {len(pages)}; split it first")
    return pages[0]


def _header(page: Any) -> Header:
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


def _check_segments(page: Any, size: int) -> None:
    """Refuse what the file cannot hold, before memory for it is taken: missing parts would be read as black."""
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
