"""Write a denoised picture as its file was: depth, alpha and metadata stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.images import Image, from_float, write_image


def write_denoised(output: Path, image: Image, denoised: NDArray[np.float32]) -> None:
    """Write ``denoised`` in the depth and with the alpha and the metadata of ``image``; folders are made.

    Args:
        output: where to; replaced atomically.
        image: the noisy picture, as it was read.
        denoised: (H, W, C) float32, black 0 and white 1.

    Raises:
        ValueError: another shape, or values that are not finite.
    """
    if denoised.shape != image.pixels.shape:
        raise ValueError(f"the model returned {denoised.shape} for a picture of {image.pixels.shape}")
    if not np.isfinite(denoised).all():
        raise ValueError("the model returned NaN or infinite values")
    pixels = from_float(denoised, image.pixels.dtype)
    if pixels.shape[2] in (2, 4):
        # Not through floats and back: alpha is not ours to change by even one step.
        pixels[..., -1] = image.pixels[..., -1]
    output.parent.mkdir(parents=True, exist_ok=True)
    write_image(output, Image(pixels=pixels, metadata=image.metadata, format=image.format))
