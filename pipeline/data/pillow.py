"""JPEG, BMP and WebP through Pillow's decoders, which are used directly.

``PIL.Image.open`` refuses everything above a process-wide limit of 179 million pixels, so that the JPEG of a
200-megapixel phone could not be read; the decoder classes leave the limit to us.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.data.image_types import CodecError, Format, Header, Metadata, Pixels, check_bytes, check_pixels
from pipeline.data.jpeg import jpeg_settings, photoshop_of_jpeg

_EXIF_PREFIX = b"Exif\0\0"
_MODES = {
    "1": "L",
    "L": "L",
    "LA": "LA",
    "P": "RGB",
    "PA": "RGBA",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "RGBX": "RGB",
}
_PIXELS_PER_BYTE = {"jpeg": 1024, "bmp": 1024}
"""A block of a JPEG takes at least a bit; a WebP of one colour takes nothing, so it has no bound."""

_CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


def read_pillow_header(file: Any, kind: Format) -> Header:
    """Read size and depth from an open binary file of the given format."""
    with _open(file, kind) as picture:
        return _header(picture, kind)


def decode_pillow(data: bytes, kind: Format, max_pixels: int) -> tuple[Pixels, Metadata]:
    """Decode a JPEG, BMP or WebP picture into (H, W, C) uint8.

    Raises:
        CodecError: too large, animated, or CMYK. Pillow's own errors (cut off, damaged) pass through.
    """
    with _open(io.BytesIO(data), kind) as picture:
        header = _header(picture, kind)
        check_pixels(header.height, header.width, max_pixels)
        if kind in _PIXELS_PER_BYTE:
            needed = header.height * header.width / _PIXELS_PER_BYTE[kind]
            check_bytes(header.height, header.width, len(data), needed)
        mode = _target_mode(picture)
        metadata = _metadata(picture)
        if kind == "jpeg":
            metadata = replace(metadata, jpeg=jpeg_settings(picture, data), photoshop=photoshop_of_jpeg(data))
        pixels = np.array(picture if picture.mode == mode else picture.convert(mode), dtype=np.uint8)
    return pixels.reshape(header.height, header.width, -1), metadata


def _open(file: Any, kind: Format) -> Any:
    if kind == "jpeg":
        from PIL.JpegImagePlugin import JpegImageFile

        return JpegImageFile(file)
    if kind == "bmp":
        from PIL.BmpImagePlugin import BmpImageFile

        return BmpImageFile(file)
    from PIL import Image
    from PIL.WebPImagePlugin import WebPImageFile

    try:
        return WebPImageFile(file)
    except Image.DecompressionBombError as error:
        # This one class checks Pillow's limit itself.
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise CodecError(f"expected at most {limit} pixels in a WebP, found more in the header") from error


def _header(picture: Any, kind: Format) -> Header:
    if getattr(picture, "n_frames", 1) > 1:
        raise CodecError(f"expected one picture, found an animation of {picture.n_frames}")
    width, height = picture.size
    return Header(height=height, width=width, channels=_CHANNELS[_target_mode(picture)], bits=8, format=kind)


def _target_mode(picture: Any) -> str:
    mode = _MODES.get(picture.mode)
    if mode is None:
        raise CodecError(f"expected grey or RGB, found {picture.mode}; convert it to RGB first")
    if mode == "RGB" and picture.mode == "P" and _is_grey_palette(picture):
        return "L"
    return mode


def _is_grey_palette(picture: Any) -> bool:
    # Grey BMPs are stored with a palette of greys.
    palette = picture.getpalette() or []
    return bool(palette) and palette[0::3] == palette[1::3] == palette[2::3]


def _metadata(picture: Any) -> Metadata:
    info = picture.info
    exif = info.get("exif")
    dpi = info.get("dpi")
    valid = isinstance(dpi, tuple) and len(dpi) == 2 and all(float(value) > 0 for value in dpi)
    return Metadata(
        exif=exif.removeprefix(_EXIF_PREFIX) if exif else None,
        icc=info.get("icc_profile") or None,
        xmp=info.get("xmp") or None,
        dpi=(float(dpi[0]), float(dpi[1])) if valid else None,
    )
