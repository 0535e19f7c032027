"""The child process of `pipeline.data.exr`."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.data.exr import ExrContent, check_parts, open_exr
from pipeline.data.image_types import CodecError
from pipeline.data.reasons import reason
from raw.serving import FileTask, limit_memory, serve_files, usual_memory

_COPIES = 3
"""Channels as decoded, as one array each, and on their way out."""


def main() -> None:
    """Serve `pipeline.data.exr` until it is gone."""
    import OpenEXR  # noqa: F401 - loaded before the first request, not on its time

    serve_files(_answer)


def _answer(task: FileTask) -> object:
    limit_memory(usual_memory() + 2 * task.size)
    try:
        with open_exr(task.path, header_only=True) as file:
            headers = [dict(part.header) for part in file.parts]  # emptied on closing
        size = check_parts(headers, task.max_pixels)
        limit_memory(usual_memory() + task.size + _COPIES * size)
        with open_exr(task.path) as file:
            return _content(file.parts, headers)
    except Exception as error:
        raise ValueError(_in_words(error, task)) from error


def _content(parts: list[Any], headers: list[dict[str, Any]]) -> ExrContent:
    # The library leaves out parts whose pixels it cannot read, and says so on its output only.
    if [part.header.get("name") for part in parts] != [header.get("name") for header in headers]:
        raise CodecError("expected a whole EXR file, found a damaged one")
    found = [(index, name, channel) for index, part in enumerate(parts) for name, channel in part.channels.items()]
    told = sorted((index, channel.name) for index, header in enumerate(headers) for channel in header["channels"])
    if sorted((index, name) for index, name, _ in found) != told:
        raise CodecError("expected a whole EXR file, found a damaged one")
    return ExrContent(
        parts=tuple(index for index, _, _ in found),
        names=tuple(name for _, name, _ in found),
        samplings=tuple((int(channel.xSampling), int(channel.ySampling)) for _, _, channel in found),
        perceptual=tuple(bool(channel.pLinear) for _, _, channel in found),
        pixels=tuple(np.asarray(channel.pixels) for _, _, channel in found),
    )


def _in_words(error: Exception, task: FileTask) -> str:
    if isinstance(error, CodecError | MemoryError):
        return reason(error, task.path)
    return "expected a whole EXR file, found a damaged one"
