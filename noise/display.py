"""Display images at the two ends of a noise formula: bytes to [0, 1], and the paper's 8-bit files."""

import torch
from torch import Tensor


def unit_float(image: Tensor) -> Tensor:
    """Bytes as float32 in [0, 1]; a float image is returned as it is."""
    return image.float() / 255.0 if image.dtype == torch.uint8 else image


def rounded_to_8_bit(image: Tensor) -> Tensor:
    """Clip to [0, 1] and round to the nearest multiple of 1/255.

    The masked-training paper (Chen et al., CVPR 2023) adds its test noises in float and stores the result as
    an 8-bit PNG, so this is what its networks are given.
    """
    return image.clamp(0.0, 1.0).mul_(255.0).round_().div_(255.0)
