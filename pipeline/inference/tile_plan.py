"""The tiles of a picture: as large as a share of the free memory allows, cut so that little is computed twice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pipeline.data.rows import Rows
    from pipeline.inference.denoiser import NetworkDenoiser

SHARE: Final = 0.5
"""Of the free memory, at most."""

MOST_BYTES: Final = 768 * 2**20
"""Of a pass on the CPU: more would save less than a tenth of the time."""

MOST_GPU_BYTES: Final = 4 * 2**30

_SHOWN_BYTES: Final = 12
"""Of each pixel and channel of a tile: as it is read, in floats, and as the network is shown it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TilePlan:
    """How a picture is cut."""

    tile: int | tuple[int, int] | None = None
    """Rows and columns that a tile is responsible for, or the side of a square; None leaves it to the model."""

    budget: int | None = None
    """Bytes that the choice counted with; None where the user or the model chose."""


def plan_tiles(denoiser: NetworkDenoiser, rows: Rows) -> TilePlan:
    """Choose the tiles for a picture: the user's or the model's own size, or what fits into memory best.

    The result does not depend on it where the network's receptive field is finite (within 1e-5); where it is not,
    a model keeps the tiles of `models.default_tile` for as long as they fit, so that the same file gives the same
    result on every machine.
    """
    from models import choose_tile, default_tile, pass_bytes, tile_halo, tile_multiple, tile_ramp

    network, spec = denoiser.network, denoiser.inference
    if denoiser.tile or spec.tile:
        return TilePlan(tile=denoiser.tile or spec.tile)
    cuda = denoiser.device != "cpu"
    budget = min(int(SHARE * free_bytes(denoiser.device)), MOST_GPU_BYTES if cuda else MOST_BYTES)
    halo, multiple = tile_halo(network, spec), tile_multiple(network, spec)
    pixel_bytes = pass_bytes(denoiser.spec) + _SHOWN_BYTES * rows.channels
    # Of a band: the pixels read, those of the float result, and what is written.
    row_bytes = 0 if cuda else rows.width * rows.channels * (2 * rows.dtype.itemsize + 4)
    if network.reach is None:
        side = default_tile(network, spec)
        read = side + 2 * halo
        fits = read * read * pixel_bytes + read * row_bytes <= max(budget, MOST_BYTES)
        if fits:
            return TilePlan(tile=side, budget=budget)
    tile = choose_tile(
        rows.height,
        rows.width,
        halo=halo + tile_ramp(network, spec),
        multiple=multiple,
        budget=budget,
        pixel_bytes=pixel_bytes,
        row_bytes=row_bytes,
    )
    return TilePlan(tile=tile, budget=budget)


def free_bytes(device: str) -> int:
    """Return the memory that is free on a device; on the CPU no more than the control group may still take."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return min(int(psutil.virtual_memory().available), _left_in_group())


def _left_in_group(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that the control group of this process may still take: version 2, then version 1; no limit if unknown."""
    for limit, used, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most, now = int((root / limit).read_text()), int((root / used).read_text())
            lines = (root / limit).with_name("memory.stat").read_text().split("\n")
        except (OSError, ValueError):
            continue
        # Pages of files are given back when memory is short.
        given_back = sum(int(line.split()[1]) for line in lines if line.startswith(cached + " "))
        return max(0, most - now + given_back)
    return 2**63
