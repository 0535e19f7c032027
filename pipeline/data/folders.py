"""Find the pictures below some paths, in an order that no file system can change."""

from __future__ import annotations

import fnmatch
import hashlib
import logging
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.data.images import IMAGE_SUFFIXES
from pipeline.data.paths import shown
from pipeline.errors import UserError

_log = logging.getLogger(__name__)


class SourceFile(NamedTuple):
    """A picture to read and the place that it has in its tree."""

    path: Path
    """Where to read it."""

    relative: Path
    """Path below the folder that was scanned, or the bare name of a file that was named itself."""


def scan(
    paths: Sequence[str | Path],
    *,
    recursive: bool = True,
    exclude: Sequence[str | Path] = (),
    suffixes: Collection[str] = IMAGE_SUFFIXES,
) -> list[SourceFile]:
    """List the pictures in files and folders, sorted by relative path.

    Hidden files and folders are skipped. Links to folders are never followed (so no loop can trap us), and
    links to files only when the target lies inside the same tree; a path in ``paths`` may itself be a link.

    Args:
        paths: files (taken whatever their suffix) and folders (searched for ``suffixes``).
        recursive: also search sub-folders.
        exclude: a `Path` leaves out that file or everything below that folder; a string is a pattern such
            as ``*_mean.*`` or ``thumbs/*`` for the relative path with forward slashes.
        suffixes: in lower case with the dot, those of the files that are taken in folders.

    Raises:
        UserError: a path does not exist, or nothing was found.
    """
    found: dict[Path, SourceFile] = {}
    skipped = 0
    excluded = [path.resolve() for path in exclude if isinstance(path, Path)]
    patterns = [pattern for pattern in exclude if isinstance(pattern, str)]
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"{shown(path)}: expected a file or a folder, found nothing there")
        if not path.is_dir():
            found.setdefault(path.absolute(), SourceFile(path, Path(path.name)))
            continue
        root = path.resolve()
        for file in _walk(path, recursive, suffixes):
            relative = file.relative_to(path)
            if _left_out(file, relative, excluded, patterns):
                continue
            if file.is_symlink() and not _stays_inside(file, root):
                skipped += 1
                continue
            found.setdefault(file.absolute(), SourceFile(file, relative))
    if skipped:
        _log.warning("skipped %d broken links or links that lead out of their folder", skipped)
    if not found:
        raise UserError(_nothing_found(paths, skipped, recursive, suffixes))
    return sorted(found.values(), key=lambda source: (source.relative.as_posix(), os.fspath(source.path)))


def manifest_hash(files: Sequence[SourceFile]) -> str:
    """Hash names and contents of a file list: equal for equal data, wherever the folder lies.

    Returns:
        64 hexadecimal digits: SHA-256 over the sorted lines ``sha256-of-content relative/path``.
    """
    lines = []
    for source in files:
        digest = file_hash(source.path)
        name = os.fsencode(source.relative.as_posix())
        # The length makes the boundary unambiguous: names may hold newlines.
        lines.append(digest.encode() + b" %d " % len(name) + name + b"\n")
    return hashlib.sha256(b"".join(sorted(lines))).hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _walk(folder: Path, recursive: bool, suffixes: Collection[str]) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        place = shown(error.filename or folder)
        raise UserError(f"{place}: expected a readable folder, found: {error.strerror}") from error

    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if recursive else []
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                yield Path(parent) / name


def _left_out(file: Path, relative: Path, folders: list[Path], patterns: list[str]) -> bool:
    if any(fnmatch.fnmatchcase(relative.as_posix(), pattern) for pattern in patterns):
        return True
    if not folders:
        return False
    try:
        place = file.resolve()
    except (OSError, RuntimeError):  # a link that leads to itself
        place = file
    return any(place.is_relative_to(folder) for folder in folders)


def _stays_inside(link: Path, root: Path) -> bool:
    try:
        return link.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):  # broken, or a loop
        return False


def _nothing_found(paths: Sequence[str | Path], skipped: int, recursive: bool, suffixes: Collection[str]) -> str:
    places = ", ".join(shown(path) for path in paths) or "no path"
    kinds = ", ".join(sorted(suffix.lstrip(".") for suffix in suffixes))
    links = f" apart from {skipped} links that lead out of the folder" if skipped else ""
    depth = "" if recursive else ", sub-folders not searched"
    return f"{places}: expected pictures ({kinds}{depth}), found none{links}"
