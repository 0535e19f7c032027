"""Losses, computed in float32 whatever the precision of the network.

L1 of masked training (arXiv 2303.13132, section 4.1) and the masked L1 of the asymmetric mask scheme (arXiv
2407.06514, section 3, loss L_m: the mean of |D(M x) - x| over hidden pixels only).
"""

import torch
from torch import Tensor


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error over all elements; scalar float32."""
    return (prediction.float() - target.float()).abs().mean()


def log_mse(prediction: Tensor, target: Tensor, floor: float = 1e-6) -> Tensor:
    """Mean over samples of ln(MSE + floor); scalar float32. It is the mean PSNR times -ln(10) / 10.

    A sample counts by the share of its error that is taken away, so weak noise is as important as strong, and the best
    prediction is a mean where that of L1 is a median. NAFNet (Chen et al., ECCV 2022) trains with it.

    Args:
        prediction: (B, C, H, W) float.
        target: (B, C, H, W) float.
        floor: keeps samples without any noise from outweighing the rest; 1e-6 is 60 dB.
    """
    error = (prediction.float() - target.float()).square().mean(dim=(1, 2, 3))
    return (error + floor).log().mean()


def masked_l1(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error over hidden pixels.

    Args:
        prediction: (B, C, H, W) float.
        target: (B, C, H, W) float.
        mask: (B, 1, H, W) bool, True = hidden.

    Returns:
        Scalar float32: the sum over hidden pixels and channels divided by (hidden pixels * C); 0 if none is
        hidden.
    """
    error = (prediction.float() - target.float()).abs()
    hidden = mask.to(error.dtype)
    return (error * hidden).sum() / (hidden.sum() * error.shape[1]).clamp_min(1.0)


def total_variation(image: Tensor) -> Tensor:
    """Mean absolute difference of vertical neighbours plus that of horizontal ones (Rudin, Osher & Fatemi 1992).

    Args:
        image: (B, C, H, W) float.

    Returns:
        Scalar float32; an axis of one pixel adds nothing.
    """
    image = image.float()
    total = image.new_zeros(())
    for axis in (-2, -1):
        if image.shape[axis] > 1:
            total = total + image.diff(dim=axis).abs().mean()
    return total


def charbonnier(prediction: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of sqrt(error**2 + epsilon**2) (Charbonnier et al., ICIP 1994); scalar float32."""
    error = prediction.float() - target.float()
    return torch.sqrt(error * error + epsilon * epsilon).mean()
