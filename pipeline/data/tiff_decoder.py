"""The child process of `pipeline.data.tiff_isolated`."""

from __future__ import annotations

import io

from pipeline.data.image_types import check_pixels
from pipeline.data.reasons import reason
from pipeline.data.tiff import decode_tiff, read_tiff_header
from pipeline.data.tiff_isolated import Decoded
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
        data = task.path.read_bytes()
        header = read_tiff_header(io.BytesIO(data))
        check_pixels(header.height, header.width, task.max_pixels)
        size = header.height * header.width * header.channels * header.bits // 8
        limit_memory(usual_memory() + len(data) + _COPIES * size)
        pixels, metadata = decode_tiff(data, task.max_pixels)
        return Decoded(pixels=pixels, exif=metadata.exif, icc=metadata.icc, xmp=metadata.xmp, dpi=metadata.dpi)
    except Exception as error:
        raise ValueError(reason(error, task.path)) from error
