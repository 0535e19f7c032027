"""Write a denoised picture as its file was: depth, alpha and metadata stay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.depth import BIT_DEPTHS, in_depth
from pipeline.data.images import Image, from_float, to_float, without_alpha, write_image
from pipeline.inference.outputs import DEFAULT, OutputOptions
from pipeline.inference.picture import Picture


def write_denoised(
    output: Path, picture: Picture, denoised: NDArray[np.float32], options: OutputOptions = DEFAULT
) -> str | None:
    """Write ``denoised`` in the depth and with the alpha and the metadata of ``picture``; folders are made.

    Args:
        output: where to; replaced atomically.
        picture: the noisy picture.
        denoised: of the shape of ``picture.seen``, in its range.
        options: bit depth and strength.

    Returns:
        What could not stay as it was, or None.

    Raises:
        ValueError: another shape, or values that are not finite.
    """
    finished = finish(picture, denoised, options)
    output.parent.mkdir(parents=True, exist_ok=True)
    return write_image(output, finished, bit_depth=options.bit_depth)


def finish(picture: Picture, denoised: NDArray[np.float32], options: OutputOptions = DEFAULT) -> Image:
    """Return the picture that is to be written; arguments and errors as in `write_denoised`."""
    image = picture.image
    if denoised.shape != image.pixels.shape:
        raise ValueError(f"the model returned {denoised.shape} for a picture of {image.pixels.shape}")
    if not np.isfinite(without_alpha(denoised)).all():
        raise ValueError("the model returned NaN or infinite values")
    stored = blend(to_float(image.pixels), picture.taken_back(denoised), options.strength)
    # Linear light is converted on writing, from floats.
    depth = None if image.format == "exr" else options.bit_depth
    pixels = from_float(without_alpha(stored), image.pixels.dtype if depth is None else BIT_DEPTHS[depth])
    if image.pixels.shape[2] in (2, 4):
        # Not through floats and back: alpha is not ours to change by even one step.
        pixels = np.concatenate([pixels, in_depth(image.pixels[..., -1:], pixels.dtype)], axis=2)
    return replace(image, pixels=pixels)


def blend(noisy: NDArray[np.float32], denoised: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
    """Mix stored values: all noisy at ``strength`` 0, all denoised at 1."""
    if strength == 1:
        return denoised
    return noisy + np.float32(strength) * (denoised - noisy)
