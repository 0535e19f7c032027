"""A curve after which shot and read noise have one deviation, whatever the level, and its exact inverse.

The root of Anscombe (1948) for Var = shot x + read, put together so that it passes through black and white, goes on as
a straight line below black (read noise has both signs there), and is smooth where the two meet:

    f(y) = 2 (sqrt(shot y + c) - sqrt(c)) / shot  for y >= 0,    y / sqrt(c)  for y < 0,    c = read + 3/8 shot**2

and u = f(y) / f(1). Noise of u has nearly the deviation 1 / f(1) from black to white; less at black where the read
noise is about an electron or below (read < 4 shot**2).

A mean taken after such a curve is not the curve of the mean, which is why denoising after Anscombe's root needs an
"unbiased inverse" (Makitalo and Foi 2011). A median is: f rises, so median(f(y)) = f(median(y)), and noise is nearly
symmetric, so the median of y is x. Networks trained with L1 predict medians; for them ``restore`` has no bias to mend.
"""

import math

import numpy as np
from numpy.typing import NDArray

from noise.shot_read import NoiseLevel

Floats = NDArray[np.float32]

_ANSCOMBE = 3 / 8


def stabilise(raw: Floats, level: NoiseLevel) -> Floats:
    """The curve u of linear raw values; any shape, black 0 to 0 and white 1 to 1, not clipped.

    Raises:
        ValueError: shot and read are both 0.
    """
    shot, root, white = _constants(level)
    values = np.asarray(raw, dtype=np.float32)
    # This form of the root is exact for small shot too, and for values below black it is the straight line.
    light = np.maximum(values, 0)
    return np.asarray(values * np.float32(2 / white) / (np.sqrt(shot * light + root * root) + root), dtype=np.float32)


def restore(stabilised: Floats, level: NoiseLevel) -> Floats:
    """Inverse of ``stabilise``.

    Raises:
        ValueError: shot and read are both 0.
    """
    shot, root, white = _constants(level)
    values = np.asarray(stabilised, dtype=np.float32) * white
    return np.asarray(values * root + (shot / 4) * np.square(np.maximum(values, 0)), dtype=np.float32)


def deviation(level: NoiseLevel) -> float:
    """Standard deviation of the noise of ``stabilise``'s output.

    Raises:
        ValueError: shot and read are both 0.
    """
    return 1 / float(_constants(level)[2])


def _constants(level: NoiseLevel) -> tuple[np.float32, np.float32, np.float32]:
    """Shot, the root of c, and f(1)."""
    c = level.read + _ANSCOMBE * level.shot**2
    if not c > 0:
        raise ValueError(f"shot and read must not both be 0, got {level.shot} and {level.read}")
    root = math.sqrt(c)
    white = 2 / (math.sqrt(level.shot + c) + root)
    return np.float32(level.shot), np.float32(root), np.float32(white)
