"""The blocks of the SIDD validation and benchmark files: one array of (images, blocks, height, width, 3)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.mat import read_variable, variables
from pipeline.data.paths import shown
from pipeline.errors import UserError


class Blocks:
    """A file of sRGB blocks: its shape is known from the start, its array is read once, when a block is wanted.

    Args:
        path: a MATLAB file whose variable has the name of the file, as (I, B, H, W, 3) uint8.

    Raises:
        UserError: no such file or variable, blocks of raw data, or another shape or type.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            found = "a folder" if path.is_dir() else "nothing there"
            raise UserError(f"{shown(path)}: expected a MATLAB file of SIDD blocks, found {found}")
        known = variables(path)
        # A copy may have been renamed; the variable has not.
        name = path.stem if path.stem in known else next((key for key in known if "Blocks" in key), None)
        if name is None:
            raise UserError(f"{shown(path)}: expected the variable {path.stem!r}, found {', '.join(known) or 'none'}")
        self.name = name
        """Name of the variable."""
        self.shape = known[name].shape
        """(images, blocks an image, height, width, 3)."""
        dtype = known[name].dtype
        if len(self.shape) == 4 and dtype.startswith("float"):
            raise UserError(
                f"{shown(path)}: expected sRGB blocks, found raw ones ({name}, {_text(self.shape)} {dtype}); networks "
                "and metrics here are for sRGB, so use the file that ends in Srgb.mat"
            )
        if len(self.shape) != 5 or self.shape[4] != 3 or 0 in self.shape or dtype != "uint8":
            raise UserError(
                f"{shown(path)}: expected {name} as (images, blocks, height, width, 3) uint8, found "
                f"{_text(self.shape)} {dtype}"
            )
        self._array: NDArray[np.uint8] | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.shape[0] * self.shape[1]

    def __reduce__(self) -> tuple[Callable[[Path], Blocks], tuple[Path]]:
        # Whoever gets a block of it in another process opens the file there, once for all blocks.
        return open_blocks, (self.path.absolute(),)

    def block(self, index: int) -> NDArray[np.uint8]:
        """Return block ``index`` as (H, W, 3) uint8; index = image * blocks an image + block."""
        with self._lock:
            if self._array is None:
                self._array = read_variable(self.path, self.name)
        image, block = divmod(index, self.shape[1])
        return np.ascontiguousarray(self._array[image, block])


def open_blocks(path: Path) -> Blocks:
    """Open a file of blocks, or return it if it was opened and has not changed since.

    Raises:
        UserError: as for `Blocks`.
    """
    return _opened(path, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=2)
def _opened(path: Path, _changed: int) -> Blocks:
    # Pictures of a report are made after the numbers: a quarter of a gigabyte should not be read again for them.
    return Blocks(path)


@dataclass(frozen=True)
class Block:
    """One picture of a file of blocks."""

    blocks: Blocks
    """The file."""

    index: int
    """Which of its blocks."""

    def __str__(self) -> str:
        image, block = divmod(self.index, self.blocks.shape[1])
        return f"{self.blocks.path} (image {image}, block {block})"

    def pixels(self) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8."""
        return self.blocks.block(self.index)


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
