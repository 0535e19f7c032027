"""A raw file as planes in which noise is white: every n-th pixel of a mosaic, so that neighbours share one colour."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from raw.cfa import PLANES
from raw.levels import Levels, normalise
from raw.raw_file import RawFile

Array = NDArray[np.float32]

SMALLEST: Final = 32
_SITES: Final = 2
"""Planes of one colour that are taken from a large cell such as X-Trans."""

_TENTH: Final = 0.1
_PER_CODE: Final = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class RawPlanes:
    """Normalised planes of a raw file."""

    names: tuple[str, ...]
    """Of the planes, such as R, Gr, Gb, B."""

    planes: Array
    """(C, h, w), black 0, white 1, not clipped."""

    clips: tuple[tuple[float, float], ...]
    """(lowest, highest) level that the data can have, of each plane: of the integer 0 and of saturation."""

    step: float
    """Quantisation step, in normalised units."""

    border: Array | None
    """(4, h, w) masked border of a Bayer sensor, normalised."""

    white: bool
    """False if the planes were interpolated before they were stored: then their noise is not white."""

    notes: tuple[str, ...]
    """What is odd about the numbers."""


def raw_planes(raw: RawFile) -> RawPlanes | None:
    """Split a raw file into planes of one colour.

    Returns:
        None if its pixels are not there (kind ``other``), or are fewer than 32x32 in a plane.
    """
    border = None
    names: tuple[str, ...]
    blacks: tuple[float, ...]
    if raw.kind == "bayer" and raw.mosaic is not None:
        pixels = raw.mosaic
        names, planes, blacks = PLANES, normalise(pixels, raw), raw.black_levels
        border = _border(raw)
    elif raw.mosaic is not None and raw.cfa is not None:
        pixels = raw.mosaic
        names, planes, blacks = _sites(pixels, raw.cfa, raw)
    elif raw.linear is not None:
        pixels = raw.linear[..., 1]
        names, blacks = ("R", "G", "B"), _blacks(raw)
        planes = np.stack([_scaled(raw.linear[..., c], black, raw.white_level) for c, black in enumerate(blacks)])
    else:
        return None
    if min(planes.shape[1:]) < SMALLEST:
        return None
    clips = tuple((-black / (raw.white_level - black), _top(raw, black)) for black in blacks)
    low, high = code_steps(pixels)
    notes: tuple[str, ...] = ()
    if max(low, high) >= 2 * min(low, high):
        notes = (f"codes lie {low:.0f} apart in shadows and {high:.0f} in lights: stored after a tone curve",)
    return RawPlanes(
        names=names,
        planes=planes,
        clips=clips,
        step=max(1.0, min(low, high)) / (raw.white_level - min(blacks)),
        border=border,
        white=raw.kind != "linear",
        notes=notes,
    )


def code_steps(pixels: NDArray[np.uint16]) -> tuple[float, float]:
    """Distance of the codes that occur, around the darkest and the brightest fifth of the pixels; 1 if all do.

    Where too few pixels are for their codes to be told, 1.
    """
    counts = np.bincount(pixels.ravel(), minlength=1)
    total = np.cumsum(counts)
    steps = []
    for share in (0.2, 0.8):
        first, last = np.searchsorted(total, [(share + end) * total[-1] for end in (-_TENTH / 2, _TENTH / 2)])
        window = counts[first : last + 1]
        occupied = np.flatnonzero(window)
        told = len(occupied) > 2 and window.sum() >= _PER_CODE * len(occupied)
        steps.append(float(np.ptp(occupied)) / (len(occupied) - 1) if told else 1.0)
    return steps[0], steps[1]


def _sites(
    mosaic: NDArray[np.uint16], cfa: NDArray[np.uint8], raw: RawFile
) -> tuple[tuple[str, ...], Array, tuple[float, ...]]:
    """One plane per site of the cell, at most two of each colour."""
    rows, columns = cfa.shape
    height, width = mosaic.shape[0] // rows, mosaic.shape[1] // columns
    names, planes, blacks = [], [], []
    for color, (name, black) in enumerate(zip("RGB", _blacks(raw), strict=True)):
        for row, column in np.argwhere(cfa == color)[:_SITES]:
            names.append("grey" if cfa.size == 1 else name)
            plane = mosaic[row::rows, column::columns][:height, :width]
            planes.append(_scaled(plane, black, raw.white_level))
            blacks.append(black)
    return tuple(names), np.stack(planes), tuple(blacks)


def _border(raw: RawFile) -> Array | None:
    if raw.masked is None or raw.masked_pattern is None or min(raw.masked.shape) < 2:
        return None
    levels = Levels(pattern=raw.masked_pattern, black_levels=raw.black_levels, white_level=raw.white_level)
    return normalise(raw.masked, levels)


def _blacks(raw: RawFile) -> tuple[float, float, float]:
    return raw.black_levels[0], raw.black_levels[1], raw.black_levels[3]


def _scaled(pixels: NDArray[np.uint16], black: float, white: int) -> Array:
    return np.asarray((pixels.astype(np.float32) - np.float32(black)) / np.float32(white - black))


def _top(raw: RawFile, black: float) -> float:
    return (min(raw.saturation, raw.white_level) - black) / (raw.white_level - black)
