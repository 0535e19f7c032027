"""The child process of `pipeline.data.tiff_isolated`."""

from __future__ import annotations

import io
import mmap

from pipeline.data.image_types import Header, Metadata, Pixels, check_pixels
from pipeline.data.reasons import reason
from pipeline.data.tiff import decode_page, decode_tiff, page_header, picture_pages, read_pages, read_tiff_header
from pipeline.data.tiff_isolated import Decoded, DecodedRows
from pipeline.data.tiff_rows import read_layout, read_rows
from raw.serving import FileTask, limit_memory, serve_files, usual_memory

_COPIES = 6
"""Decoded strips, the whole of them, and copies in another order or depth, counted in bytes of the result."""


def main() -> None:
    """Serve `pipeline.data.tiff_isolated` until it is gone."""
    import imagecodecs  # noqa: F401 - loaded before the first request, not on its time
    import tifffile  # noqa: F401

    serve_files(_answer)


def _answer(task: FileTask) -> object:
    limit_memory(usual_memory() + 2 * task.size)
    try:
        if task.name == "header":
            with task.path.open("rb") as file:
                return read_tiff_header(file)
        if task.name == "pages":
            with task.path.open("rb") as file:
                return read_pages(file, task.max_pixels)
        if task.name.startswith("page "):
            return _page(task, int(task.name.removeprefix("page ")))
        if task.name == "layout":
            return read_layout(task.path, task.max_pixels)
        if task.name.startswith("rows "):
            return _rows(task)
        data = task.path.read_bytes()
        header = read_tiff_header(io.BytesIO(data))
        _allow(header, len(data), task.max_pixels)
        return _decoded(*decode_tiff(data, task.max_pixels))
    except Exception as error:
        raise ValueError(reason(error, task.path)) from error


def _page(task: FileTask, index: int) -> Decoded:
    import tifffile

    # Mapped, because a stack is many times larger than one of its pages.
    with (
        task.path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        tifffile.TiffFile(file) as tiff,
    ):
        pages, _ = picture_pages(tiff)
        _allow(page_header(pages[index]), task.size, task.max_pixels)
        return _decoded(*decode_page(pages[index], data, task.max_pixels))


def _rows(task: FileTask) -> DecodedRows:
    """Rows START to STOP of the task "rows START STOP"."""
    _, start, stop = task.name.split(" ")

    def allow(size: int) -> None:
        limit_memory(usual_memory() + _COPIES * size)

    return DecodedRows(pixels=read_rows(task.path, int(start), int(stop), task.max_pixels, allow))


def _allow(header: Header, size: int, max_pixels: int) -> None:
    check_pixels(header.height, header.width, max_pixels)
    decoded = header.height * header.width * header.channels * header.bits // 8
    limit_memory(usual_memory() + size + _COPIES * decoded)


def _decoded(pixels: Pixels, metadata: Metadata) -> Decoded:
    return Decoded(
        pixels=pixels,
        exif=metadata.exif,
        icc=metadata.icc,
        xmp=metadata.xmp,
        dpi=metadata.dpi,
        photoshop=metadata.photoshop,
        tiff_tags=metadata.tiff_tags,
    )
