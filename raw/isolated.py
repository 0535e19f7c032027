"""Raw files decoded by LibRaw in a child process: no file crashes, hangs or starves the one that reads it.

LibRaw parses hundreds of undocumented formats in C++ and has had memory bugs; a crash there would end a training run
or a batch of ten thousand files. Every function here does what its namesake in `raw.files` does, and what the decoder
does wrong becomes the same one-line ``ValueError``.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from raw.child_process import ChildError, ChildProcess
from raw.files import RawFile
from raw.wire import typed

MAX_PIXELS: Final = 300_000_000
"""Above this a header is taken for a mistake or an attack; no sensor sold today has as many."""

MIN_SECONDS: Final = 8.0
SECONDS_PER_MEGABYTE: Final = 2.0
"""LibRaw develops a megabyte in about 0.1 s; the rest is for slow disks and slow machines."""

_BYTES_PER_PIXEL: Final = 16
_ROOM: Final = 2**20

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Developed:
    """A raw file developed by LibRaw."""

    pixels: NDArray[np.uint16]
    """(H, W, 3) sRGB, upright, 0..65535."""

    kind: str
    """What the sensor is, `RawFile.kind`."""


def read_raw_isolated(
    path: Path, *, max_pixels: int = MAX_PIXELS, timeout: float | None = None, memory: int | None = None
) -> RawFile:
    """Read the mosaic and the metadata of a raw file as `raw.files.read_raw` does, in the child process.

    Args:
        path: the file.
        max_pixels: a larger sensor is refused before memory of that size is taken.
        timeout: seconds; by default 2 a megabyte of the file and at least 8. Seconds in which other processes kept
            the child from computing do not count, up to four times as many.
        memory: bytes that the child may take beyond the 30 MB of an idle one (Linux only); by default
            256 MiB, 16 MiB a core and 40 bytes a pixel.

    Raises:
        ValueError: there is no such file, LibRaw cannot read it, crashes, takes too long, takes too much memory, or
            answers nonsense; names the path.
    """
    return checked(
        path, RawFile, ask_about(DECODER, path, "read", max_pixels=max_pixels, timeout=timeout, memory=memory)
    )


def render_srgb_isolated(
    path: Path, *, max_pixels: int = MAX_PIXELS, timeout: float | None = None, memory: int | None = None
) -> Developed:
    """Develop a raw file as `raw.files.render_srgb` does, in the child process, and tell what its sensor is.

    Arguments and errors are those of `read_raw_isolated`.
    """
    developed = checked(
        path, Developed, ask_about(DECODER, path, "render", max_pixels=max_pixels, timeout=timeout, memory=memory)
    )
    if developed.pixels.ndim != 3 or developed.pixels.shape[2] != 3 or not developed.pixels.size:
        raise ValueError(f"{path}: the decoder answered nonsense (a picture of shape {developed.pixels.shape})")
    return developed


def raw_size_isolated(
    path: Path, *, max_pixels: int = MAX_PIXELS, timeout: float | None = None, memory: int | None = None
) -> tuple[int, int]:
    """Return (height, width) of the visible sensor, upright, without decoding it, from the child process.

    Arguments and errors are those of `read_raw_isolated`.
    """
    match ask_about(DECODER, path, "size", max_pixels=max_pixels, timeout=timeout, memory=memory):
        case (int(height), int(width)):
            return height, width
    raise ValueError(f"{path}: the decoder answered nonsense (no size)")


def patience(size: int) -> float:
    """Return how many seconds the decoder gets for a file of ``size`` bytes."""
    return max(MIN_SECONDS, SECONDS_PER_MEGABYTE * size / 1e6)


def ask_about(
    decoder: ChildProcess, path: Path, task: str, *, max_pixels: int, timeout: float | None, memory: int | None
) -> object:
    """Ask a child that runs `raw.serving.serve_files` about a file.

    Raises:
        ValueError: the child refused, with its reason, or gave no answer; names the path.
    """
    absolute = str(Path(path).absolute())
    if timeout is None:
        timeout = patience(Path(path).stat().st_size if Path(path).is_file() else 0)
    # The child has another current folder, and perhaps another encoding of names.
    name = os.fsencode(absolute).decode("latin-1")
    request = (task, name, int(max_pixels), float(timeout), memory)
    try:
        answer = decoder.ask(request, seconds=timeout, limit=_BYTES_PER_PIXEL * max_pixels + _ROOM)
    except ChildError as error:
        raise ValueError(f"{path}: {error}") from error
    match answer:
        case (True, value):
            return value
        case (False, str(reason)):
            raise ValueError(f"{path}: {reason.removeprefix(f'{absolute}: ')}")
    raise ValueError(f"{path}: the decoder answered nonsense (no answer)")


def checked(path: Path, kind: type[T], value: object) -> T:
    """Return a child's answer as an instance of ``kind``.

    Raises:
        ValueError: it is none; names the path.
    """
    try:
        return typed(value, kind)
    except ValueError as error:
        raise ValueError(f"{path}: the decoder answered nonsense ({error})") from error


DECODER: Final = ChildProcess("raw.decoder")
"""The child of this process; it starts with the first file and serves all."""
