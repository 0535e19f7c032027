"""One exposure's camera: colour matrix, gains and CFA pattern; and the distribution of plausible cameras.

The matrices are the XYZ-to-camera matrices of the four cameras of the Darmstadt Noise Dataset and the
ranges of the gains those of its photographs (Brooks et al., "Unprocessing Images for Learned Raw
Denoising", CVPR 2019).
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from raw.cfa import CFAPattern
from raw.primaries import RGB_TO_XYZ

XYZ_TO_CAMERA: Final = (
    ((1.0234, -0.2969, -0.2266), (-0.5625, 1.6328, -0.0469), (-0.0703, 0.2188, 0.6406)),
    ((0.4913, -0.0541, -0.0202), (-0.613, 1.3513, 0.2906), (-0.1564, 0.2151, 0.7183)),
    ((0.838, -0.263, -0.0639), (-0.2887, 1.0725, 0.2496), (-0.0627, 0.1427, 0.5438)),
    ((0.6596, -0.2079, -0.0562), (-0.4782, 1.3016, 0.1933), (-0.097, 0.1581, 0.5181)),
)
"""Nexus 6P, Sony A7R, Olympus E-M10, Sony RX100 IV."""

MATRIX_WEIGHT: Final = (1e-8, 1e8)
BRIGHTNESS_MEAN: Final = 0.8
BRIGHTNESS_STD: Final = 0.1
RED_GAIN: Final = (1.9, 2.4)
BLUE_GAIN: Final = (1.5, 1.9)


@dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    """What ``process`` and ``unprocess`` need to know of one exposure, or of a batch of exposures."""

    rgb2cam: Tensor
    """(..., 3, 3) float32, linear sRGB to camera colours; rows sum to 1, so neutral stays neutral."""

    rgb_gain: Tensor
    """(...) brightening of all channels, undone by ``unprocess`` only."""

    red_gain: Tensor
    """(...) white-balance gain of red relative to green."""

    blue_gain: Tensor
    """(...) white-balance gain of blue relative to green."""

    pattern: CFAPattern = "RGGB"
    """CFA pattern at pixel (0, 0)."""

    @property
    def cam2rgb(self) -> Tensor:
        """(..., 3, 3) camera colours to linear sRGB: the CCM, the inverse of ``rgb2cam``."""
        inverse: Tensor = torch.linalg.inv(self.rgb2cam)
        return inverse

    @property
    def plane_gains(self) -> Tensor:
        """(..., 4) white-balance gains of the planes R, Gr, Gb, B."""
        green = torch.ones_like(self.red_gain)
        return torch.stack((self.red_gain, green, green, self.blue_gain), dim=-1)

    def to(self, device: torch.device | str) -> "Camera":
        """The same camera with its tensors on ``device``."""
        return Camera(
            rgb2cam=self.rgb2cam.to(device),
            rgb_gain=self.rgb_gain.to(device),
            red_gain=self.red_gain.to(device),
            blue_gain=self.blue_gain.to(device),
            pattern=self.pattern,
        )


def sample_camera(generator: torch.Generator) -> Camera:
    """Draw a plausible RGGB camera: mixed colour matrix, brightness, red and blue gains.

    The colour matrix is a mean of the four measured ones with uniform weights; ``rgb_gain`` is 1/N(0.8,
    0.1), the other gains are uniform. Four draws from ``generator``, in that order; tensors on its device.
    """
    device = generator.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator, device=device)

    weights = uniform(*MATRIX_WEIGHT, len(XYZ_TO_CAMERA))
    xyz2cam = torch.tensordot(weights / weights.sum(), torch.tensor(XYZ_TO_CAMERA, device=device), dims=1)
    rgb2cam = xyz2cam @ torch.tensor(RGB_TO_XYZ, device=device)
    brightness = BRIGHTNESS_MEAN + BRIGHTNESS_STD * torch.randn((), generator=generator, device=device)
    return Camera(
        rgb2cam=rgb2cam / rgb2cam.sum(dim=-1, keepdim=True),
        rgb_gain=1.0 / brightness,
        red_gain=uniform(*RED_GAIN),
        blue_gain=uniform(*BLUE_GAIN),
    )
