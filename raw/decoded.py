"""Pixels and levels of a raw file that LibRaw has decoded: what they are, and whether they agree."""

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raw.cfa import CFA_PATTERNS, CFAPattern, plane_sites
from raw.dng_tags import Tags
from raw.raw_file import Kind
from raw.sensor_checks import clipping_level, contradicted_black, histograms, masked_border

Decoded = Any
"""A ``rawpy.RawPy``, which ``raw.files`` alone may import."""

FourLevels = tuple[float, float, float, float]

_PLANE_INDICES: Final = (0, 1, 3, 2)
"""LibRaw's colour indices in the order R, Gr, Gb, B."""


class Pixels(NamedTuple):
    """The visible pixels, as one of mosaic and linear; neither if they are of no use here."""

    kind: Kind
    cfa: NDArray[np.uint8] | None = None
    mosaic: NDArray[np.uint16] | None = None
    linear: NDArray[np.uint16] | None = None
    masked: NDArray[np.uint16] | None = None
    masked_at: tuple[int, int] = (0, 0)
    notes: tuple[str, ...] = ()


class FileLevels(NamedTuple):
    """Levels in the units of the pixels."""

    black: FourLevels
    white: int
    saturation: int
    notes: tuple[str, ...]


def read_pixels(raw: Decoded) -> Pixels:
    """Copy the visible pixels and the optically black border, and tell what they are."""
    sensor, sizes = raw.raw_image, raw.sizes
    top, left = int(sizes.top_margin), int(sizes.left_margin)
    box = slice(top, top + int(sizes.height)), slice(left, left + int(sizes.width))
    visible = sensor[box]
    if visible.shape[:2] != (sizes.height, sizes.width) or min(visible.shape[:2]) < 2:
        return _refused("pixels in no upright rectangle, as on rotated sensors")
    if visible.ndim == 3:
        if raw.num_colors != 3 or visible[..., 3:].any():
            return _refused("four colours at every pixel")
        return Pixels("linear", linear=visible[..., :3].astype(np.uint16, order="C", copy=True))
    side = len(raw.raw_pattern)
    # Asked for at the visible origin: LibRaw's own 6x6 pattern is read beyond its table if margins are wide.
    indices = np.array([[raw.raw_color(top + i, left + j) for j in range(side)] for i in range(side)])
    colors = raw.color_desc[:4].decode("latin-1")
    kind: Kind = "mono" if side == 1 else "bayer" if side == 2 else "xtrans"
    if kind == "mono":
        cfa = np.ones((1, 1), dtype=np.uint8)
    elif colors != "RGBG" or indices.max() > 3 or side not in (2, 6):
        return _refused(f"a {side}x{side} mosaic of {colors}, neither Bayer nor X-Trans")
    else:
        cfa = np.where(indices == 3, 1, indices).astype(np.uint8)
        if side == 2 and pattern_of(cfa) is None:
            return _refused("a 2x2 mosaic that is no Bayer pattern")
        if len(np.unique(cfa)) < 3:
            return _refused(f"a {side}x{side} mosaic without all of red, green and blue")
    border = masked_border(sensor, box)
    return Pixels(
        kind,
        cfa=cfa,
        mosaic=visible.astype(np.uint16, order="C", copy=True),
        masked=None if border is None else sensor[border].astype(np.uint16, order="C", copy=True),
        masked_at=(0, 0) if border is None else (border[0].start - top, border[1].start - left),
    )


def _refused(reason: str) -> Pixels:
    return Pixels("other", notes=(reason,))


def pattern_of(cfa: NDArray[np.uint8] | None) -> CFAPattern | None:
    """The name of a 2x2 cell of colours, or None if it is no Bayer pattern."""
    name = "".join("RGB"[color] for color in cfa.flat) if cfa is not None else ""
    return next((pattern for pattern in CFA_PATTERNS if pattern == name), None)


def read_levels(raw: Decoded, pixels: Pixels, tags: Tags) -> FileLevels:
    """Levels of the metadata, mended where the pixels contradict them."""
    white = min(65535, max(1, int(raw.white_level)))
    saturation = min([white, *(int(level) for level in raw.camera_white_level_per_channel or () if level > 0)])
    black = _blackread_levels(raw, pixels.cfa, tags)
    notes = []
    mosaic, cfa = pixels.mosaic, pixels.cfa
    if mosaic is not None and cfa is not None:
        mean = sum(black) / 4
        found = contradicted_black(mean, white, mosaic, cfa.shape[1], pixels.masked)
        if found != mean:
            notes.append(f"black level {found:g} by the pixels, {mean:g} by the file")
            black = found, found, found, found
    values = mosaic if mosaic is not None else pixels.linear
    if values is not None:
        step = 1 if cfa is None else cfa.shape[1]
        saturation = clipping_level(histograms(values, cfa), saturation, mosaic, step) or saturation
    if max(black) >= saturation:
        notes.append(f"black level {max(black):g} is not below white {saturation}; taken as 0")
        black = 0.0, 0.0, 0.0, 0.0
    return FileLevels(black, white, saturation, tuple(notes))


def _blackread_levels(raw: Decoded, cfa: NDArray[np.uint8] | None, tags: Tags) -> FourLevels:
    """Black levels of R, Gr, Gb, B by the metadata.

    LibRaw gives them by colour index. Those of a DNG with an odd margin it takes for the wrong colours, and of
    larger patterns it gives the least; there the tag itself is read.
    """
    if tags.black_grid is not None and cfa is not None:
        return _grid_means(np.array(tags.black_grid), cfa, raw, tags.active_origin)
    red, green_r, green_b, blue = (float(raw.black_level_per_channel[index]) for index in _PLANE_INDICES)
    if cfa is None:  # three colours at every pixel have no second green
        green_b = green_r
    return red, green_r, green_b, blue


def _grid_means(grid: NDArray[np.float64], cfa: NDArray[np.uint8], raw: Decoded, origin: tuple[int, int]) -> FourLevels:
    """Means of a repeated pattern of levels, which starts at ``origin`` of the sensor, over each plane's pixels."""
    top, left = int(raw.sizes.top_margin) - origin[0], int(raw.sizes.left_margin) - origin[1]
    rows, columns = np.indices((math.lcm(len(grid), len(cfa), 2), math.lcm(grid.shape[1], cfa.shape[1], 2)))
    levels = grid[(rows + top) % len(grid), (columns + left) % grid.shape[1]]
    pattern = pattern_of(cfa)
    if pattern is not None:
        red, green_r, green_b, blue = (float(levels[i::2, j::2].mean()) for i, j in plane_sites(pattern))
        return red, green_r, green_b, blue
    if cfa.size == 1:
        gray = float(levels.mean())
        return gray, gray, gray, gray
    colors = cfa[rows % len(cfa), columns % cfa.shape[1]]
    red, green, blue = (float(levels[colors == color].mean()) for color in (0, 1, 2))
    return red, green, green, blue
