"""Flips and crops of a mosaic that keep its CFA pattern, for training on raw data.

A flip of an even number of columns puts blue where red was. One column cut off at either side puts it right: the
flipped mosaic is two columns narrower, and its samples are still where the pattern says.
"""

import torch
from torch import Tensor

from raw.arrays import accepts_numpy


@accepts_numpy
def flip(mosaic: Tensor, *, across: bool = False, down: bool = False) -> Tensor:
    """Mirror a mosaic and keep its CFA pattern.

    Args:
        mosaic: (..., H, W), any dtype, any Bayer pattern.
        across: mirror left and right. An even W loses one column at each side; an odd W keeps all.
        down: mirror top and bottom, with rows as above.

    Returns:
        (..., H or H - 2, W or W - 2), the pattern of the input at its first pixel.

    Raises:
        ValueError: an even side to mirror is below 4, so that nothing would be left.
    """
    for dim, wanted in ((-1, across), (-2, down)):
        if not wanted:
            continue
        size = mosaic.shape[dim]
        if size % 2 == 0:
            if size < 4:
                raise ValueError(f"an even side must be at least 4 to be mirrored, got {size}")
            mosaic = mosaic.narrow(dim, 1, size - 2)
        mosaic = mosaic.flip(dim)
    return mosaic


def random_crop(mosaic: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Cut a random square whose corner has the CFA pattern of the whole, mirrored at random both ways.

    Args:
        mosaic: (..., H, W), any dtype, any Bayer pattern.
        side: of the square, even.
        generator: four draws: top, left, and whether to mirror across and down.

    Returns:
        (..., side, side).

    Raises:
        ValueError: ``side`` is odd, or there are not ``side + 2`` rows and columns to mirror in.
    """
    height, width = mosaic.shape[-2:]
    if side % 2 or min(height, width) < side + 2:
        raise ValueError(f"side must be even and at most {min(height, width) - 2} in {height}x{width}, got {side}")

    def draw(limit: int) -> int:
        return int(torch.randint(limit, (), generator=generator, device=generator.device).item())

    # Two pixels more than asked for, as a flip costs one at each end.
    top, left = 2 * draw((height - side) // 2), 2 * draw((width - side) // 2)
    across, down = bool(draw(2)), bool(draw(2))
    cut = mosaic[..., top : top + side + 2, left : left + side + 2]
    return flip(cut, across=across, down=down)[..., :side, :side]
