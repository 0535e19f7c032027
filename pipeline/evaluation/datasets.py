"""Pairs of a noisy and a clean picture on disk, in the layouts that people have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from pipeline.data.folders import SourceFile, scan
from pipeline.data.images import read_header
from pipeline.data.paths import shown
from pipeline.errors import UserError

Layout = Literal["auto", "pairs", "polyu"]
_DESCRIPTIONS = {
    "pairs": "noisy/ and clean/ with equal stems",
    "polyu": "*_real.* and *_mean.* side by side, any letter case",
}
_NOISY_MARK, _CLEAN_MARK = "_real", "_mean"


class Pair(NamedTuple):
    """One scene twice."""

    name: str
    """Path without suffix (and without ``_real``), relative to the data folder, with forward slashes."""

    noisy: Path
    """The noisy picture."""

    clean: Path
    """Its clean partner, of the same size."""


class PairSet(NamedTuple):
    """What a data folder holds."""

    layout: str
    """``pairs`` or ``polyu``."""

    pairs: list[Pair]
    """Sorted by name."""

    unpaired: list[Path]
    """Pictures without a partner; they are not evaluated."""


def find_pairs(folder: str | Path, layout: str = "auto") -> PairSet:
    """Find the pairs below a folder and check, by their headers, that the sizes agree.

    Args:
        folder: the data set.
        layout: ``pairs``: ``noisy/`` and ``clean/`` (also with sub-folders) with equal stems; ``polyu``:
            ``x_real.JPG`` beside ``x_mean.JPG`` in any letter case and any image format; ``auto``: whichever
            fits.

    Raises:
        UserError: unknown layout, no pairs, two candidates for one partner, or different sizes.
    """
    folder = Path(folder)
    if layout not in get_args(Layout):
        raise UserError(f"--layout: expected one of {', '.join(get_args(Layout))}, found {layout!r}")
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing there"
        raise UserError(f"{shown(folder)}: expected a folder of noisy and clean pictures, found {found}")
    if layout == "auto":
        layout = "pairs" if _is_pairs(folder) else "polyu"
        noisy, clean = _collect(folder, layout)
        if not noisy or not clean:
            known = "; ".join(f"{name}: {text}" for name, text in _DESCRIPTIONS.items())
            raise UserError(f"{shown(folder)}: expected noisy and clean pictures ({known}), found neither layout")
    else:
        noisy, clean = _collect(folder, layout)
    names = sorted(noisy.keys() & clean.keys())
    if not names:
        raise UserError(f"{shown(folder)}: expected pairs ({_DESCRIPTIONS[layout]}), found none that match")
    pairs = [Pair(name, noisy[name].path, clean[name].path) for name in names]
    for pair in pairs:
        _check_sizes(pair)
    lonely = [files[name].path for files in (noisy, clean) for name in sorted(files.keys() - set(names))]
    return PairSet(layout, pairs, lonely)


def holds_pairs(folder: str | Path) -> bool:
    """Tell whether a folder looks like pairs (then `find_pairs` may still refuse it) or like photos alone."""
    folder = Path(folder)
    if not folder.is_dir() or _is_pairs(folder):
        return folder.is_dir()
    return all(_collect(folder, "polyu"))


def spread(pairs: list[Pair], limit: int | None) -> list[Pair]:
    """Return at most ``limit`` pairs, evenly spaced, so that a few stand for all scenes."""
    if limit is None or limit >= len(pairs):
        return pairs
    if limit < 1:
        raise UserError(f"--limit: expected at least 1, found {limit}")
    return [pairs[index * len(pairs) // limit] for index in range(limit)]


def _is_pairs(folder: Path) -> bool:
    return (folder / "noisy").is_dir() and (folder / "clean").is_dir()


def _collect(folder: Path, layout: str) -> tuple[dict[str, SourceFile], dict[str, SourceFile]]:
    if layout == "pairs":
        if not _is_pairs(folder):
            raise UserError(f"{shown(folder)}: expected {_DESCRIPTIONS['pairs']}, found no such two folders")
        return (
            _keyed(scan([folder / "noisy"]), lambda file: _stem(file.relative)),
            _keyed(scan([folder / "clean"]), lambda file: _stem(file.relative)),
        )
    files = scan([folder])

    def marked(mark: str) -> dict[str, SourceFile]:
        chosen = [file for file in files if file.relative.stem.lower().endswith(mark)]
        return _keyed(chosen, lambda file: _stem(file.relative)[: -len(mark)])

    return marked(_NOISY_MARK), marked(_CLEAN_MARK)


def _stem(relative: Path) -> str:
    return relative.with_suffix("").as_posix()


def _keyed(files: list[SourceFile], key: Callable[[SourceFile], str]) -> dict[str, SourceFile]:
    keyed: dict[str, SourceFile] = {}
    for file in files:
        other = keyed.setdefault(key(file), file)
        if other is not file:
            raise UserError(f"{shown(file.path)}: expected one picture of this name, found also {shown(other.path)}")
    return keyed


def _check_sizes(pair: Pair) -> None:
    noisy, clean = read_header(pair.noisy), read_header(pair.clean)
    if (noisy.height, noisy.width) != (clean.height, clean.width):
        raise UserError(
            f"{shown(pair.noisy)}: expected the size of {shown(pair.clean)} ({clean.width}x{clean.height}), "
            f"found {noisy.width}x{noisy.height}"
        )
    if min(noisy.channels, 3) // 3 != min(clean.channels, 3) // 3:
        raise UserError(
            f"{shown(pair.noisy)}: expected the channels of {shown(pair.clean)} ({clean.channels}), "
            f"found {noisy.channels}"
        )
