"""What an image in a file is to us: pixels, the metadata that must survive, the error that names the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.data.exr import ExrLayers

S = TypeVar("S", bound=np.generic)

Pixels = NDArray[Any]
"""(H, W, C), C in 1..4, of dtype uint8, uint16 or float32."""

Format = Literal["png", "jpeg", "tiff", "bmp", "webp", "raw", "exr"]

MAX_PIXELS = 300_000_000
"""Above this a header is taken for a mistake or an attack; 300 million holds every camera sold today."""


class ImageError(UserError):
    """A file is not an image that we can read or write; the message is ``path: expected ..., found ...``."""


class CodecError(Exception):
    """A codec's reason without the path; `pipeline.data.images` turns it into an `ImageError`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JpegSettings:
    """How a JPEG is stored, so that it can be written so again."""

    colours: int
    """1 for grey, 3 for YCbCr."""

    tables: tuple[tuple[int, ...], ...]
    """Quantisation tables of 64 numbers."""

    subsampling: int
    """0 for 4:4:4, 1 for 4:2:2, 2 for 4:2:0."""

    progressive: bool
    """Whether it comes in several scans."""

    segments: tuple[tuple[int, bytes], ...] = ()
    """Comments and what of XMP did not fit into one segment, as (marker, body)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metadata:
    """What travels with the pixels, byte for byte where the format of the output allows it."""

    exif: bytes | None = None
    """Exif block: a little TIFF structure starting with ``II*`` or ``MM``, without the ``Exif`` prefix."""

    icc: bytes | None = None
    """ICC colour profile."""

    xmp: bytes | None = None
    """XMP packet (XML)."""

    dpi: tuple[float, float] | None = None
    """Horizontal and vertical resolution in pixels per inch."""

    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    """Colour, text and time chunks of a PNG, as (type, data); only a PNG can carry them on."""

    photoshop: bytes | None = None
    """Photoshop's image resources, which hold IPTC fields; JPEG and TIFF carry them."""

    jpeg: JpegSettings | None = None
    """Of a JPEG, for another JPEG."""

    tiff_tags: tuple[tuple[int, int, int, bytes], ...] = ()
    """Tags of a TIFF that only a TIFF can carry on, as (tag, type, count, little-endian value): the calibration of a
    microscope, ImageJ's metadata, the name of a page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What a file claims to hold, read without decoding a pixel."""

    height: int
    """Rows, as stored (the Exif orientation is not applied)."""

    width: int
    """Columns, as stored."""

    channels: int
    """1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha, after palettes are expanded."""

    bits: int
    """Bits per channel of the pixels that `read_image` returns: 8, 16 or 32 (float)."""

    format: Format
    """What the content is, whatever the name says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pages:
    """What a TIFF file holds, one picture or a stack."""

    count: int
    """Pages that are pictures."""

    left_out: int
    """Pages that are none: reduced copies and transparency masks."""

    compressed: bool
    """Whether the first page is."""

    floats: bool
    """Whether any page has float samples."""

    order: str
    """``<`` or ``>``, the byte order of the file."""

    size: int
    """Bytes of all pictures, decoded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """Pixels as stored in the file, with the metadata beside them."""

    pixels: Pixels
    """(H, W, C), C in 1..4; uint8 or uint16 over their whole range, or float32 with black 0 and white 1.

    With 2 or 4 channels the last one is alpha. Of an EXR: linear float32 without a limit, and alpha is in ``layers``.
    """

    format: Format = "png"
    """Format of the file it came from."""

    metadata: Metadata = field(default_factory=Metadata)
    """Exif, colour profile and the like; an orientation tag is kept and the pixels are not turned."""

    note: str | None = None
    """What a user should know about how the pixels were made, such as from an X-Trans mosaic; or None."""

    layers: ExrLayers | None = None
    """Of an EXR: its attributes and the channels that are not the colours."""

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or not 1 <= self.pixels.shape[2] <= 4 or 0 in self.pixels.shape:
            raise ValueError(f"pixels must be (H, W, C) with C in 1..4, got shape {self.pixels.shape}")
        if self.pixels.dtype not in (np.uint8, np.uint16, np.float32):
            raise ValueError(f"pixels must be uint8, uint16 or float32, got {self.pixels.dtype}")


def check_pixels(height: int, width: int, max_pixels: int) -> None:
    """Refuse a size before anything of that size is allocated.

    Raises:
        CodecError: no pixels, or more than ``max_pixels``.
    """
    if height < 1 or width < 1:
        raise CodecError(f"expected an image, found one of {width}x{height} pixels")
    if height * width > max_pixels:
        raise CodecError(
            f"expected at most {max_pixels} pixels, found {width}x{height} = {height * width} in the header"
        )


def check_bytes(height: int, width: int, size: int, needed: float) -> None:
    """Refuse a picture whose file is too short for it, before memory for it is taken.

    Args:
        height: claimed by the header.
        width: claimed by the header.
        size: bytes of the file.
        needed: bytes that the best compression of so many pixels leaves.

    Raises:
        CodecError: the file is shorter.
    """
    if needed > size + 64:
        raise CodecError(f"expected a whole image, found {size} bytes for {width}x{height} pixels")


def without_alpha(pixels: NDArray[S]) -> NDArray[S]:
    """Leave out the alpha of (H, W, C), which is the last of 2 or 4 channels."""
    return pixels[..., :-1] if pixels.shape[2] in (2, 4) else pixels
