"""Denoise many files: the tree is mirrored, no input is ever written to, a bad file stops nobody."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pipeline.data.failures import failure_line
from pipeline.data.folders import SourceFile
from pipeline.data.images import WRITABLE, read_image, to_float
from pipeline.data.paths import confined, shown
from pipeline.errors import UserError
from pipeline.inference.denoiser import Denoiser
from pipeline.inference.offset import denoise_measured, told
from pipeline.inference.written import write_denoised
from raw.files import RAW_SUFFIXES

OUTPUT_FORMATS = {"png": ".png", "tiff": ".tif", "tif": ".tif", "jpeg": ".jpg", "jpg": ".jpg"}
"""Values of ``--format`` and the suffix that each one gives."""


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
        """Return each note once, with the number of files that have it."""
        return dict(Counter(file.note for file in self.files if file.note is not None))

    def told(self, out: str) -> list[str]:
        """Return the counts as a sentence, each note once, and offsets; ``out`` is the folder, as shown."""
        parts = [f"{self.count('ok')} written to {out}"]
        if skipped := self.count("skipped"):
            parts.append(f"{skipped} there already and left alone (--overwrite replaces them)")
        if failed := self.count("failed"):
            parts.append(f"{failed} failed")
        counted = ((f"{count} {'file' if count == 1 else 'files'}", note) for note, count in self.notes().items())
        lines = [", ".join(parts), *(f"{files}: {note}" for files, note in counted)]
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
    *,
    suffix: str = "",
    format: str | None = None,
    overwrite: bool = False,
    on_progress: Callable[[FileResult], None] | None = None,
) -> FilesSummary:
    """Denoise every source into ``out``, mirroring the tree; size, depth and metadata stay as they were.

    All output paths are planned and checked before the first file is read.

    Args:
        sources: what `pipeline.data.folders.scan` found.
        denoiser: called with each picture.
        out: folder to write to; created.
        suffix: put between the stem and the file suffix of every output.
        format: ``png``, ``tiff`` or ``jpeg``; None keeps each file's own (raw files become 16-bit TIFF, BMP
            and WebP become PNG).
        overwrite: replace outputs that exist; otherwise those files are skipped.
        on_progress: called after each file.

    Returns:
        What became of each file; a file that fails is listed and the rest goes on.

    Raises:
        UserError: an output would be an input, would leave ``out``, or two sources would share one.
        RunError: the disk is full or read-only, so that no other file could succeed.
    """
    outputs = plan_outputs(sources, out, suffix=suffix, format=format)
    convert = partial(_denoise_file, denoiser)
    return convert_files(sources, outputs, convert, overwrite=overwrite, on_progress=on_progress)


def convert_files(
    sources: Sequence[SourceFile],
    outputs: Sequence[Path],
    convert: Callable[[Path, Path], Made],
    *,
    overwrite: bool = False,
    on_progress: Callable[[FileResult], None] | None = None,
) -> FilesSummary:
    """Make one output from each source; a file that fails is listed and the rest goes on.

    Args:
        sources: what is read.
        outputs: what is written, of `plan_outputs`.
        convert: called with the two paths; makes folder and file, raises what it cannot do.
        overwrite: replace outputs that exist; otherwise those files are skipped.
        on_progress: called after each file.

    Raises:
        RunError: the disk is full or read-only, so that no other file could succeed.
    """
    results = []
    for source, output in zip(sources, outputs, strict=True):
        result = _convert_file(source.path, output, convert, overwrite)
        results.append(result)
        if on_progress is not None:
            on_progress(result)
    return FilesSummary(files=tuple(results))


def plan_outputs(
    sources: Sequence[SourceFile],
    out: Path,
    *,
    suffix: str = "",
    format: str | None = None,
    formats: Mapping[str, str] = OUTPUT_FORMATS,
) -> list[Path]:
    """Return one output path a source; see `denoise_files` for the rules and errors.

    ``formats`` has the values that ``format`` may take, and the suffix that each one gives.
    """
    if format is not None and format not in formats:
        raise UserError(f"--format: expected one of {', '.join(formats)}, found {format!r}")
    given = None if format is None else formats[format]
    if "/" in suffix or os.sep in suffix or "\0" in suffix:
        raise UserError(f"--suffix: expected text without a path separator, found {suffix!r}")
    if out.exists() and not out.is_dir():
        raise UserError(f"{shown(out)}: expected a folder to write to, found a file")
    names = [_relative_output(source.relative, suffix, given) for source in sources]
    keys = [_key(name) for name in names]
    # a.png and a.jpg would meet in a.png: both then keep their whole name, as a.png.png and a.jpg.png.
    names = [
        name if keys.count(key) == 1 else _relative_output(source.relative, suffix, given, whole=True)
        for source, name, key in zip(sources, names, keys, strict=True)
    ]
    _refuse_shared(sources, names)
    outputs = [confined(out, name) for name in names]
    _refuse_inputs(sources, outputs)
    return outputs


def _relative_output(relative: Path, suffix: str, given: str | None, *, whole: bool = False) -> Path:
    own = relative.suffix
    if given is not None:
        # .JPG stays .JPG when JPEG is asked for.
        kept = own.lower() in WRITABLE and WRITABLE[own.lower()] == WRITABLE.get(given)
        ending = own if kept else given
    elif own.lower() in WRITABLE:
        ending = own
    else:
        ending = ".tif" if own.lower() in RAW_SUFFIXES else ".png"
    stem = relative.name if whole else relative.stem
    return relative.with_name(stem + suffix + ending)


def _key(name: Path) -> str:
    # Many file systems do not tell upper from lower case.
    return name.as_posix().casefold()


def _refuse_shared(sources: Sequence[SourceFile], names: Sequence[Path]) -> None:
    taken: dict[str, Path] = {}
    for source, name in zip(sources, names, strict=True):
        other = taken.setdefault(_key(name), source.path)
        if other is not source.path:
            raise UserError(
                f"{shown(source.path)}: expected an output of its own, found that {shown(other)} has "
                f"the same one ({shown(name)}); denoise the two into different folders"
            )


def _refuse_inputs(sources: Sequence[SourceFile], outputs: Sequence[Path]) -> None:
    paths = {source.path.resolve() for source in sources}
    identities = {_identity(source.path) for source in sources} - {None}
    for output in outputs:
        if output.resolve() in paths or _identity(output) in identities:
            raise UserError(
                f"{shown(output)}: expected an output that is no input, found an input; use another --out, or --suffix"
            )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _convert_file(source: Path, output: Path, convert: Callable[[Path, Path], Made], overwrite: bool) -> FileResult:
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
    if not overwrite and os.path.lexists(output):
        return result("skipped", f"{shown(output)}: exists; pass --overwrite to replace it")
    try:
        made = convert(source, output)
    except (UserError, OSError, ValueError, RuntimeError, MemoryError) as error:
        # RuntimeError covers a GPU out of memory: the next picture may be smaller.
        return result("failed", failure_line(error, source, output))
    return result("ok")


def _denoise_file(denoiser: Denoiser, source: Path, output: Path) -> Made:
    image = read_image(source)
    denoised, offset = denoise_measured(denoiser, to_float(image.pixels))
    write_denoised(output, image, denoised)
    return Made(note=image.note, offset=offset)
