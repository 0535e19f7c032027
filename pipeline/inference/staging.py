"""One file of a batch, in whatever process or thread: its output is made whole under a temporary name."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.data.failures import failure_line
from pipeline.data.paths import shown
from pipeline.errors import UserError
from pipeline.inference.manifest import Identity, identify, same_status
from pipeline.inference.results import Made

Convert = Callable[[Path, Path], Made]
"""Called with the path of a source and that of its output; makes the file, raises what it cannot do."""


class UnservedError(ValueError):
    """The file is whole, but nothing for this model; another one may take it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Staged:
    """An output that is whole and has a temporary name, or the reason why there is none."""

    seconds: float
    """Reading, denoising and writing."""

    error: str | None = None
    """One line, or None."""

    unserved: bool = False
    """Whether the reason is that the file is nothing for the model (`UnservedError`)."""

    temporary: Path | None = None
    """Where the output is; None after an error."""

    made: Made = field(default_factory=Made)
    """What is known about the output."""

    source_identity: Identity | None = None
    """Content of the source that was read; None if the output is not to be identified."""

    output_identity: Identity | None = None
    """Content of the output; likewise."""


def stage(convert: Convert, source: Path, output: Path, *, identified: bool = True) -> Staged:
    """Make the output of a source beside its place.

    Args:
        convert: called with the source and a temporary name in the folder of the output, with its suffix.
        source: what is read.
        output: the name the output is to get.
        identified: hash the source and the output, and refuse a source that changes while it is read.

    Raises:
        RunError: the disk is full or read-only, so that no other file could succeed.
    """
    start = time.perf_counter()
    temporary = output.with_name(f".{secrets.token_hex(8)}.tmp{output.suffix}")
    try:
        before = _identity(source) if identified else None
        made = convert(source, temporary)
        if before is not None and not same_status(source, before):
            raise UserError(
                f"{shown(source)}: expected a file that nobody writes to, found it changed while it was read"
            )
        after = identify(temporary) if identified else None
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        # RuntimeError covers a GPU out of memory: the next picture may be smaller.
        if not isinstance(error, UserError | OSError | ValueError | RuntimeError | MemoryError):
            raise
        line = failure_line(error, source, output).replace(shown(temporary), shown(output))
        return Staged(error=line, unserved=isinstance(error, UnservedError), seconds=_since(start))
    return Staged(temporary=temporary, made=made, source_identity=before, output_identity=after, seconds=_since(start))


def discard(staged: Staged) -> None:
    """Remove an output that is not to be kept."""
    if staged.temporary is not None:
        with contextlib.suppress(OSError):
            staged.temporary.unlink(missing_ok=True)


def _identity(source: Path) -> Identity | None:
    with contextlib.suppress(OSError):
        return identify(source) if source.is_file() else None
    return None  # what is missing or no file is told by the one who reads it


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 3)
