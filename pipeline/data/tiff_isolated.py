"""TIFF files read in a child process: the format carries some thirty codecs, each a library of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline.data.image_types import CodecError, Header, Metadata, Pages, Pixels
from pipeline.data.reasons import refusal
from pipeline.data.tiff_rows import TiffLayout
from raw.child_process import ChildProcess

T = TypeVar("T")

DECODER = ChildProcess("pipeline.data.tiff_decoder")
"""The child of this process; it starts with the first TIFF and serves all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """What the child sends back: pixels, and the metadata one by one."""

    pixels: Pixels
    exif: bytes | None
    icc: bytes | None
    xmp: bytes | None
    dpi: tuple[float, float] | None
    photoshop: bytes | None
    tiff_tags: tuple[tuple[int, int, int, bytes], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedRows:
    """Some rows of a picture."""

    pixels: Pixels


def read_tiff_header_isolated(path: Path, max_pixels: int) -> Header:
    """Read the picture's size and depth.

    Raises:
        CodecError: no TIFF that we read, or the decoder crashed or took too long.
    """
    return _ask(path, "header", max_pixels, Header)


def decode_tiff_isolated(path: Path, max_pixels: int) -> tuple[Pixels, Metadata]:
    """Decode the picture of a TIFF file as `pipeline.data.tiff.decode_tiff` does.

    Raises:
        CodecError: no TIFF that we read, or the decoder crashed, took too long or too much memory.
    """
    return _picture(path, "picture", max_pixels)


def read_pages_isolated(path: Path, max_pixels: int) -> Pages:
    """Count the pages of a TIFF file.

    Raises:
        CodecError: no TIFF that we read, one without pictures, or the decoder crashed or took too long.
    """
    return _ask(path, "pages", max_pixels, Pages)


def decode_page_isolated(path: Path, index: int, max_pixels: int) -> tuple[Pixels, Metadata]:
    """Decode page ``index`` of the pages that are pictures, counted from 0, as `decode_tiff_isolated` does.

    Raises:
        CodecError: as there.
    """
    return _picture(path, f"page {index}", max_pixels)


def read_layout_isolated(path: Path, max_pixels: int) -> TiffLayout:
    """Read what a TIFF holds and how, as `pipeline.data.tiff_rows.read_layout` does.

    Raises:
        CodecError: as there, or the decoder crashed or took too long.
    """
    return _ask(path, "layout", max_pixels, TiffLayout)


def read_rows_isolated(path: Path, start: int, stop: int, max_pixels: int) -> Pixels:
    """Decode some rows of a TIFF picture as `pipeline.data.tiff_rows.read_rows` does.

    Raises:
        CodecError: as there, or the decoder crashed, took too long or too much memory.
    """
    rows = _ask(path, f"rows {start} {stop}", max_pixels, DecodedRows).pixels
    if rows.ndim != 3 or rows.shape[0] != stop - start:
        raise CodecError(f"expected {stop - start} rows, found an answer of shape {rows.shape}")
    return rows


def _picture(path: Path, task: str, max_pixels: int) -> tuple[Pixels, Metadata]:
    found = _ask(path, task, max_pixels, Decoded)
    metadata = Metadata(
        exif=found.exif,
        icc=found.icc,
        xmp=found.xmp,
        dpi=found.dpi,
        photoshop=found.photoshop,
        tiff_tags=found.tiff_tags,
    )
    return found.pixels, metadata


def _ask(path: Path, task: str, max_pixels: int, kind: type[T]) -> T:
    from raw.isolated import ask_about, checked

    try:
        answer = ask_about(DECODER, path, task, max_pixels=max_pixels, timeout=None, memory=None)
        return checked(path, kind, answer)
    except ValueError as error:
        raise refusal(error, path) from error
