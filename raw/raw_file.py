"""What a raw file holds: the sensor's numbers as stored, and what is needed to read them as light."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raw.cfa import CFAPattern

Kind = Literal["bayer", "xtrans", "mono", "linear", "other"]
"""Bayer mosaic, 6x6 X-Trans mosaic, no colour filter, three colours at every pixel, or nothing we can use."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """How a photograph was taken; None where it is not known."""

    iso: float | None = None
    """ISO speed."""

    exposure_time: float | None = None
    """Seconds."""

    aperture: float | None = None
    """F-number."""

    focal_length: float | None = None
    """Millimetres."""

    taken: str | None = None
    """When, as ``YYYY:MM:DD HH:MM:SS`` of the camera's clock."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RawFile:
    """A raw file as stored: nothing is scaled, balanced, demosaiced or rotated."""

    kind: Kind
    """What the pixels are; ``notes`` says why for ``other``."""

    mosaic: NDArray[np.uint16] | None
    """(H, W) visible part of the sensor, H and W maybe odd; None for ``linear`` and ``other``."""

    pattern: CFAPattern | None
    """CFA pattern at ``mosaic[0, 0]``; None unless Bayer."""

    black_levels: tuple[float, float, float, float]
    """Black level of the planes R, Gr, Gb, B, in the units of the pixels; Gr = Gb unless Bayer."""

    white_level: int
    """Saturation in the units of the pixels, as the file or LibRaw's tables tell it: data may clip lower."""

    white_balance: tuple[float, float, float]
    """Gains of red, green and blue with green 1: the camera's, else daylight's, else ones."""

    rgb_cam: NDArray[np.float64]
    """(3, 3) white-balanced camera colours to linear sRGB (``Camera.cam2rgb``); identity if unknown."""

    flip: int
    """Turn that shows the picture upright: 0 none, 3 half, 5 quarter left, 6 quarter right.

    In general three bits: 1 mirrors left and right, 2 top and bottom, and 4 exchanges rows and columns after that.
    """

    iso: float | None
    """ISO speed; None if unknown."""

    linear: NDArray[np.uint16] | None = None
    """(H, W, 3) red, green and blue of the visible part, for ``linear`` only; never white-balanced."""

    cfa: NDArray[np.uint8] | None = None
    """(n, m) colours at the visible origin, 0 R 1 G 2 B: 2x2, 6x6, or one 1 for ``mono``; None without a mosaic."""

    saturation: int = 65535
    """Level at which the data clip: the least of white level, the camera's own and a peak seen in the data."""

    masked: NDArray[np.uint16] | None = None
    """(h, w) optically black border beside the visible part; None if there is none, or it is not black."""

    masked_pattern: CFAPattern | None = None
    """CFA pattern at ``masked[0, 0]``; None without a border or unless Bayer."""

    bits: int = 16
    """Bits that the white level takes."""

    make: str = ""
    """Maker of the camera; empty if the file does not tell it in a way that we read."""

    model: str = ""
    """Model of the camera; empty as ``make``."""

    pixel_aspect: float = 1.0
    """Width of a pixel over its height."""

    noise_profile: tuple[tuple[float, float], ...] | None = None
    """(shot, read) of red, green and blue, Var = shot x + read at black 0 and white 1, as a DNG states them."""

    daylight_balance: tuple[float, float, float] | None = None
    """Gains of red, green and blue in daylight, green 1; None if unknown."""

    exposure_time: float | None = None
    """Seconds; None if unknown."""

    aperture: float | None = None
    """F-number; None if unknown."""

    focal_length: float | None = None
    """Millimetres; None if unknown."""

    taken: str | None = None
    """When, as ``YYYY:MM:DD HH:MM:SS`` of the camera's clock; None if unknown."""

    size: tuple[int, int] | None = None
    """Height and width of the visible part, also where no pixels are kept (``other``)."""

    notes: tuple[str, ...] = ()
    """What was mended or left out, in words."""

    @property
    def height(self) -> int:
        """Rows of the visible part, before any turn."""
        return self._shape[0]

    @property
    def width(self) -> int:
        """Columns of the visible part, before any turn."""
        return self._shape[1]

    @property
    def _shape(self) -> tuple[int, int]:
        pixels = self.mosaic if self.mosaic is not None else self.linear
        if pixels is not None:
            return pixels.shape[0], pixels.shape[1]
        return self.size or (0, 0)
