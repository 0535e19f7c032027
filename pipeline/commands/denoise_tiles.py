"""``unveil denoise --tile`` and ``--verify-tiles``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.data.folders import SourceFile
    from pipeline.inference.denoiser import NetworkDenoiser

_SIDES: Final = (16, 1 << 16)


def tile_side(text: str) -> int | None:
    """Return the side that ``--tile`` asks for; None for ``auto``.

    Raises:
        UserError: neither ``auto`` nor a side.
    """
    if text == "auto":
        return None
    if not text.isascii() or not text.isdigit() or not _SIDES[0] <= int(text) <= _SIDES[1]:
        raise UserError(f"--tile: expected auto or a whole number from {_SIDES[0]} to {_SIDES[1]}, found {text!r}")
    return int(text)


def run_verify(denoiser: NetworkDenoiser, files: Sequence[SourceFile], *, json_output: bool) -> int:
    """Compare tiles with one piece for each file, say what was found, and return the exit code.

    0: as good as equal; 1: some file is not, or none could be read; 3: some could not be read.
    """
    from pipeline.console import console, print_json
    from pipeline.inference.verify_tiles import verify_all

    found, failures = verify_all(denoiser, [file.path for file in files])
    for failure in failures:
        console.print(f"failed: {failure}", markup=False, style="red", soft_wrap=True)
    equal = all(one.equal for one in found)
    if json_output:
        print_json({"verified": [one.to_dict() for one in found], "failures": failures, "equal": equal})
    else:
        for one in found:
            console.print(one.told(), markup=False, soft_wrap=True)
    if not found or not equal:
        return 1
    return 3 if failures else 0
