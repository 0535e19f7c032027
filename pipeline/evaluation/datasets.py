"""Pairs of a noisy and a clean picture on disk, in the layouts that people have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, get_args

from pipeline.data.blocks import Block
from pipeline.data.folders import scan
from pipeline.data.images import read_header
from pipeline.data.layouts import PATTERNS, TITLES, Member, members, pair_roots
from pipeline.data.paths import shown
from pipeline.errors import UserError
from pipeline.evaluation.block_pairs import holds_blocks, open_block_pairs

Layout = Literal["auto", "pairs", "polyu", "sidd", "nind", "blocks"]
T = TypeVar("T")
_DESCRIPTIONS = {**PATTERNS, "blocks": "ValidationNoisyBlocksSrgb.mat and ValidationGtBlocksSrgb.mat"}


class Pair(NamedTuple):
    """One scene twice."""

    name: str
    """Path without suffix (and without ``_real`` or ``NOISY_SRGB``), relative to the data folder, with forward
    slashes; of blocks, ``image/block``."""

    noisy: Path | Block
    """The noisy picture."""

    clean: Path | Block
    """Its clean partner, of the same size."""


class PairSet(NamedTuple):
    """What a data folder holds."""

    layout: str
    """``pairs``, ``polyu``, ``sidd``, ``nind`` or ``blocks``."""

    pairs: list[Pair]
    """Sorted by name."""

    unpaired: list[Path]
    """Pictures without a partner; they are not evaluated."""


def find_pairs(folder: str | Path, layout: str = "auto") -> PairSet:
    """Find the pairs below a folder and check, by their headers, that the sizes agree.

    Args:
        folder: the data set.
        layout: ``pairs``: ``noisy/`` and ``clean/`` (also with sub-folders) with equal stems; ``polyu``:
            ``x_real.JPG`` beside ``x_mean.JPG`` in any letter case and any image format; ``sidd``: ``*NOISY_SRGB*``
            and ``*GT_SRGB*``; ``nind``: each ``NIND_<scene>_ISO<value>`` with the lowest ISO of its scene;
            ``blocks``: the two .mat files of SIDD's validation blocks; ``auto``: whichever fits.

    Raises:
        UserError: unknown layout, no pairs, pairs of several layouts, two candidates for one partner, or different
            sizes.
    """
    folder = Path(folder)
    if layout not in get_args(Layout):
        raise UserError(f"--layout: expected one of {', '.join(get_args(Layout))}, found {layout!r}")
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing there"
        raise UserError(f"{shown(folder)}: expected a folder of noisy and clean pictures, found {found}")
    if layout == "blocks" or (layout == "auto" and holds_blocks(folder)):
        return PairSet("blocks", [Pair(*pair) for pair in open_block_pairs(folder)], [])
    files = scan([folder])
    by_layout = {name: members(files, name, asked=True) for name in (TITLES if layout == "auto" else [layout])}
    matched = {name: _matched(found) for name, found in by_layout.items() if _both_sides(found)}
    if not matched:
        names = list(_DESCRIPTIONS) if layout == "auto" else [layout]
        known = "; ".join(f"{name}: {_DESCRIPTIONS[name]}" for name in names)
        raise UserError(f"{shown(folder)}: expected noisy and clean pictures ({known}), found no such two sides")
    fitting = [name for name, pairs in matched.items() if pairs]
    if not fitting:
        known = "; ".join(_DESCRIPTIONS[name] for name in matched)
        raise UserError(f"{shown(folder)}: expected pairs ({known}), found none that match")
    if len(fitting) > 1 and "pairs" in fitting and () in pair_roots(files):
        fitting = ["pairs"]  # noisy/ and clean/ at the top: whatever the names below say, this is how they are meant
    if len(fitting) > 1:
        counts = " and ".join(f"{len(matched[name])} of {name}" for name in fitting)
        raise UserError(f"{shown(folder)}: expected pairs of one layout, found {counts}; choose with --layout")
    chosen = fitting[0]
    pairs = sorted(matched[chosen])
    for pair in pairs:
        _check_sizes(pair)
    used = {path for pair in pairs for path in (pair.noisy, pair.clean)}
    lonely = [member for member in by_layout[chosen] if member.file.path not in used]
    lonely.sort(key=lambda member: member.side == "clean")
    return PairSet(chosen, pairs, [member.file.path for member in lonely])


def holds_pairs(folder: str | Path) -> bool:
    """Tell whether a folder looks like pairs (then `find_pairs` may still refuse it) or like photos alone."""
    folder = Path(folder)
    if not folder.is_dir():
        return False
    if holds_blocks(folder):
        return True
    files = scan([folder])
    return any(_both_sides(members(files, name, asked=False)) for name in TITLES)


def spread(pictures: list[T], limit: int | None) -> list[T]:
    """Return at most ``limit`` of them, evenly spaced, so that a few stand for all scenes."""
    if limit is None or limit >= len(pictures):
        return pictures
    if limit < 1:
        raise UserError(f"--limit: expected at least 1, found {limit}")
    return [pictures[index * len(pictures) // limit] for index in range(limit)]


def _both_sides(found: Sequence[Member]) -> bool:
    return len({member.side for member in found}) == 2


def _matched(found: Sequence[Member]) -> list[Pair]:
    """Return each noisy file with its clean partner, where there is one."""
    clean: dict[str, Member] = {}
    noisy: dict[str, Member] = {}
    # NIND may have taken the clean side several times; the shortest name (without -1, -2 ...) is the reference.
    for member in sorted(found, key=lambda member: (len(member.name), member.file.relative.as_posix())):
        taken = clean if member.side == "clean" else noisy
        other = taken.setdefault(member.scene if member.side == "clean" else member.name, member)
        if other is not member and (member.side == "noisy" or member.scene == member.name):
            raise UserError(
                f"{shown(member.file.path)}: expected one picture of this name, found also {shown(other.file.path)}"
            )
    return [
        Pair(member.name, member.file.path, clean[member.scene].file.path)
        for member in noisy.values()
        if member.scene in clean
    ]


def _check_sizes(pair: Pair) -> None:
    assert isinstance(pair.noisy, Path)
    assert isinstance(pair.clean, Path)
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
