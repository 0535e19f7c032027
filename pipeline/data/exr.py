"""Read OpenEXR renderings; the library is an optional extra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.image_types import MAX_PIXELS, CodecError, ImageError, check_pixels
from pipeline.data.paths import shown
from pipeline.errors import UserError


def read_exr(path: Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.float32]:
    """Read the colours of the first part of an EXR file as they are: linear, unbounded, NaN and infinity included.

    Returns:
        (H, W, 3) float32; a luminance file (Y) is repeated, alpha and other channels are left out.

    Raises:
        UserError: the package ``OpenEXR`` is not installed.
        ImageError: no EXR, damaged, too large, or without colours.
    """
    try:
        import OpenEXR
    except ImportError:
        raise UserError(
            f"{shown(path)}: EXR files need the package OpenEXR; install it with pip install 'unveil-denoise[exr]'"
        ) from None
    if not path.is_file():
        raise ImageError(f"{shown(path)}: expected an EXR file, found nothing there")
    try:
        with OpenEXR.File(str(path), header_only=True) as file:
            low, high = file.header()["dataWindow"]
            check_pixels(int(high[1]) - int(low[1]) + 1, int(high[0]) - int(low[0]) + 1, max_pixels)
        with OpenEXR.File(str(path), separate_channels=True) as file:
            return _colours({name: channel.pixels for name, channel in file.channels().items()})
    except CodecError as error:
        raise ImageError(f"{shown(path)}: {error}") from None
    except Exception as error:  # the binding raises whatever its C++ does
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{shown(path)}: expected a whole EXR file, found a damaged one ({reason[:200]})") from error


def _colours(channels: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    names = "RGB" if all(name in channels for name in "RGB") else "YYY" if "Y" in channels else None
    if names is None:
        raise CodecError(f"expected the channels R, G and B, found {', '.join(channels) or 'none'}")
    planes = [np.asarray(channels[name], dtype=np.float32) for name in names]
    if len({plane.shape for plane in planes}) != 1:
        raise CodecError("expected R, G and B of one size, found subsampled channels")
    return np.stack(planes, axis=-1)
