"""SIDD's validation blocks: two MATLAB files, a noisy and a clean one, of 1280 blocks each."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pipeline.data.blocks import Block, open_blocks
from pipeline.data.paths import shown
from pipeline.errors import UserError

_NAMES = ("ValidationNoisyBlocks", "ValidationGtBlocks")


class BlockPair(NamedTuple):
    """A noisy block and its clean partner."""

    name: str
    """``image/block``, two digits each."""

    noisy: Block
    """The noisy one."""

    clean: Block
    """The clean one."""


def holds_blocks(folder: Path) -> bool:
    """Tell whether a folder holds one of the files of validation blocks, sRGB or raw."""
    return any(_found(folder, name + kind) for name in _NAMES for kind in ("Srgb", "Raw"))


def block_files(folder: Path) -> list[Path]:
    """Return the noisy and the clean file of a folder.

    Raises:
        UserError: one is missing, or they are of raw data.
    """
    files = [_found(folder, name + "Srgb") for name in _NAMES]
    if None in files:
        raw = any(_found(folder, name + "Raw") for name in _NAMES)
        found = "raw blocks, for which there are no networks and metrics here" if raw and not any(files) else "not both"
        raise UserError(f"{shown(folder)}: expected {_NAMES[0]}Srgb.mat and {_NAMES[1]}Srgb.mat, found {found}")
    return [file for file in files if file is not None]


def open_block_pairs(folder: Path) -> list[BlockPair]:
    """Pair the blocks of the two files; the arrays are read when the first block of each is wanted, and once.

    Raises:
        UserError: as for `block_files`, or the two files have different shapes.
    """
    noisy, clean = map(open_blocks, block_files(folder))
    if noisy.shape != clean.shape:
        raise UserError(
            f"{shown(noisy.path)}: expected the shape of {shown(clean.path)} {clean.shape}, found {noisy.shape}"
        )
    count = noisy.shape[1]
    return [
        BlockPair(f"{index // count:02d}/{index % count:02d}", Block(noisy, index), Block(clean, index))
        for index in range(len(noisy))
    ]


def _found(folder: Path, stem: str) -> Path | None:
    wanted = f"{stem}.mat".casefold()
    return next((path for path in sorted(folder.iterdir()) if path.name.casefold() == wanted and path.is_file()), None)
