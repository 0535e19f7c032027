"""Stored numbers and floats: what 8 and 16 bits mean, and the way back."""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.data.image_types import Pixels

BitDepth = Literal["8", "16", "float"]

BIT_DEPTHS: Final[dict[BitDepth, DTypeLike]] = {"8": np.uint8, "16": np.uint16, "float": np.float32}
"""Values of ``--bit-depth``, and the pixels that each one gives."""


def to_float(pixels: Pixels) -> NDArray[np.float32]:
    """Map uint8 or uint16 to float32 in [0, 1]; float32 is returned as a copy, whatever its range."""
    if pixels.dtype.kind == "f":
        return pixels.astype(np.float32)
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def from_float(image: NDArray[np.floating[Any]], dtype: DTypeLike) -> Pixels:
    """Map [0, 1] to the full range of uint8 or uint16, clipped and rounded to the nearest value.

    float32 is passed on without clipping: values above white are legitimate there.

    Raises:
        ValueError: another dtype.
    """
    kind = np.dtype(dtype)
    if kind == np.float32:
        return np.asarray(image, dtype=np.float32)
    if kind not in (np.uint8, np.uint16):
        raise ValueError(f"dtype must be uint8, uint16 or float32, got {kind}")
    white = np.iinfo(kind).max
    # float64, because float32 cannot hold 65535 * x + 0.5 exactly.
    return np.rint(np.clip(np.asarray(image, dtype=np.float64), 0.0, 1.0) * white).astype(kind)


def in_depth(pixels: Pixels, dtype: DTypeLike) -> Pixels:
    """Return pixels in another depth, rounded to the nearest value; in the same one as they are."""
    if pixels.dtype == dtype:
        return pixels
    # Colours are finite here, but a float alpha is anything.
    return from_float(np.nan_to_num(to_float(pixels)), dtype)
