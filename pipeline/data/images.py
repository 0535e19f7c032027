"""Read and write pictures without losing depth or metadata; every failure is one line that names the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipeline.data.depth import BIT_DEPTHS, BitDepth, in_depth
from pipeline.data.depth import from_float as from_float
from pipeline.data.depth import to_float as to_float
from pipeline.data.exif import exif_from_tiff
from pipeline.data.image_types import MAX_PIXELS as MAX_PIXELS
from pipeline.data.image_types import CodecError, Format, Header, check_pixels
from pipeline.data.image_types import Image as Image
from pipeline.data.image_types import ImageError as ImageError
from pipeline.data.image_types import Metadata as Metadata
from pipeline.data.image_types import Pixels as Pixels
from pipeline.data.image_types import without_alpha as without_alpha
from pipeline.data.opening import failures_named, opened, sniff
from pipeline.data.paths import shown
from pipeline.data.reasons import refusal
from pipeline.data.replacing import replacing as replacing
from pipeline.data.replacing import write_bytes as write_bytes
from raw.files import RAW_SUFFIXES
from raw.isolated import raw_size_isolated, read_raw_isolated, render_srgb_isolated
from raw.raw_file import RawFile

T = TypeVar("T")

WRITABLE: dict[str, Format] = {
    ".png": "png",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".exr": "exr",
}
"""Suffixes (lower case) that `write_image` knows."""

IMAGE_SUFFIXES: frozenset[str] = frozenset({*WRITABLE, ".jpe", ".bmp", ".webp", *RAW_SUFFIXES} - {".exr"})
"""Suffixes (lower case, with the dot) of the files that are taken for photographs when a folder is scanned."""

DENOISED_SUFFIXES: frozenset[str] = IMAGE_SUFFIXES | {".exr"}
"""The same of `unveil denoise`, which takes linear light too."""

NOTES = {
    "xtrans": "X-Trans mosaic: demosaiced by LibRaw and denoised as RGB",
    "mono": "monochrome sensor: developed by LibRaw and denoised as RGB",
    "linear": "linear raw, demosaiced before it was written: developed by LibRaw and denoised as RGB",
    "other": "mosaic that is neither Bayer nor X-Trans: demosaiced by LibRaw and denoised as RGB",
}
"""What a user is told about raw files of these kinds; a Bayer mosaic needs no word."""

_LINEAR = "expected display values, found linear light (OpenEXR), which only unveil denoise reads"
_HEADER_BYTES = 1 << 16


def read_header(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Header:
    """Read what a file claims to hold, without decoding a pixel.

    Raises:
        ImageError: the file is missing, no image, damaged, or larger than ``max_pixels``.
    """
    path = Path(path)
    with failures_named(path), opened(path) as file:
        kind = sniff(path, file)
        if kind == "raw":
            height, width = _of_raw(raw_size_isolated, path, max_pixels)
            header = Header(height=height, width=width, channels=3, bits=16, format="raw")
        elif kind == "png":
            from pipeline.data.png import read_png_header

            header = read_png_header(file.read(_HEADER_BYTES))
        elif kind == "tiff":
            from pipeline.data.tiff_isolated import read_tiff_header_isolated

            header = read_tiff_header_isolated(path, max_pixels)
        elif kind == "exr":
            raise CodecError(_LINEAR)
        else:
            from pipeline.data.pillow import read_pillow_header

            header = read_pillow_header(file, kind)
        check_pixels(header.height, header.width, max_pixels)
        return header


def read_size(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return (height, width) from the header alone; same errors as `read_header`."""
    header = read_header(path, max_pixels=max_pixels)
    return header.height, header.width


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Read a picture as stored: same depth, same orientation, with its metadata.

    The content decides the format, not the name, except for raw camera files, which are rendered to 16-bit
    sRGB. Palettes become RGB and 1-bit pictures 8-bit; CMYK, animations and stacks are refused.

    Args:
        path: PNG, JPEG, TIFF, BMP, WebP or a raw camera file.
        max_pixels: larger pictures are refused before memory of that size is taken.

    Raises:
        ImageError: the file is missing, no image, damaged, not finite, linear light (EXR), or too large; or its
            decoder crashed or took too long (raw and TIFF files are decoded in child processes).
    """
    image = read_unbounded(path, max_pixels=max_pixels)
    with failures_named(Path(path)):
        if image.format == "exr":
            raise CodecError(_LINEAR)
        if image.pixels.dtype == np.float32 and not np.isfinite(image.pixels).all():
            count = int(np.count_nonzero(~np.isfinite(image.pixels)))
            raise CodecError(f"expected finite values, found {count} NaN or infinite ones")
    return image


def read_unbounded(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Read a picture as `read_image` does, and linear light (EXR) and floats that are not finite too.

    Raises:
        ImageError: as for `read_image`, but for these.
        UserError: it is an EXR file, and the package for them is not installed.
    """
    path = Path(path)
    with failures_named(path), opened(path) as file:
        kind = sniff(path, file)
        metadata, note, layers = Metadata(), None, None
        pixels: Pixels
        if kind == "raw":
            developed = _of_raw(render_srgb_isolated, path, max_pixels)
            pixels, note = developed.pixels, NOTES.get(developed.kind)
            metadata = metadata_of_raw(file.read())
        elif kind == "png":
            from pipeline.data.png import decode_png

            pixels, metadata = decode_png(file.read(), max_pixels)
        elif kind == "tiff":
            from pipeline.data.tiff_isolated import decode_tiff_isolated

            pixels, metadata = decode_tiff_isolated(path, max_pixels)
        elif kind == "exr":
            from pipeline.data.exr import read_exr_layers

            pixels, layers = read_exr_layers(path, max_pixels)
        else:
            from pipeline.data.pillow import decode_pillow

            pixels, metadata = decode_pillow(file.read(), kind, max_pixels)
        return Image(pixels=pixels, metadata=metadata, format=kind, note=note, layers=layers)


