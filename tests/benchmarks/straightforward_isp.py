"""The published camera pipeline, written down in torch as its equations read: what ``bench_synthesis`` compares with.

Every step on the whole RGB image, in the order of Brooks et al. (CVPR 2019), one image at a time.
"""

import torch
from torch import Tensor


def unprocess(image: Tensor, rgb2cam: Tensor, gains: tuple[float, float, float]) -> Tensor:
    """(H, W, 3) float sRGB to packed raw (H/2, W/2, 4), RGGB; gains are of all channels, red and blue."""
    image = 0.5 - torch.sin(torch.asin(1.0 - 2.0 * torch.clamp(image, 0.0, 1.0)) / 3.0)
    image = torch.clamp(image, min=1e-8) ** 2.2
    image = (image.reshape(-1, 3) @ rgb2cam.T).reshape(image.shape)
    rgb, red, blue = gains
    inverse = torch.tensor([1.0 / red, 1.0, 1.0 / blue]) / rgb
    gray = image.mean(dim=-1, keepdim=True)
    mask = (torch.clamp(gray - 0.9, min=0.0) / (1.0 - 0.9)) ** 2
    image = image * torch.maximum(mask + (1.0 - mask) * inverse, inverse)
    image = torch.clamp(image, 0.0, 1.0)
    return torch.stack((image[0::2, 0::2, 0], image[0::2, 1::2, 1], image[1::2, 0::2, 1], image[1::2, 1::2, 2]), dim=-1)


def add_noise(bayer: Tensor, shot: float, read: float, generator: torch.Generator) -> Tensor:
    """Heteroscedastic Gaussian noise in raw."""
    return bayer + torch.sqrt(bayer * shot + read) * torch.randn(bayer.shape, generator=generator)


def process(bayer: Tensor, cam2rgb: Tensor, gains: tuple[float, float, float]) -> Tensor:
    """Packed raw (H/2, W/2, 4) to (H, W, 3) sRGB: gains, clip, bilinear demosaic, CCM, clip, gamma."""
    _, red, blue = gains
    bayer = torch.clamp(bayer * torch.tensor([red, 1.0, 1.0, blue]), 0.0, 1.0)
    image = _demosaic(bayer)
    image = (image.reshape(-1, 3) @ cam2rgb.T).reshape(image.shape)
    image = torch.clamp(image, 0.0, 1.0)
    return torch.clamp(image, min=1e-8) ** (1.0 / 2.2)


def _demosaic(bayer: Tensor) -> Tensor:
    """Each plane enlarged by 2 to its own sites; green at red and blue is the mean of its two directions."""
    red = _enlarged(bayer[..., 0])
    blue = torch.flip(_enlarged(torch.flip(bayer[..., 3], (0, 1))), (0, 1))
    green_r = torch.flip(_enlarged(torch.flip(bayer[..., 1], (1,))), (1,))
    green_b = torch.flip(_enlarged(torch.flip(bayer[..., 2], (0,))), (0,))
    green = torch.empty_like(red)
    green[0::2, 0::2] = (green_r[0::2, 0::2] + green_b[0::2, 0::2]) / 2
    green[0::2, 1::2] = green_r[0::2, 1::2]
    green[1::2, 0::2] = green_b[1::2, 0::2]
    green[1::2, 1::2] = (green_r[1::2, 1::2] + green_b[1::2, 1::2]) / 2
    return torch.stack((red, green, blue), dim=-1)


def _enlarged(plane: Tensor) -> Tensor:
    """(h, w) to (2h, 2w): samples at even places, means of neighbours between, the last one repeated."""
    below = torch.cat((plane[1:], plane[-1:]))
    rows = torch.stack((plane, (plane + below) / 2), dim=1).reshape(-1, plane.shape[1])
    beside = torch.cat((rows[:, 1:], rows[:, -1:]), dim=1)
    return torch.stack((rows, (rows + beside) / 2), dim=2).reshape(rows.shape[0], -1)
