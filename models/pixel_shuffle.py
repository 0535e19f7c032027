"""Pixel-shuffle downsampling (PD): an image as a batch of its polyphase sub-images, and back.

PD breaks the spatial correlation of real noise (Zhou et al., "When AWGN-based Denoiser Meets Real Noises",
AAAI 2020); AP-BSN (CVPR 2022) and the asymmetric mask scheme (arXiv 2407.06514, section 3) train with one
stride and denoise with another.
"""

from torch import Tensor


def pd_down(image: Tensor, stride: int) -> Tensor:
    """Split ``image`` into its ``stride**2`` polyphase sub-images.

    Args:
        image: (B, C, H, W), any dtype and range; H and W are multiples of ``stride``.
        stride: PD stride s >= 1; s = 1 returns the image unchanged.

    Returns:
        (B * s**2, C, H/s, W/s). Row ``b*s*s + i*s + j`` holds ``image[b, :, i::s, j::s]``.

    Raises:
        ValueError: H or W is not a multiple of ``stride``, or ``stride`` < 1.
    """
    batch, channels, height, width = image.shape
    if stride < 1 or height % stride or width % stride:
        raise ValueError(f"PD stride {stride} does not divide an image of {height}x{width}")
    if stride == 1:
        return image
    rows, columns = height // stride, width // stride
    phases = image.reshape(batch, channels, rows, stride, columns, stride).permute(0, 3, 5, 1, 2, 4)
    return phases.reshape(batch * stride * stride, channels, rows, columns)


def pd_up(sub_images: Tensor, stride: int) -> Tensor:
    """Put the sub-images of ``pd_down`` back together.

    Args:
        sub_images: (B * s**2, C, h, w) in the order of ``pd_down``.
        stride: the PD stride s >= 1 they were made with.

    Returns:
        (B, C, h*s, w*s).

    Raises:
        ValueError: the number of sub-images is not a multiple of ``stride**2``, or ``stride`` < 1.
    """
    count, channels, rows, columns = sub_images.shape
    if stride < 1 or count % (stride * stride):
        raise ValueError(f"PD stride {stride} does not fit {count} sub-images")
    if stride == 1:
        return sub_images
    phases = sub_images.reshape(-1, stride, stride, channels, rows, columns).permute(0, 3, 4, 1, 5, 2)
    return phases.reshape(-1, channels, rows * stride, columns * stride)