def read_raw_file(path: Path, *, max_pixels: int = MAX_PIXELS) -> RawFile:
    """Read the numbers and facts of a camera raw file in the child process.

    Raises:
        ImageError: as for `read_image`.
    """
    with failures_named(path):
        return _of_raw(read_raw_isolated, path, max_pixels)


def metadata_of_raw(data: bytes) -> Metadata:
    """Return what the bytes of a raw file tell of a picture that was developed from it, and turned upright."""
    # Most raw formats are TIFF structures, which carry Exif.
    return Metadata(exif=exif_from_tiff(data, upright=True))


def write_image(path: str | Path, image: Image, *, bit_depth: BitDepth | None = None) -> str | None:
    """Write a picture atomically: a reader sees the old file or the whole new one, never a part.

    The suffix decides the format. PNG holds 8 and 16 bits, JPEG 8, TIFF everything, EXR floats; deeper pixels than
    the format holds are rounded to its depth. EXR holds linear light, all others display values: what comes from the
    one and goes to the other is converted by the sRGB curve. Missing parent folders are not created.

    Args:
        path: where to.
        image: what to write.
        bit_depth: None keeps that of ``image``, or the next one that the format holds. In an EXR "16" are 16-bit
            floats and "float" 32-bit ones; None takes 16 for 8-bit pixels.

    Returns:
        What could not stay as it was, or None.

    Raises:
        ImageError: unknown suffix, colours that are not finite, or alpha in a JPEG.
        UserError: the package for EXR files is not installed.
        OSError: the folder is missing or not writable, or the disk is full.
    """
    path = Path(path)
    kind = WRITABLE.get(path.suffix.lower())
    if kind is None:
        raise ImageError(f"{shown(path)}: expected a name ending in {', '.join(WRITABLE)}")
    if image.pixels.dtype == np.float32 and not np.isfinite(without_alpha(image.pixels)).all():
        raise ImageError(f"{shown(path)}: expected finite values to write, found NaN or infinity")
    if kind == "exr":
        from pipeline.data.light import write_light

        with replacing(path) as temporary:
            return write_light(temporary, image, bit_depth)
    if image.format == "exr":
        from pipeline.data.light import displayed

        image = displayed(image)
    if bit_depth is not None:
        image = replace(image, pixels=in_depth(image.pixels, BIT_DEPTHS[bit_depth]))
    if kind == "jpeg" and image.pixels.shape[2] in (2, 4):
        raise ImageError(f"{shown(path)}: expected no alpha for a JPEG, found it; write PNG or TIFF")
    write_bytes(path, _encode(kind, image))
    return None


def _encode(kind: Format, image: Image) -> bytes:
    pixels = image.pixels
    if kind == "tiff":
        from pipeline.data.tiff_encoding import encode_tiff

        return encode_tiff(pixels, image.metadata)
    if kind == "png":
        from pipeline.data.png import encode_png

        return encode_png(in_depth(pixels, np.uint16) if pixels.dtype.kind == "f" else pixels, image.metadata)
    from pipeline.data.jpeg import encode_jpeg

    return encode_jpeg(in_depth(pixels, np.uint8), image.metadata)


def _of_raw(read: Callable[..., T], path: Path, max_pixels: int) -> T:
    try:
        return read(path, max_pixels=max_pixels)
    except ValueError as error:
        raise refusal(error, path) from error
