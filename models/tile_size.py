"""How large a tile may be: what a pass takes, and the rows and columns that cost least within it."""

from .masked_swin import MaskedSwinSpec
from .nafnet import NafnetSpec
from .restormer import RestormerSpec
from .unet import UNetSpec

_MOST_TILES = 256
# Convolutions of fewer channels are computed as if they had so many.
_BLOCK = 16


def pass_bytes(spec: MaskedSwinSpec | UNetSpec | NafnetSpec | RestormerSpec) -> int:
    """Bytes that one pass takes at most for each pixel of a large tile, in float32 and without gradients.

    Feature maps that are alive together at full resolution, with room for what the allocator wastes: rounded up
    from measured resident memory (``docs/large-pictures.md``).
    """
    match spec:
        case UNetSpec():
            return 64 + round(12.5 * max(spec.width, _BLOCK))
        case NafnetSpec():
            return 128 + 40 * spec.width
        case RestormerSpec():
            return 128 + round(4 * spec.dim * (14 + 6 * spec.expansion))
        case MaskedSwinSpec():
            return 512 + 24 * spec.dim


def choose_tile(
    height: int, width: int, *, halo: int, multiple: int, budget: int, pixel_bytes: int, row_bytes: int = 0
) -> tuple[int, int]:
    """Choose the tiles that compute the fewest pixels, halos included, in a given amount of memory.

    Args:
        height: rows of the image.
        width: columns of the image.
        halo: pixels that a tile reads beyond its own, half a ramp included.
        multiple: tiles are rounded up to this.
        budget: bytes that may be taken.
        pixel_bytes: for each pixel of the tile that is computed.
        row_bytes: for each row of a band of tiles, as wide as the image.

    Returns:
        Rows and columns of a tile; the smallest that makes sense, as large as its halo, if nothing fits.
    """
    best: tuple[int, tuple[int, int]] | None = None
    smallest = max(multiple, halo)
    for down in _sides(height, smallest, multiple):
        rows = min(height, down + 2 * halo + 2 * multiple)
        for across in _sides(width, smallest, multiple):
            columns = min(width, across + 2 * halo + 2 * multiple)
            if rows * columns * pixel_bytes + rows * row_bytes > budget:
                continue
            computed = (height + 2 * halo * (-(-height // down) - 1)) * (width + 2 * halo * (-(-width // across) - 1))
            if best is None or computed < best[0]:
                best = computed, (down, across)
            break  # narrower tiles of as many rows compute more
    return best[1] if best else (smallest, smallest)


def _sides(length: int, smallest: int, multiple: int) -> list[int]:
    """Sides of tiles that divide an axis evenly, the largest first."""
    sides = [-(-length // count // multiple) * multiple for count in range(1, _MOST_TILES)]
    return sorted({max(side, multiple) for side in sides if side >= smallest} | {smallest}, reverse=True)
