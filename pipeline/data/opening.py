"""A file that is said to be a picture: opened safely, its format known by its first bytes, every failure one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pipeline.data.image_types import CodecError, Format, ImageError
from pipeline.data.paths import shown
from pipeline.data.reasons import reason
from pipeline.errors import UserError
from raw.files import RAW_SUFFIXES

_SIGNATURES: tuple[tuple[bytes, Format], ...] = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"BM", "bmp"),
    (b"\x76\x2f\x31\x01", "exr"),
)


def opened(path: Path) -> BinaryIO:
    """Open a regular file; a pipe or a device could keep us waiting.

    Raises:
        CodecError: it is none.
        OSError: it cannot be read.
    """
    if path.is_dir():
        raise CodecError("expected an image file, found a folder")
    if path.exists() and not path.is_file():
        raise CodecError("expected an image file, found a device or a pipe")
    return path.open("rb")


def sniff(path: Path, file: BinaryIO) -> Format:
    """Tell the format by the content; that of a raw file, which is often a TIFF, by the name.

    Raises:
        CodecError: none that we read.
    """
    start = file.read(64)
    file.seek(0)
    if not start:
        raise CodecError("expected an image, found an empty file")
    if path.suffix.lower() in RAW_SUFFIXES:
        return "raw"
    for signature, kind in _SIGNATURES:
        if start.startswith(signature):
            return kind
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "webp"
    text = start[:24].decode("utf-8", "replace")
    found = f"text ({text!a}...)" if _is_text(start) else f"unknown bytes ({start[:8].hex(' ')})"
    raise CodecError(f"expected a PNG, JPEG, TIFF, BMP, WebP, EXR or raw file, found {found}")


def _is_text(start: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\n\r" for byte in start) and b"\x7f" not in start


@contextmanager
def failures_named(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into an `ImageError` that starts with the path."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # decoders of hostile bytes raise anything, SyntaxError included
        raise ImageError(f"{shown(path)}: {reason(error, path)}") from error
