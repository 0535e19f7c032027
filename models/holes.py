"""Complementary masks that hide a neighbourhood: blind to a pixel and to those whose noise goes with it.

Where noise is correlated, the neighbours of a hidden pixel tell its noise. The asymmetric mask scheme (arXiv
2407.06514) pulls the pixels apart with pixel-shuffle downsampling, which leaves its checkerboard. Here the image
keeps its resolution and the mask hides a hole around each target: the footprint of the noise correlation, as AT-BSN
(CVPR 2024) and TM-BSN (CVPR 2026) build into a network. Only targets are predicted. Every pixel is a target in
exactly one mask of a partition.

The targets of a mask lie on a lattice (with layout "lattice" those of single pixels too): pixel (r, c) belongs to
mask (q r + c + offset) mod M, with a q for which the holes of one mask do not overlap and lie as far apart as M
allows. The seed decides the offset, and seed and draw q among the equally good (a lattice and its mirror image, as a
rule), so that there are few different partitions: one for a chessboard, two to four for most holes.
Random targets, independent or one a cell, leave holes that merge, and what is left visible predicts worse
(docs/asymmetric-masks.md).

With the hole of one pixel and layout "random", the masks are those of ``masks.complementary_masks``, bit for bit.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .masks import HOLE_STREAM, hash_uniform, partition_numbers

HoleShape = Literal["box", "diamond"]
Layout = Literal["random", "lattice"]

MAX_SIDE = 15


class Masked(Protocol):
    """What the settings of training and of inference have in common."""

    @property
    def mask_count(self) -> int: ...  # noqa: D102
    @property
    def hole(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def hole_shape(self) -> HoleShape: ...  # noqa: D102
    @property
    def layout(self) -> Layout: ...  # noqa: D102


def check_hole(hole: tuple[int, int], shape: str, layout: str) -> None:
    """Raise ValueError unless both sides are odd and small and the shape and the layout are known."""
    if len(hole) != 2 or not all(1 <= side <= MAX_SIDE and side % 2 for side in hole):
        raise ValueError(f"hole must be two odd numbers from 1 to {MAX_SIDE}, rows and columns, got {hole}")
    if shape not in ("box", "diamond"):
        raise ValueError(f"hole_shape must be 'box' or 'diamond', got {shape!r}")
    if layout not in ("random", "lattice"):
        raise ValueError(f"layout must be 'random' or 'lattice', got {layout!r}")


def footprint(hole: tuple[int, int], shape: HoleShape) -> Tensor:
    """Pixels that are hidden with a target, (rows, columns) bool, the target in the middle.

    A diamond is what lies strictly inside the rhombus through the middles of the next rows and columns: of a hole of
    3x3 the pixel and its four neighbours.
    """
    down, right = (side // 2 for side in hole)
    rows = torch.arange(-down, down + 1).abs()[:, None]
    columns = torch.arange(-right, right + 1).abs()
    if shape == "box":
        return torch.ones(hole, dtype=torch.bool)
    return rows * (right + 1) + columns * (down + 1) < (down + 1) * (right + 1)


def masks_of(spec: Masked) -> int:
    """Number of masks of a partition: ``mask_count``, times the pixels of the hole."""
    return Partition.of(spec).count


@dataclass(frozen=True, kw_only=True, slots=True)
class Partition:
    """How the pixels are divided among masks."""

    mask_count: int
    """1 over the share of the pixels that a mask hides."""

    hole: tuple[int, int] = (1, 1)
    """Rows and columns of the hole."""

    hole_shape: HoleShape = "box"
    """Its shape."""

    layout: Layout = "random"
    """Where the targets of a mask are, for the hole of one pixel; larger holes always lie on a lattice."""

    def __post_init__(self) -> None:
        # A list, where it comes from JSON.
        object.__setattr__(self, "hole", tuple(self.hole))

    @classmethod
    def of(cls, spec: Masked) -> "Partition":
        """The partition of the settings of training or inference."""
        return cls(mask_count=spec.mask_count, hole=spec.hole, hole_shape=spec.hole_shape, layout=spec.layout)

    @property
    def count(self) -> int:
        """Number of masks."""
        return self.mask_count * int(footprint(self.hole, self.hole_shape).sum())

    @property
    def _random(self) -> bool:
        return tuple(self.hole) == (1, 1) and self.layout == "random"

    @property
    def distinct(self) -> int | None:
        """How many different partitions there are; None for as many as there are draws."""
        return None if self._random else len(_generators(self.count, self.hole, self.hole_shape))

    def draws(self, draws: int, *, stochastic: bool) -> int:
        """How many of ``draws`` differ: a network without a will of its own gives the same for the same partition."""
        return draws if stochastic or self.distinct is None else min(draws, self.distinct)

    def numbers(
        self, seeds: Tensor, height: int, width: int, *, draw: int = 0, origin: tuple[int, int] = (0, 0)
    ) -> Tensor:
        """In which mask each pixel is a target, with a margin of half a hole on every side.

        Args:
            seeds: (B,) int64, one a sample.
            height: rows of the masks.
            width: columns of the masks.
            draw: number of the partition. Random ones are independent; of lattices one after the other comes up.
            origin: absolute (row, column) of the top-left pixel of the masks, which has the margin before it.

        Returns:
            (B, 1, H + rows - 1, W + columns - 1) int64 in [0, ``count``).
        """
        down, right = (side // 2 for side in self.hole)
        height, width = height + 2 * down, width + 2 * right
        origin = (origin[0] - down, origin[1] - right)
        if self._random:
            return partition_numbers(seeds, self.mask_count, height, width, draw=draw, origin=origin)
        generators = _generators(self.count, self.hole, self.hole_shape).to(seeds.device)
        uniform = hash_uniform(seeds[:, None], HOLE_STREAM, torch.arange(2, device=seeds.device))
        generator = generators[((uniform[:, 0] * len(generators)).long() + draw) % len(generators)]
        offset = (uniform[:, 1] * self.count).long()
        rows = torch.arange(origin[0], origin[0] + height, device=seeds.device)[:, None]
        columns = torch.arange(origin[1], origin[1] + width, device=seeds.device)
        lines = rows * generator[:, None, None] + offset[:, None, None]
        return ((lines + columns) % self.count)[:, None]

    def mask(self, numbers: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """Mask number ``index`` of the partition that ``numbers`` describes.

        Returns:
            (B, 1, H, W) bool targets, which are to be predicted, and (B, 1, H, W) bool, True = hidden.
        """
        targets = numbers == index
        if self.hole == (1, 1):
            return targets, targets
        kernel = footprint(self.hole, self.hole_shape).to(numbers.device, torch.float32)[None, None]
        # Outside the image there are targets too, as there are outside a tile: a mask knows positions, not borders.
        hidden = F.conv2d(targets.to(torch.float32), kernel) > 0.5
        down, right = (side // 2 for side in self.hole)
        return targets[..., down : targets.shape[-2] - down, right : targets.shape[-1] - right], hidden


@lru_cache(maxsize=32)
def _generators(count: int, hole: tuple[int, int], shape: HoleShape) -> Tensor:
    """The numbers q, int64, whose lattices {(r, c): q r + c = 0 mod count} keep holes apart best.

    Least overlap comes first, then the largest distance of the nearest two targets, in units of the hole.
    """
    rows, columns = hole
    kernel = footprint(hole, shape).to(torch.float32)[None, None]
    # Pixels that the holes of two targets share, by their displacement (0 to rows - 1, 1 - columns to columns - 1).
    shared = F.conv2d(kernel, kernel, padding=(rows - 1, columns - 1))[0, 0, rows - 1 :]
    q = torch.arange(1, count)[:, None]
    overlap = torch.zeros(count - 1)
    nearest = torch.full((count - 1,), (count / columns) ** 2)
    down = torch.arange(1, max(rows, 2 * math.isqrt(count) * rows // min(hole)) + 2)
    right = (-q * down) % count
    for across in (right, right - count):
        nearest = torch.minimum(nearest, ((down / rows) ** 2 + (across / columns) ** 2).amin(1))
        near = (down < rows) & (across.abs() < columns)
        place = (down.clamp_max(rows - 1), (across + columns - 1).clamp(0, 2 * columns - 2))
        overlap += torch.where(near, shared[place], 0.0).sum(1)
    least = overlap == overlap.min()
    return q[least & (nearest > nearest[least].max() - 1e-6), 0]
