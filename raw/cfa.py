"""Bayer colour filter arrays: which pixel of a 2x2 cell carries which colour."""

from typing import Final, Literal, get_args

CFAPattern = Literal["RGGB", "BGGR", "GRBG", "GBRG"]
"""The colours of a 2x2 cell in reading order: (0, 0), (0, 1), (1, 0), (1, 1)."""

CFA_PATTERNS: Final[tuple[CFAPattern, ...]] = get_args(CFAPattern)

PLANES: Final = ("R", "Gr", "Gb", "B")
"""Order of the planes of a packed raw. Gr is the green of the red rows, Gb that of the blue rows."""

Site = tuple[int, int]
"""(row, column) inside the 2x2 cell, each 0 or 1."""


def plane_sites(pattern: CFAPattern) -> tuple[Site, Site, Site, Site]:
    """Sites of the planes R, Gr, Gb, B in the 2x2 cell of ``pattern``.

    Raises:
        ValueError: ``pattern`` is not one of ``CFA_PATTERNS``.
    """
    if pattern not in CFA_PATTERNS:
        raise ValueError(f"pattern must be one of {', '.join(CFA_PATTERNS)}, got {pattern!r}")
    row, column = divmod(pattern.index("R"), 2)
    return (row, column), (row, 1 - column), (1 - row, column), (1 - row, 1 - column)


def shifted(pattern: CFAPattern, top: int, left: int) -> CFAPattern:
    """Pattern of the mosaic that starts at row ``top`` and column ``left`` of one with ``pattern``.

    Only the parities matter: a crop at even offsets keeps its pattern. A flip of an even width shifts by one
    column (RGGB becomes GRBG), a flip of an odd width by none; likewise for rows.
    """
    sites = plane_sites(pattern)
    row, column = (sites[0][0] + top) % 2, (sites[0][1] + left) % 2
    return next(name for name in CFA_PATTERNS if plane_sites(name)[0] == (row, column))
