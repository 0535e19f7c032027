"""Which part of the images is never trained on, so that a run can be measured on it: whole images, or their corners.

Where the share to hold out is at least one image, whole images are held out. Of fewer images each is worth too much:
there a corner of each is held out, and no training crop touches it. Noise does not repeat from place to place, so a
corner shows as well as another image whether noise was learnt by heart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MEASURE_BATCH = 2**41
"""Index of the batch of the crops that are measured."""

_MOST_IMAGES = 16
_ENOUGH_IMAGES = 4
"""With so many, one is given up where images have no room for a corner."""

_STREAM = 5

_DEAR = 3
"""A corner that is more than so many times the share is left in, as long as there are others."""


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle of a file, in pixels."""

    file: str
    top: int
    left: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    def touches(self, top: int, left: int, side: int) -> bool:
        """Say whether a square overlaps this area."""
        return (
            top < self.top + self.height
            and top + side > self.top
            and left < self.left + self.width
            and left + side > self.left
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """How the images are divided."""

    training: tuple[str, ...]
    """Files to train on."""

    images: tuple[str, ...] = ()
    """Files that are left out whole."""

    corners: tuple[Area, ...] = ()
    """Areas of the training files that no training crop may touch."""

    crops: tuple[Area, ...] = ()
    """Squares to measure: of what is left out, or, if nothing could be, of what is trained on."""

    def describe(self) -> str:
        """Say in words what is held out."""
        where = f"measured on {len(self.crops)} crops"
        if self.images:
            return f"{len(self.images)} of {len(self.images) + len(self.training)} images, {where}"
        if self.corners:
            return f"a corner of {len(self.corners)} of {len(self.training)} images, {where}"
        return f"nothing (no image has room for two crops), {where} of what is trained on" if self.crops else "nothing"


def divide(
    files: Sequence[str], sizes: Sequence[tuple[int, int]], *, crop: int, share: float, count: int, seed: int
) -> HeldOut:
    """Divide images into what is trained on and what is measured; the seed alone decides.

    Args:
        files: paths, in manifest order.
        sizes: height and width of each; at least ``crop``.
        crop: side of a training crop in pixels.
        share: of the pixels to hold out, in (0, 0.5].
        count: how many squares of ``crop`` pixels to measure at most; they do not overlap.
        seed: seed of the run.
    """
    from models import fold

    order = sorted(range(len(files)), key=lambda index: fold(seed, _STREAM, index))
    areas = {index: Area(files[index], 0, 0, *sizes[index]) for index in order}
    whole = min(int(share * len(files)), _MOST_IMAGES)
    no_room = all(_corner(area, crop, share, 0) is None for area in areas.values())
    if not whole and no_room and len(files) >= _ENOUGH_IMAGES:
        whole = 1
    if whole:
        left_out = [areas[index] for index in order[:whole]]
        return HeldOut(
            training=tuple(files[index] for index in sorted(order[whole:])),
            images=tuple(area.file for area in left_out),
            crops=_squares(left_out, crop, count, seed),
        )
    cut = [_corner(areas[index], crop, share, fold(seed, _STREAM, index, 1)) for index in order]
    possible = [corner for corner in cut if corner is not None]
    cheap = [corner for corner in possible if corner.pixels <= _DEAR * share * areas[files.index(corner.file)].pixels]
    corners = cheap or possible
    measured = corners or list(areas.values())
    return HeldOut(training=tuple(files), corners=tuple(corners), crops=_squares(measured, crop, count, seed))


def _corner(image: Area, crop: int, share: float, random: int) -> Area | None:
    """Return one of the four corners, of at least one crop; None if no crop would fit beside it."""
    side = math.sqrt(share)
    height, width = max(crop, round(side * image.height)), max(crop, round(side * image.width))
    if image.height - height < crop and image.width - width < crop:
        return None
    top, left = (image.height - height) * (random & 1), (image.width - width) * (random >> 1 & 1)
    return Area(image.file, top, left, height, width)


def _squares(areas: Sequence[Area], crop: int, count: int, seed: int) -> tuple[Area, ...]:
    """Return up to ``count`` squares of the grids of crops in ``areas``, one of each in turn."""
    from models import fold

    grids = []
    for number, area in enumerate(areas):
        grid = [
            Area(area.file, area.top + row * crop, area.left + column * crop, crop, crop)
            for row in range(area.height // crop)
            for column in range(area.width // crop)
        ]
        grids.append(sorted(grid, key=lambda square: fold(seed, _STREAM, number, square.top, square.left)))
    longest = max(map(len, grids))
    turns = [grid[turn] for turn in range(longest) for grid in grids if turn < len(grid)]
    return tuple(turns[:count])
