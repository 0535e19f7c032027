"""Between linear light, which EXR files hold, and the display values of all other formats: the sRGB curve.

The curve (IEC 61966-2-1) is continued beyond white and mirrored below black, so that nothing is cut off until a format
without floats is written. EXR has colours multiplied by alpha, PNG and TIFF as written here have not.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.depth import BitDepth, to_float
from pipeline.data.exr import write_exr, write_exr_layers
from pipeline.data.image_types import Image, without_alpha
from pipeline.data.paths import shown
from pipeline.errors import UserError

FloatImage = NDArray[np.float32]


def encode_light(light: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Map linear values of any shape and sign to display values."""
    import torch

    from raw.tone import srgb_compression

    values = np.asarray(light, dtype=np.float64)
    encoded: NDArray[np.float64] = np.copysign(srgb_compression(torch.from_numpy(np.abs(values))).numpy(), values)
    return encoded


def decode_light(display: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Map display values of any shape and sign to linear values, the inverse of `encode_light`."""
    import torch

    from raw.tone import srgb_expansion

    values = np.asarray(display, dtype=np.float64)
    decoded: NDArray[np.float64] = np.copysign(srgb_expansion(torch.from_numpy(np.abs(values))).numpy(), values)
    return decoded


def displayed(image: Image) -> Image:
    """Return the picture of an EXR as float32 display values, with its alpha as the last channel."""
    alpha = image.layers.alpha() if image.layers else None
    colours = image.pixels.astype(np.float64)
    if alpha is None:
        return replace(image, pixels=encode_light(colours).astype(np.float32), format="tiff", layers=None)
    alpha = np.nan_to_num(alpha, nan=1.0)
    plain = np.divide(colours, alpha, out=np.array(colours), where=alpha > 0)
    pixels = np.concatenate([encode_light(plain), alpha], axis=-1).astype(np.float32)
    return replace(image, pixels=pixels, format="tiff", layers=None)


def write_light(path: Path, image: Image, bit_depth: BitDepth | None) -> str | None:
    """Write an EXR file: the one that the picture came from with its colours, or a new one.

    Returns:
        What could not stay as it was, or None.

    Raises:
        UserError: the package ``OpenEXR`` is not installed.
    """
    try:
        import OpenEXR  # noqa: F401
    except ImportError:
        raise UserError(
            "--format exr: EXR files need the package OpenEXR; install it with pip install 'unveil-denoise[exr]'"
        ) from None
    kept = image.layers.half if image.layers is not None else image.pixels.dtype == np.uint8
    half = kept if bit_depth is None else bit_depth == "16"
    try:
        if image.layers is not None:
            return write_exr_layers(path, image.pixels, image.layers, half=half)
        values = to_float(image.pixels)
        colours = decode_light(without_alpha(values))
        if values.shape[2] in (2, 4):
            colours = np.concatenate([colours * values[..., -1:], values[..., -1:]], axis=-1)
        write_exr(path, np.clip(colours, -_LARGEST, _LARGEST).astype(np.float32), half=half)
    except RuntimeError as error:
        raise OSError(f"{shown(path)}: cannot write the EXR file ({' '.join(str(error).split())[:200]})") from error
    return None


_LARGEST = float(np.finfo(np.float32).max)
