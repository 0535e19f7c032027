"""TIFF files read in a child process: the format carries some thirty codecs, each a library of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline.data.image_types import Header, Metadata, Pixels
from pipeline.data.reasons import refusal
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
    found = _ask(path, "picture", max_pixels, Decoded)
    return found.pixels, Metadata(exif=found.exif, icc=found.icc, xmp=found.xmp, dpi=found.dpi)


def _ask(path: Path, task: str, max_pixels: int, kind: type[T]) -> T:
    from raw.isolated import ask_about, checked

    try:
        answer = ask_about(DECODER, path, task, max_pixels=max_pixels, timeout=None, memory=None)
        return checked(path, kind, answer)
    except ValueError as error:
        raise refusal(error, path) from error
