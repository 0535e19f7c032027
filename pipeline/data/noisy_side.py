"""Which files of a tree are the noisy side, from their names alone: a clean file is not even opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.data.folders import SourceFile
from pipeline.data.layouts import PATTERNS, TITLES, members, pair_roots
from pipeline.data.paths import shown
from pipeline.errors import UserError

_SHEET = "contact_sheet.png"


class Sides(NamedTuple):
    """A tree, sorted into what may be trained on and what may not."""

    layout: str
    """What was asked for: ``auto``, ``plain`` or a layout."""

    found: dict[str, tuple[int, int]]
    """Each layout that was found -> how many noisy and how many clean files it has."""

    noisy: list[SourceFile]
    """Files to train on, in the order of the tree."""

    clean: list[SourceFile]
    """Files that are never opened because they show the scene without noise."""

    other: list[SourceFile]
    """Files on neither side: trained on with ``auto``, left out if the layout was named."""

    def told(self) -> str | None:
        """Return one line for the user, or None if the tree is of no known layout."""
        if not self.found:
            return None
        parts = [f"{TITLES[layout]} tree: {_counted(*counts)}" for layout, counts in self.found.items()]
        if self.other:
            what = f"{len(self.other)} {'image' if len(self.other) == 1 else 'images'} on neither side"
            one = f" (data.layout={next(iter(self.found))} leaves such images out)" if len(self.found) == 1 else ""
            parts.append(f"{what}: {'trained on too' + one if self.layout == 'auto' else 'left out'}")
        return "; ".join(parts)


def _counted(noisy: int, clean: int) -> str:
    what = f"{noisy} noisy {'image' if noisy == 1 else 'images'}"
    rest = {0: "no clean one among them", 1: "1 clean one is never opened"}
    return f"{what}, {rest.get(clean, f'{clean} clean ones are never opened')}"


def noisy_side(files: Sequence[SourceFile], layout: str = "auto") -> list[SourceFile]:
    """Return the files to train on without clean images; see `split_sides`."""
    return split_sides(files, layout).noisy


def split_sides(files: Sequence[SourceFile], layout: str = "auto") -> Sides:
    """Sort a tree by the names of its files.

    ``auto`` takes every file that no known layout calls clean. A layout that is named takes exactly the files that it
    calls noisy. ``plain`` takes all. A file that one layout calls clean is not taken, whatever another says.

    Args:
        files: what `pipeline.data.folders.scan` found.
        layout: ``auto``, ``plain``, ``sidd``, ``polyu``, ``pairs`` or ``nind``.

    Raises:
        UserError: nothing is left, or the files are the ``clean/`` of a ``noisy/`` beside it.
    """
    if layout == "plain":
        return Sides(layout, {}, list(files), [], [])
    asked = layout != "auto"
    found, noisy, clean = {}, set(), set()
    for name in [layout] if asked else TITLES:
        sorted_ = members(files, name, asked=asked)
        if sorted_:
            sides = {side: {member.file for member in sorted_ if member.side == side} for side in ("noisy", "clean")}
            noisy |= sides["noisy"]
            clean |= sides["clean"]
            found[name] = len(sides["noisy"]), len(sides["clean"])
    if not asked:
        _refuse_clean_half(files)
    # The sheet of `unveil synth` shows clean crops beside noisy ones.
    roots = pair_roots(files) if "pairs" in found else set()
    clean |= {file for file in files if file.relative.name == _SHEET and file.relative.parts[:-1] in roots}
    other = [file for file in files if file not in noisy and file not in clean]
    taken = [file for file in files if file not in clean and (file in noisy or not asked)]
    if not taken:
        raise UserError(_nothing_left(files, layout, list(found)))
    return Sides(layout, found, taken, [file for file in files if file in clean], other)


def _refuse_clean_half(files: Sequence[SourceFile]) -> None:
    for root in {_root(file) for file in files}:
        if root.name.casefold() == "clean" and (root.parent / "noisy").is_dir():
            raise UserError(
                f"{shown(root)}: expected noisy images, found the clean side of {shown(root.parent / 'noisy')}; "
                "train on that, or set data.layout=plain if these are noisy photos"
            )


def _root(file: SourceFile) -> Path:
    """Return the folder that was scanned."""
    return file.path.absolute().parents[len(file.relative.parts) - 1]


def _nothing_left(files: Sequence[SourceFile], layout: str, found: list[str]) -> str:
    known = "; ".join(f"{name}: {PATTERNS[name]}" for name in found or [layout])
    place = shown(_root(files[0]))
    plain = "data.layout=plain takes every image as noisy"
    if found:
        return f"{place}: expected noisy images, found only clean ones among its {len(files)} ({known}); {plain}"
    return f"{place}: expected images of data.layout={layout} ({known}), found none among its {len(files)}; {plain}"
