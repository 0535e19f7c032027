"""The pages of a TIFF file, read one at a time; every failure names the file and the page."""

from __future__ import annotations

from pathlib import Path

from pipeline.data.image_types import MAX_PIXELS, CodecError, Image, Pages
from pipeline.data.opening import failures_named, opened, sniff


def pages_of(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Pages | None:
    """Count the pages of a TIFF file, without decoding one; None for every other format.

    Raises:
        ImageError: as for `read_image`; also a page that is no picture, which is named by its number.
    """
    path = Path(path)
    with failures_named(path), opened(path) as file:
        if sniff(path, file) != "tiff":
            return None
        from pipeline.data.tiff_isolated import read_pages_isolated

        return read_pages_isolated(path, max_pixels)


def read_page(path: str | Path, number: int, count: int, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Read a page of a TIFF file, as stored; floats may be anything.

    Args:
        path: a TIFF file.
        number: of the page, from 1.
        count: of all pages, for the message.
        max_pixels: as for `read_image`.

    Raises:
        ImageError: as for `read_image`, with the number of the page.
    """
    from pipeline.data.tiff_isolated import decode_page_isolated

    path = Path(path)
    with failures_named(path):
        try:
            pixels, metadata = decode_page_isolated(path, number - 1, max_pixels)
        except CodecError as error:
            raise CodecError(f"page {number} of {count}: {error}") from error
        return Image(pixels=pixels, metadata=metadata, format="tiff")
