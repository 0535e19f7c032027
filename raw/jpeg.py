"""What a JPEG file does to an image: 8 bits, chroma subsampling, quantised blocks of 8x8."""

import io
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from raw.arrays import accepts_numpy

Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]
"""Chroma at full size, at half the width, or at half the width and height (what most cameras write)."""


@accepts_numpy
def jpeg(image: Tensor, quality: int, subsampling: Subsampling = "4:2:0") -> Tensor:
    """Encode as JPEG and decode again; the same input gives the same output with one version of Pillow.

    Args:
        image: (C, H, W) sRGB, C = 1 or 3, float in [0, 1] (clipped); rounded to 8 bits first.
        quality: 1 to 100 on the scale of libjpeg.
        subsampling: of the chroma; grey images have none.

    Returns:
        The same shape, dtype and device, multiples of 1/255.

    Raises:
        ValueError: not one or three channels, or ``quality`` is not from 1 to 100.
    """
    from PIL import Image

    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"a JPEG needs an image of shape (1 or 3, H, W), got {tuple(image.shape)}")
    if not 1 <= quality <= 100:
        raise ValueError(f"JPEG quality must be from 1 to 100, got {quality}")
    pixels = (image.detach().clamp(0.0, 1.0) * 255.0).round_().to("cpu", torch.uint8).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    picture.save(file, format="JPEG", quality=quality, subsampling=subsampling)
    with Image.open(file) as decoded:
        read = np.array(decoded).reshape(pixels.shape)
    return torch.from_numpy(read).permute(2, 0, 1).contiguous().to(image.device, image.dtype).div_(255.0)
