"""Between the integers of a raw file and normalised raw: black 0, white 1, as four planes.

``normalise`` and ``denormalise`` are exact inverses of each other for every integer from 0 to the white level: noise
around the black level keeps both its signs on the way in, and the pedestal comes back on the way out. Nothing is
clipped before the last step.
"""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from raw.cfa import CFAPattern, plane_sites

_BAND_PIXELS: Final = 2**18
MAX_LEVEL: Final = 65535


class HasLevels(Protocol):
    """What the conversion needs to know; a ``RawFile`` of a Bayer sensor has it."""

    @property
    def pattern(self) -> CFAPattern | None:
        """CFA pattern at pixel (0, 0)."""

    @property
    def black_levels(self) -> tuple[float, float, float, float]:
        """Black levels of the planes R, Gr, Gb, B."""

    @property
    def white_level(self) -> int:
        """Level that becomes 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Levels:
    """Levels of a mosaic without a file."""

    pattern: CFAPattern = "RGGB"
    """CFA pattern at pixel (0, 0)."""

    black_levels: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Black levels of the planes R, Gr, Gb, B."""

    white_level: int = MAX_LEVEL
    """Level that becomes 1."""


def normalise(mosaic: NDArray[np.uint16], levels: HasLevels) -> NDArray[np.float32]:
    """Subtract the black levels, divide by the range and split into planes: ``(raw - black) / (white - black)``.

    An odd height or width is rounded up: the planes that lack a row or a column repeat their last one.
    ``denormalise`` leaves the repetition out again.

    Args:
        mosaic: (..., H, W), integers of the file.
        levels: pattern, black levels and white level, such as a ``RawFile``.

    Returns:
        (..., 4, ceil(H/2), ceil(W/2)), planes R Gr Gb B, black 0, white 1; not clipped, below 0 and above 1 too.

    Raises:
        ValueError: no Bayer pattern, fewer than 2x2 pixels, or a black level that is not below the white level.
    """
    pattern = _checked(levels)
    height, width = mosaic.shape[-2:]
    if height < 2 or width < 2:
        raise ValueError(f"a Bayer mosaic must have at least 2x2 pixels, got {height}x{width}")
    packed = np.empty((*mosaic.shape[:-2], 4, (height + 1) // 2, (width + 1) // 2), dtype=np.float32)
    for plane, ((row, column), black) in enumerate(zip(plane_sites(pattern), levels.black_levels, strict=True)):
        source = mosaic[..., row::2, column::2]
        rows, columns = source.shape[-2:]
        out = packed[..., plane, :, :]
        # The dtype makes the ufunc convert in small blocks instead of the whole array.
        inside = out[..., :rows, :columns]
        np.subtract(source, np.float32(black), out=inside, dtype=np.float32)
        # Only what was written: the rest is memory as it was found, and dividing a signalling NaN there warns.
        inside /= np.float32(levels.white_level - black)
        out[..., rows:, :columns] = out[..., rows - 1 : rows, :columns]
        out[..., columns:] = out[..., columns - 1 : columns]
    return packed


def denormalise(
    packed: NDArray[np.floating], levels: HasLevels, *, shape: tuple[int, int] | None = None, maximum: int | None = None
) -> NDArray[np.uint16]:
    """Inverse of ``normalise``: scale, add the black levels, round to integers, clip, merge the planes.

    Args:
        packed: (..., 4, H/2, W/2), planes R Gr Gb B, black 0, white 1.
        levels: as for ``normalise``.
        shape: (H, W) of the mosaic if one of them is odd; twice the size of the planes by default.
        maximum: largest level that is written; the white level by default. Files may hold levels above their
            white level (hot pixels, wrong tables): 65535 keeps those.

    Returns:
        (..., H, W) with the integers from 0 to ``maximum``.

    Raises:
        ValueError: as for ``normalise``, or ``packed`` has not four planes, is not finite, or does not have the
            size of ``shape``.
    """
    pattern = _checked(levels)
    if packed.ndim < 3 or packed.shape[-3] != 4:
        raise ValueError(f"packed raw must have shape (..., 4, H/2, W/2), got {packed.shape}")
    rows, columns = packed.shape[-2:]
    height, width = shape or (2 * rows, 2 * columns)
    if ((height + 1) // 2, (width + 1) // 2) != (rows, columns):
        raise ValueError(f"planes of {rows}x{columns} make no mosaic of {height}x{width}")
    top = levels.white_level if maximum is None else maximum
    mosaic = np.empty((*packed.shape[:-3], height, width), dtype=np.uint16)
    band = max(1, _BAND_PIXELS // columns)
    for plane, ((row, column), black) in enumerate(zip(plane_sites(pattern), levels.black_levels, strict=True)):
        out = mosaic[..., row::2, column::2]
        for start in range(0, out.shape[-2], band):
            part = slice(start, min(start + band, out.shape[-2]))
            values = packed[..., plane, part, : out.shape[-1]] * np.float32(levels.white_level - black)
            values += np.float32(black)
            if not np.isfinite(values).all():
                raise ValueError("packed raw must be finite, got NaN or infinity")
            np.rint(values, out=values)
            out[..., part, :] = np.clip(values, 0, min(top, MAX_LEVEL), out=values)
    return mosaic


def _checked(levels: HasLevels) -> CFAPattern:
    if levels.pattern is None:
        raise ValueError("levels must have a Bayer pattern, got None")
    if not max(levels.black_levels) < levels.white_level:
        raise ValueError(f"black levels must be below the white level {levels.white_level}, got {levels.black_levels}")
    return levels.pattern
