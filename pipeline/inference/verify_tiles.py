"""Show that tiles do not change a picture: an area around a corner of tiles, denoised in tiles and in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pipeline.data.images import from_float, read_image, to_float
from pipeline.data.paths import shown
from pipeline.data.rows import ArrayRows, Rows
from pipeline.data.tiff_regions import large_tiff
from pipeline.errors import UserError
from pipeline.inference.tile_plan import TilePlan, plan_tiles

if TYPE_CHECKING:
    from pipeline.inference.denoiser import NetworkDenoiser

TOLERANCE: Final = 1e-5
"""Of the float output, for networks that look no farther than their halo."""

_BESIDE: Final = 96
"""Pixels of each of the four tiles that are compared, at least."""

_WHOLE_PIXELS: Final = 1_000_000
"""Pictures up to here are compared whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """How tiles compare with one piece, for one file."""

    source: str
    """Path that was read."""

    area: tuple[int, int, int, int]
    """What was compared: rows [first, second) and columns [third, fourth) of the picture."""

    tile: tuple[int, int]
    """Rows and columns of the tiles of that area."""

    largest: float
    """Largest difference in the float output."""

    stored: float
    """Share of the values that differ in the depth of the file."""

    steps: int
    """Largest difference of a stored value, in steps of its depth; 0 for float files."""

    finite: bool
    """Whether the halo covers all that the network sees; if not, tiles differ a little, and nothing is demanded."""

    @property
    def equal(self) -> bool:
        """Whether the tiles are as good as one piece."""
        return not self.finite or (self.largest <= TOLERANCE and self.steps <= 1)

    def told(self) -> str:
        """Return the result as a line."""
        differ = "equal bytes"
        if self.stored:
            differ = f"{self.stored:.2g} of the values differ, by {self.steps} at most"
        verdict = "ok" if self.equal else f"expected at most {TOLERANCE:g}"
        if not self.finite:
            verdict = "no bound: this network sees farther than the halo"
        top, bottom, left, right = self.area
        return (
            f"{shown(self.source)}: {bottom - top}x{right - left} pixels in tiles of {self.tile[0]}x{self.tile[1]} and "
            f"in one piece: largest difference {self.largest:.2g}, {differ} ({verdict})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**asdict(self), "equal": self.equal}


def verify_tiles(denoiser: NetworkDenoiser, source: Path) -> Verified:
    """Denoise an area of a picture in tiles and in one piece.

    The area is the picture, up to 1 megapixel; else the surroundings of a corner where four of its tiles meet.

    Raises:
        ImageError: the picture cannot be read.
        UserError: the network is not one for it.
    """
    from models import denoise, from_network, tile_halo, tile_multiple, to_network

    if denoiser.domain == "raw":
        raise UserError("--verify-tiles: expected a model for pictures, found one for raw files")
    rows: Rows = large_tiff(source) or ArrayRows(read_image(source).pixels)
    network, spec = denoiser.network, replace(denoiser.inference, offset="keep")
    halo, multiple = tile_halo(network, spec), tile_multiple(network, spec)
    plan = plan_tiles(denoiser, rows)
    top, bottom = _around(rows.height, _corner(rows.height, plan, 0, multiple), halo + _BESIDE, multiple)
    left, right = _around(rows.width, _corner(rows.width, plan, 1, multiple), halo + _BESIDE, multiple)
    if rows.height * rows.width <= _WHOLE_PIXELS:
        top, bottom, left, right = 0, rows.height, 0, rows.width
    pixels = rows.read(top, bottom)[:, left:right]
    colours = pixels.shape[2] - (pixels.shape[2] in (2, 4))
    batch = to_network(to_float(pixels[..., :colours]), network.channels)
    tile = (-(-batch.shape[2] // 2), -(-batch.shape[3] // 2))
    one, tiled = (
        from_network(denoise(network, batch.to(denoiser.device), spec, tile=size), colours)
        for size in (max(batch.shape[2:]) + multiple, tile)
    )
    stored = [from_float(result, rows.dtype) for result in (one, tiled)]
    whole_numbers = rows.dtype.kind == "u"
    return Verified(
        source=str(source),
        area=(top, bottom, left, right),
        tile=tile,
        largest=float(np.abs(one - tiled).max()),
        stored=float(np.mean(stored[0] != stored[1])),
        steps=int(np.abs(stored[0].astype(int) - stored[1]).max()) if whole_numbers else 0,
        finite=network.reach is not None and not spec.halo and spec.mode == "direct",
    )


def verify_all(denoiser: NetworkDenoiser, sources: Sequence[Path]) -> tuple[list[Verified], list[str]]:
    """Verify each file; return the results, and a line for each file that could not be read."""
    found, failures = [], []
    for source in sources:
        try:
            found.append(verify_tiles(denoiser, source))
        except (UserError, OSError, ValueError) as error:
            failures.append(" ".join(str(error).split()))
    return found, failures


def _corner(length: int, plan: TilePlan, axis: int, multiple: int) -> int:
    """Where the first tile of the picture ends, or its middle where it has but one."""
    from models.tiling import spans

    tile = plan.tile if isinstance(plan.tile, tuple) else (plan.tile or length,) * 2
    keep = spans(length, tile[axis], 0, multiple, 0)[0].keep_stop
    return keep if keep < length else length // 2


def _around(length: int, corner: int, reach: int, multiple: int) -> tuple[int, int]:
    """Pixels within ``reach`` of a corner, from a multiple on, so that the halves meet near it."""
    return max(0, corner - reach) // multiple * multiple, min(length, corner + reach)
