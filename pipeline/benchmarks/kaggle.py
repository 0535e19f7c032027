"""The CSV that the SIDD competitions on Kaggle take: ``ID,BLOCK``, each block as base64 of its bytes."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.images import replacing
from pipeline.data.paths import shown
from pipeline.errors import RunError

HEADER = "ID,BLOCK"


def write_csv(path: Path, blocks: Iterable[NDArray[np.uint8]]) -> str:
    """Write blocks, numbered from 0 in their order, as base64 of their bytes, rows first (C order).

    The file appears under its name when it is whole. Returns the SHA-256 of all bytes of all blocks.
    """
    digest = hashlib.sha256()
    with replacing(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as file:
        file.write(HEADER + "\n")
        for index, block in enumerate(blocks):
            data = np.ascontiguousarray(block).tobytes()
            digest.update(data)
            file.write(f"{index},{base64.b64encode(data).decode('ascii')}\n")
    return digest.hexdigest()


def read_csv(path: Path, count: int, size: int) -> Iterator[bytes]:
    """Read a submission as the server does, block by block, and check its form.

    Args:
        path: the CSV; lines may end as on Windows.
        count: blocks that it must hold.
        size: bytes of each block.

    Raises:
        RunError: names the line that is not as it must be.
    """
    found = -1
    with path.open(encoding="ascii", errors="replace", newline="") as file:
        for found, line in enumerate(file, start=-1):
            line = line.rstrip("\r\n")
            if found < 0:
                _expect(line == HEADER, path, 1, f"the header {HEADER}", ascii(line[:40]))
                continue
            number, _, text = line.partition(",")
            _expect(number == str(found), path, found + 2, f"ID {found}", ascii(number[:40]))
            try:
                data = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError) as error:
                raise RunError(f"{shown(path)}: line {found + 2}: expected base64, found {error}") from error
            _expect(len(data) == size, path, found + 2, f"{size} bytes", str(len(data)))
            _expect(found < count, path, found + 2, f"{count} blocks", "more")
            yield data
    _expect(found + 1 == count, path, found + 2, f"{count} blocks", str(found + 1))


def check_csv(path: Path, count: int, size: int) -> str:
    """Read a submission and return the SHA-256 of all bytes of all blocks, to be compared with that of `write_csv`.

    Raises:
        RunError: as for `read_csv`.
    """
    digest = hashlib.sha256()
    for data in read_csv(path, count, size):
        digest.update(data)
    return digest.hexdigest()


def first_size(path: Path) -> int | None:
    """Return the bytes of the first block, which tell sRGB from raw; None if there is none."""
    with path.open(encoding="ascii", errors="replace", newline="") as file:
        file.readline()
        _, _, text = file.readline().rstrip("\r\n").partition(",")
    try:
        return len(base64.b64decode(text, validate=True)) or None
    except (binascii.Error, ValueError):
        return None


def _expect(right: bool, path: Path, line: int, expected: str, found: str) -> None:
    if not right:
        raise RunError(f"{shown(path)}: line {line}: expected {expected}, found {found}")
