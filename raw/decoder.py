"""The child process of `raw.isolated`: LibRaw at work where it can harm nobody but itself."""

import errno
import os
from typing import Final

from raw.files import libraw_version, raw_size, read_raw, render_srgb_of_kind
from raw.isolated import Developed
from raw.serving import FileTask, limit_memory, serve_files, usual_memory

_BYTES_PER_PIXEL: Final = 40
"""LibRaw takes 16 bytes a pixel to develop a Bayer file and 30 for a linear one."""

_ANY_PIXELS: Final = 2**24
_PIXELS_PER_BYTE: Final = 64
"""No codec of raw files packs more: a black picture in lossy JPEG has 30 pixels a byte."""

_SHORTAGES: Final = frozenset({"LibRawUnsufficientMemoryError", "LibRawMemPoolOverflowError"})
"""The pool is said to overflow when an allocation fails."""


def main() -> None:
    """Serve `raw.isolated` until it is gone."""
    libraw_version()  # the library is loaded before the first request, not on its time
    serve_files(_answer)


def _answer(task: FileTask) -> object:
    limit_memory(task.memory or usual_memory() + task.size)
    try:
        height, width = raw_size(task.path, max_pixels=task.max_pixels)
        pixels = height * width
        if pixels > _ANY_PIXELS + _PIXELS_PER_BYTE * task.size:
            raise ValueError(f"{task.path}: expected a whole file, found {task.size} bytes for {width}x{height} pixels")
        limit_memory(task.memory or usual_memory() + _BYTES_PER_PIXEL * pixels)
        if task.name == "size":
            return height, width
        if task.name == "read":
            return read_raw(task.path, max_pixels=task.max_pixels)
        image, kind = render_srgb_of_kind(task.path, max_pixels=task.max_pixels)
        return Developed(pixels=image, kind=kind)
    except ValueError as error:
        if _lacks_memory(error.__cause__):
            raise MemoryError from error
        raise


def _lacks_memory(cause: BaseException | None) -> bool:
    told = isinstance(cause, OSError) and os.strerror(errno.ENOMEM) in str(cause)
    return told or isinstance(cause, MemoryError) or type(cause).__name__ in _SHORTAGES
