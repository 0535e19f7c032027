"""Denoise many files: the tree is mirrored, no input is ever written to, a bad file stops nobody."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pipeline.data.failures import failure_line
from pipeline.data.folders import SourceFile
from pipeline.data.paths import shown
from pipeline.data.tiff_pages import pages_of
from pipeline.errors import UserError
from pipeline.inference.denoiser import Denoiser
from pipeline.inference.offset import denoise_measured, told
from pipeline.inference.outputs import DEFAULT, OutputOptions, plan_outputs
from pipeline.inference.picture import joined, profile_note, read_picture
from pipeline.inference.stacks import denoise_stack
from pipeline.inference.written import write_denoised

_NOTES = 12
"""Notes that are shown: of ten thousand frames each may have one of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileResult:
    """What became of one source file."""

    source: str
    """Path that was read."""

    output: str
    """Path that was, or would have been, written."""

    status: Literal["ok", "failed", "skipped"]
    """``skipped``: the output is there already and was left alone."""

    error: str | None = None
    """One line, or None."""

    seconds: float = 0.0
    """Reading, denoising and writing."""

    note: str | None = None
    """How the pixels were made, where a user should know it (`Image.note`)."""

    offset: dict[str, Any] | None = None
    """How far the network's brightness and colour are from the noisy picture (`denoise_measured`), if it is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What is known about an output that was written."""

    note: str | None = None
    """As in `FileResult`."""

    offset: dict[str, Any] | None = None
    """As in `FileResult`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FilesSummary:
    """What became of all files, in the order of the sources."""

    files: tuple[FileResult, ...]
    """One entry a source file."""

    def count(self, status: Literal["ok", "failed", "skipped"]) -> int:
        """Return how many files ended with ``status``."""
        return sum(file.status == status for file in self.files)

    def notes(self) -> dict[str, int]:
        """Return each note once, with the number of files that have it, the most frequent first."""
        return dict(Counter(file.note for file in self.files if file.note is not None).most_common())

    def told(self, out: str) -> list[str]:
        """Return the counts as a sentence, each note once, and offsets; ``out`` is the folder, as shown."""
        parts = [f"{self.count('ok')} written to {out}"]
        if skipped := self.count("skipped"):
            parts.append(f"{skipped} there already and left alone (--overwrite replaces them)")
        if failed := self.count("failed"):
            parts.append(f"{failed} failed")
        counted = [(f"{count} {'file' if count == 1 else 'files'}", note) for note, count in self.notes().items()]
        lines = [", ".join(parts), *(f"{files}: {note}" for files, note in counted[:_NOTES])]
        if len(counted) > _NOTES:
            lines.append(f"{len(counted) - _NOTES} more notes, which --json has")
        offset = told(self.files)
        return [*lines, offset] if offset else lines

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: files, ok, failed, skipped."""
        return {
            "files": [asdict(file) for file in self.files],
            "ok": self.count("ok"),
            "failed": self.count("failed"),
            "skipped": self.count("skipped"),
        }


def denoise_files(
    sources: Sequence[SourceFile],
    denoiser: Denoiser,
    out: Path,
    options: OutputOptions = DEFAULT,
    *,
    on_progress: Callable[[FileResult], None] | None = None,
) -> FilesSummary:
    """Denoise every source into ``out``, mirroring the tree; size, depth and metadata stay as they were.

    All output paths are planned and checked before the first file is read.

    Args:
        sources: what `pipeline.data.folders.scan` found.
        denoiser: called with each picture.
        out: folder to write to; created.
        options: names, formats and what is done about outputs that exist.
        on_progress: called after each file.

    Returns:
        What became of each file; a file that fails is listed and the rest goes on.

    Raises:
        UserError: as in `plan_outputs`.
        RunError: the disk is full or read-only, so that no other file could succeed.
    """
    outputs = plan_outputs(sources, out, options)
    convert = partial(_denoise_file, denoiser, options)
    return convert_files(sources, outputs, convert, options, on_progress=on_progress)


def convert_files(
    sources: Sequence[SourceFile],
    outputs: Sequence[Path],
    convert: Callable[[Path, Path], Made],
    options: OutputOptions = DEFAULT,
    *,
    on_progress: Callable[[FileResult], None] | None = None,
) -> FilesSummary:
    """Make one output from each source; a file that fails is listed and the rest goes on.

    Args:
        sources: what is read.
        outputs: what is written, of `plan_outputs`.
        convert: called with the two paths; makes folder and file, raises what it cannot do.
        options: what is done about outputs that exist.
        on_progress: called after each file.

    Raises:
        RunError: the disk is full or read-only, so that no other file could succeed.
    """
    results = []
    for source, output in zip(sources, outputs, strict=True):
        result = _convert_file(source.path, output, convert, options)
        results.append(result)
        if on_progress is not None:
            on_progress(result)
    return FilesSummary(files=tuple(results))


def _convert_file(
    source: Path, output: Path, convert: Callable[[Path, Path], Made], options: OutputOptions
) -> FileResult:
    def result(status: Literal["ok", "failed", "skipped"], error: str | None = None) -> FileResult:
        seconds = round(time.perf_counter() - start, 3)
        return FileResult(
            source=str(source),
            output=str(output),
            status=status,
            error=error,
            seconds=seconds,
            note=made.note,
            offset=made.offset,
        )

    start = time.perf_counter()
    made = Made()
    if not options.overwrite and os.path.lexists(output):
        return result("skipped", f"{shown(output)}: exists; pass --overwrite to replace it")
    try:
        made = convert(source, output)
    except (UserError, OSError, ValueError, RuntimeError, MemoryError) as error:
        # RuntimeError covers a GPU out of memory: the next picture may be smaller.
        return result("failed", failure_line(error, source, output))
    return result("ok")


def _denoise_file(denoiser: Denoiser, options: OutputOptions, source: Path, output: Path) -> Made:
    pages = pages_of(source)
    if pages is not None and pages.count > 1:
        note, offset = denoise_stack(source, output, pages, denoiser, options)
        return Made(note=note, offset=offset)
    picture = read_picture(source)
    denoised, offset = denoise_measured(denoiser, picture.seen)
    note = write_denoised(output, picture, denoised, options)
    return Made(note=joined(picture.note, profile_note(picture.image), note), offset=offset)
