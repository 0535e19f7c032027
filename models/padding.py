"""Padding of an image on the right and at the bottom to the size multiple a network needs."""

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad to the next multiple: mirrored as far as the image allows, the last row or column repeated beyond.

    Args:
        image: (B, C, H, W) float, H and W >= 1.
        multiple: the size multiple, >= 1.

    Returns:
        (B, C, H', W') with H' and W' the next multiples; ``image`` itself where nothing is to be padded.
    """
    height, width = image.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    # A mirror image without the edge pixel has only size - 1 rows.
    mirrored = (0, min(right, width - 1), 0, min(bottom, height - 1))
    repeated = (0, right - mirrored[1], 0, bottom - mirrored[3])
    if any(mirrored):
        image = F.pad(image, mirrored, mode="reflect")
    if any(repeated):
        image = F.pad(image, repeated, mode="replicate")
    return image
