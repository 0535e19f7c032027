"""The noise level as one more input channel of a network, from the image that the network is shown.

Heteroscedastic Gaussian noise of parameters (shot, read) has the standard deviation sqrt(shot * x + read) at a pixel
of clean value x (Foi et al. 2008; the noise level of FFDNet, Zhang et al. 2018, and of Brooks et al. 2019). Here x
is the image as the network sees it, its hidden pixels already filled: a map of the noisy image itself would tell a
blind network what it may not know.
"""

import torch
from torch import Tensor

# A standard deviation of 0.1 is shown as 1, of the size of the image's own values.
_SCALE = 10.0


def level_map(shown: Tensor, noise: Tensor) -> Tensor:
    """Standard deviation of the noise at each pixel, in units of 0.1.

    Args:
        shown: (B, C, H, W) float in [0, 1], hidden pixels filled.
        noise: (B, 2) float, shot and read variance of each image, in units of the image (and squared).

    Returns:
        (B, 1, H, W) of the dtype of ``shown``: 10 sqrt(max(shot * mean over channels, 0) + read).

    Raises:
        ValueError: ``noise`` of another shape.
    """
    check_noise(noise, shown.shape[0])
    shot, read = noise.to(shown)[:, :, None, None, None].unbind(1)
    variance = (shot * shown.mean(1, keepdim=True)).clamp_min(0.0) + read
    # Not at zero, where the root has no gradient.
    return _SCALE * variance.clamp_min(torch.finfo(torch.float32).tiny).sqrt()


def check_noise(noise: Tensor, batch: int) -> None:
    """Raise ValueError unless ``noise`` is (B, 2) float for ``batch`` images."""
    if noise.shape != (batch, 2) or not noise.is_floating_point():
        raise ValueError(
            f"noise must have shape ({batch}, 2), shot and read of each image, got {tuple(noise.shape)} {noise.dtype}"
        )
