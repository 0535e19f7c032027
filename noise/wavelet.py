"""One and two levels of an orthonormal wavelet, as features of every place in an image.

White noise has independent coefficients of equal variance in an orthonormal basis. So whatever is selected by some
coefficients leaves the others untouched, which lets a noise measurement choose smooth places without biasing what
it measures there (Foi et al., IEEE Trans. Image Process. 17(10), 2008, choose by smoothed data instead).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_ROOT3: Final = 3**0.5
LOW: Final = tuple(value / (4 * 2**0.5) for value in (1 + _ROOT3, 3 + _ROOT3, 3 - _ROOT3, 1 - _ROOT3))
"""Daubechies' filter of length 4: a high-pass that ignores straight slopes, on the smallest support."""

HIGH: Final = (LOW[3], -LOW[2], LOW[1], -LOW[0])
LENGTH: Final = 4
_MARGIN: Final = 2
SMALLEST: Final = 32
"""Least height and width of an image."""

ENERGY_FREEDOM: Final = 3 * (9 - 1) + 3 * 9
"""Coefficients in ``Places.energy``."""


@dataclass(frozen=True, slots=True)
class Places:
    """Coefficients at N places of an image; all (N,) or (3, N) float32."""

    details: Array
    """(3, N) unit-norm details: horizontal, vertical, diagonal."""

    level: Array
    """(N,) unit-sum mean of the same 4x4 pixels, independent of the details."""

    surroundings: Array
    """(N,) mean of the 24 levels around, independent of ``level`` and of the details."""

    energy: Array
    """(N,) sum of squares of the ``ENERGY_FREEDOM`` details around and one scale up: small where it is smooth."""

    shifts: int
    """Number of decompositions."""


def places(image: Array, *, shifts: int) -> Places:
    """Decompose an image at every second pixel, or at all of them by four shifted decompositions.

    Daubechies' filters are lopsided: details lie half a pixel beside the level that goes with them. In four
    decompositions each direction is run through both ways, so that a slope in the image makes no difference.

    Args:
        image: (H, W) float32, at least ``SMALLEST`` high and wide.
        shifts: 1 or 4 decompositions.
    """
    if shifts not in (1, 4):
        raise ValueError(f"shifts must be 1 or 4, got {shifts}")
    views = [image] if shifts == 1 else [_turned(_turned(image, row), column, 1) for row in (0, 1) for column in (0, 1)]
    details, level, surroundings, energy = zip(*(_decomposed(view) for view in views), strict=True)
    return Places(
        np.concatenate(details, axis=1),
        np.concatenate(level),
        np.concatenate(surroundings),
        np.concatenate(energy),
        shifts,
    )


def _turned(image: Array, turn: int, axis: int = 0) -> Array:
    """The image, or its mirror image with the pairs of pixels shifted by one."""
    if not turn:
        return image
    odd = (image.shape[axis] - 1) // 2 * 2 + 1
    return np.flip(image[:odd] if axis == 0 else image[:, :odd], axis)


def _decomposed(image: Array) -> tuple[Array, Array, Array, Array]:
    low, *details = _split(image)
    own, coarse = (_energy(bands) for bands in (details, _split(low)[1:]))
    level = low * np.float32(0.5)  # the sum of the low-pass in two directions is 2
    inner = slice(_MARGIN, -_MARGIN), slice(_MARGIN, -_MARGIN)
    energy = _box(own, 3) - own + _above(_box(coarse, 3), own.shape)
    surroundings = (_box(level, 5) - level) * np.float32(1 / 24)
    return (
        np.stack([detail[inner].ravel() for detail in details]),
        level[inner].ravel(),
        surroundings[inner].ravel(),
        energy[inner].ravel(),
    )


def _split(image: Array) -> tuple[Array, Array, Array, Array]:
    """Bands low, horizontal, vertical and diagonal detail, each at every second pixel."""
    low, high = (band.T for band in _halves(image.T))
    return *_halves(low), *_halves(high)


def _halves(image: Array) -> tuple[Array, Array]:
    """Low-pass and high-pass along the rows, at the same places: the high-pass of two pixels before is nearest."""
    return _filtered(image, LOW)[:, 1:], _filtered(image, HIGH)[:, :-1]


def _energy(bands: Sequence[Array]) -> Array:
    return np.asarray(np.square(np.stack(bands)).sum(axis=0), dtype=np.float32)


def _filtered(image: Array, taps: tuple[float, ...]) -> Array:
    count = (image.shape[1] - LENGTH) // 2 + 1
    out = np.float32(taps[0]) * image[:, : 2 * count : 2]
    for index in range(1, LENGTH):
        out += np.float32(taps[index]) * image[:, index : index + 2 * count - 1 : 2]
    return np.asarray(out)


def _box(values: Array, size: int) -> Array:
    """Sum over a (size, size) window; edges are repeated, and later cut off."""
    from scipy.ndimage import uniform_filter

    return np.asarray(uniform_filter(values, size, mode="nearest") * np.float32(size * size), dtype=np.float32)


def _above(coarse: Array, shape: tuple[int, ...]) -> Array:
    """Values of the coarser scale at the places of the finer one."""
    rows, columns = (
        np.clip((np.arange(length) - LENGTH // 2) // 2, 0, limit - 1)
        for length, limit in zip(shape, coarse.shape, strict=True)
    )
    return np.asarray(coarse[np.ix_(rows, columns)])
