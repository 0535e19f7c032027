"""Photon transfer: the noise line from two exposures of one even field, as cameras are calibrated.

Half the variance of the difference is the variance of one exposure, and everything that both share is gone: the scene,
dust, vignetting, and the pixels' unequal sensitivity (PRNU). See Janesick, *Photon Transfer* (SPIE Press, 2007).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from noise.noise_line import Floats, Method, NoiseLine, line_through, weighted_line

BLOCK: Final = 16
GROUPS: Final = 32
_FREEDOM: Final = BLOCK * BLOCK - 1
_LEAST: Final = 0.03
_MEDIAN_EFFICIENCY: Final = 0.64
_CLEAR: Final = 4.0
"""Standard deviations from a clipping level at which clipping no longer matters."""

Pair = tuple[NDArray[np.floating], NDArray[np.floating]]
Point = tuple[float, float, float]


def photon_transfer(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    *,
    clip: tuple[float, float] | None = (0.0, 1.0),
) -> NoiseLine:
    """Measure the noise line from two exposures of the same still scene, best an even, out-of-focus field.

    One even exposure shows one level only, which cannot tell shot from read noise; vignetting, a grey ramp or several
    exposures (`photon_transfer_of_pairs`) do.

    Args:
        first: (H, W) one plane, normalised (black 0, white 1), white noise.
        second: the same plane of the other exposure; its brightness may differ a little.
        clip: levels that the data are clipped at: blocks near them are left out. None for data without an end.

    Raises:
        ValueError: the shapes differ, are not (H, W), or hold less than 64x64 pixels away from the ends.
    """
    return photon_transfer_of_pairs([(first, second)], clip=clip)


def photon_transfer_of_pairs(
    pairs: Sequence[Pair],
    *,
    clip: tuple[float, float] | None = (0.0, 1.0),
    dark: Sequence[Point] = (),
) -> NoiseLine:
    """Measure the noise line from several pairs, such as one for each exposure time.

    Args:
        pairs: each as for `photon_transfer`, of one plane or of planes that share a line.
        clip: as for `photon_transfer`.
        dark: further points (level, variance, weight), such as the ``curve`` of a masked border.

    Raises:
        ValueError: as for `photon_transfer`.
    """
    points = [point for pair in pairs for point in _points(*pair, clip)]
    if not points:
        raise ValueError("photon transfer needs 64x64 pixels away from black and white, got none")
    method: Method = "flat pair"
    return line_through([*points, *dark], method=method)


def _points(first: NDArray[np.floating], second: NDArray[np.floating], clip: tuple[float, float] | None) -> list[Point]:
    """(level, variance, weight) of groups of blocks of like brightness."""
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"photon transfer needs two planes (H, W) of one shape, got {first.shape} and {second.shape}")
    blocks = [_blocks(np.asarray(plane, dtype=np.float64)) for plane in (first, second)]
    mean = (blocks[0] + blocks[1]) / 2
    # The variance about the block's mean: the exposures may differ in brightness.
    variance = (blocks[0] - blocks[1]).var(axis=1, ddof=1) / 2
    # Grouped by one half of the pixels, with the level from the other: noise in the level tilts nothing.
    name, level = mean[:, ::2].mean(axis=1), mean[:, 1::2].mean(axis=1)
    clear = variance > 0
    if clip is not None:
        reach = _CLEAR * np.sqrt(variance)
        clear &= (name - reach > clip[0]) & (name + reach < clip[1])
    name, level, variance = name[clear], level[clear], variance[clear]
    if len(level) < (64 // BLOCK) ** 2:
        return []
    order = np.argsort(name, kind="stable")
    groups = np.array_split(order, min(GROUPS, max(1, len(order) // 16)))
    middle = np.array([level[group].mean() for group in groups])
    weight = np.array([len(group) for group in groups]) * _FREEDOM / 2 * _MEDIAN_EFFICIENCY
    expected = np.ones_like(level)
    for _ in range(2):
        found = np.array([_central(variance[group], expected[group]) for group in groups])
        if len(groups) < 2:
            break
        # A group spans levels, and the median of their variances is not at their mean level.
        line = weighted_line(middle, found, 1 / np.sqrt(weight))
        expected = np.maximum(line.at(level), _LEAST * float(np.median(found)))
    return [(float(x), float(v), float(w)) for x, v, w in zip(middle, found, weight, strict=True)]


def _central(variance: Floats, expected: Floats) -> float:
    """Variance of a group of blocks; the median leaves out dust and edges that moved.

    The median of a chi-squared variable lies below its mean (Wilson and Hilferty, 1931).
    """
    return float(np.median(variance / expected) * expected.mean()) / (1 - 2 / (9 * _FREEDOM)) ** 3


def _blocks(plane: Floats) -> Floats:
    """(N, BLOCK**2) the pixels of whole blocks, ordered so that every other one is a checkerboard."""
    rows, columns = (length // BLOCK for length in plane.shape)
    whole = plane[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    pixels = whole.transpose(0, 2, 1, 3).copy()
    pixels[:, :, 1::2] = pixels[:, :, 1::2, ::-1]  # odd rows backwards
    return pixels.reshape(rows * columns, BLOCK * BLOCK)
