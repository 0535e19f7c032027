"""How public data sets name their noisy and their clean images: rules on names alone, so that no file is opened."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath
from typing import Literal, NamedTuple

from pipeline.data.folders import SourceFile

Side = Literal["noisy", "clean"]

TITLES = {"sidd": "SIDD", "polyu": "PolyU", "pairs": "noisy/clean", "nind": "NIND"}
"""Layouts, in the order in which they are looked for -> what a user is told."""

PATTERNS = {
    "sidd": "*NOISY_SRGB* and *GT_SRGB*",
    "polyu": "*_real.* and *_mean.* side by side, any letter case",
    "pairs": "noisy/ and clean/ with equal stems",
    "nind": "NIND_<scene>_ISO<value>, the lowest ISO of a scene is the clean one",
}
"""Layouts -> the names that make them."""

_SIDD = re.compile(r"(?:^|(?<=_))(noisy|gt)_srgb(?:_|$)", re.IGNORECASE)
_POLYU = re.compile(r"_(real|mean)$", re.IGNORECASE)
_NIND = re.compile(r"^NIND_(?P<scene>.+)_ISO(?P<high>H?)(?P<value>\d+)(?P<repeat>-\d+)?(?P<rest>_.*)?$", re.IGNORECASE)


class Member(NamedTuple):
    """A file that a layout knows."""

    file: SourceFile
    """The file."""

    side: Side
    """Which side of the data set it is on."""

    name: str
    """Relative path without suffix and, but for NIND, without what tells the side; with forward slashes."""

    scene: str
    """Equal for a noisy file and its clean partner."""


def members(files: Sequence[SourceFile], layout: str, *, asked: bool) -> list[Member]:
    """Return the files that belong to a layout, in the order of ``files``.

    Args:
        files: what `pipeline.data.folders.scan` found.
        layout: a key of `TITLES`.
        asked: the user named the layout, so that names are believed as they stand. Otherwise names that photos may
            have by chance count only where a folder as a whole is of that layout: ``_real`` and ``_mean`` if two
            files in it are partners, or all its files (two at least) carry such a name; ``noisy`` and ``clean`` if
            both folders lie side by side.
    """
    return list(_RULES[layout](files, asked))


def pair_roots(files: Sequence[SourceFile]) -> set[tuple[str, ...]]:
    """Return the folders that hold both ``noisy/`` and ``clean/``, as parts of their relative path."""
    sides: dict[tuple[str, ...], set[str]] = {}
    for file in files:
        for root, side, _ in _pair_folders(file):
            sides.setdefault(root, set()).add(side)
    return {root for root, found in sides.items() if len(found) == 2}


def _sidd(files: Sequence[SourceFile], _: bool) -> Iterator[Member]:
    # The names say it all, so it does not matter who says that this is SIDD.
    for file in files:
        if found := _SIDD.search(file.relative.stem):
            stem = (file.relative.stem[: found.start()] + file.relative.stem[found.end() :]).strip("_")
            name = file.relative.with_name(stem or "image").as_posix()
            yield Member(file, "noisy" if found[1].lower() == "noisy" else "clean", name, name)


def _polyu(files: Sequence[SourceFile], asked: bool) -> Iterator[Member]:
    found = []
    count: dict[PurePath, int] = {}
    for file in files:
        count[_folder(file)] = count.get(_folder(file), 0) + 1
        if mark := _POLYU.search(file.relative.stem):
            name = file.relative.with_name(file.relative.stem[: mark.start()] or "image").as_posix()
            found.append(Member(file, "noisy" if mark[1].lower() == "real" else "clean", name, name))
    by_folder: dict[PurePath, list[Member]] = {}
    for member in found:
        by_folder.setdefault(_folder(member.file), []).append(member)
    known = {
        folder
        for folder, inside in by_folder.items()
        if asked or _partners(inside) or len(inside) == count[folder] >= 2
    }
    yield from (member for member in found if _folder(member.file) in known)


def _partners(inside: Sequence[Member]) -> bool:
    scenes = {side: {member.scene for member in inside if member.side == side} for side in ("noisy", "clean")}
    return bool(scenes["noisy"] & scenes["clean"])


def _pairs(files: Sequence[SourceFile], asked: bool) -> Iterator[Member]:
    roots = pair_roots(files)
    for file in files:
        for root, side, rest in _pair_folders(file):
            if asked or root in roots:
                name = PurePath(*root, *rest[:-1], file.relative.stem).as_posix()
                yield Member(file, side, name, name)
                break


def _pair_folders(file: SourceFile) -> Iterator[tuple[tuple[str, ...], Side, tuple[str, ...]]]:
    parts = file.relative.parts
    for index, part in enumerate(parts[:-1]):
        if part.casefold() in ("noisy", "clean"):
            yield parts[:index], "noisy" if part.casefold() == "noisy" else "clean", parts[index + 1 :]


def _nind(files: Sequence[SourceFile], _: bool) -> Iterator[Member]:
    found = [(file, match) for file in files if (match := _NIND.match(file.relative.stem))]
    lowest: dict[str, tuple[bool, int]] = {}
    for _file, match in found:
        lowest[match["scene"]] = min(_iso(match), lowest.get(match["scene"], _iso(match)))
    for file, match in found:
        # Folders do not count: crops of NIND lie in a folder for each ISO.
        side: Side = "clean" if _iso(match) == lowest[match["scene"]] else "noisy"
        name = file.relative.with_suffix("").as_posix()
        yield Member(file, side, name, match["scene"] + (match["rest"] or ""))


def _iso(match: re.Match[str]) -> tuple[bool, int]:
    # H1, H2, ... are the extended values of some cameras: above all numbers.
    return bool(match["high"]), int(match["value"])


def _folder(file: SourceFile) -> PurePath:
    # A file that was named itself has a bare name, and so has one at the top of a tree.
    return file.path.parent


_RULES: dict[str, Callable[[Sequence[SourceFile], bool], Iterator[Member]]] = {
    "sidd": _sidd,
    "polyu": _polyu,
    "pairs": _pairs,
    "nind": _nind,
}
