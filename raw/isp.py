"""The camera pipeline in both directions (Brooks et al., CVPR 2019, arXiv 1811.11127, section 3).

``process`` is deliberately *not* the inverse of ``unprocess``: by default it applies no tone curve and does not
multiply by ``rgb_gain`` again, so ``process(unprocess(x))`` is darker and flatter than ``x`` (a constant
0.5 becomes 0.45 at ``rgb_gain`` 1.25), and the mosaic, the clips and the softened highlights lose
information for good. Noise made with this pair is therefore the difference between ``process(noisy raw)``
and ``process(clean raw)``. A denoiser must be trained towards ``process(clean raw)``: towards the original
image it would learn to brighten and to re-grade instead.

Exact inverse pairs inside the list: smoothstep, gamma, CCM, and the gains outside of highlights.

Both directions work on the four sites of the mosaic as quarter-size planes. On the way to raw the CFA passes one
colour of each pixel, so the other two are never computed; only their mean is, for the highlights.
"""

import functools

import torch
from torch import Tensor

from raw.arrays import accepts_numpy
from raw.camera import Camera
from raw.color import apply_ccm, safe_invert_gains, saturated
from raw.demosaic import demosaic_sites
from raw.mosaic import CHANNEL_OF_PLANE, merge_sites, split_sites
from raw.rendering import Rendering, displayed
from raw.tone import linearize

_BROOKS = Rendering()


@accepts_numpy
def unprocess(image: Tensor, camera: Camera) -> Tensor:
    """Turn an sRGB image into the raw that ``camera`` could have recorded, without noise.

    Args:
        image: (..., 3, H, W) sRGB, H and W even; float in [0, 1] (clipped), or uint8 in 0..255 (sooner).
        camera: one camera, or a batch of cameras with the leading shape of ``image``.

    Returns:
        Packed raw (..., 4, H/2, W/2), planes R Gr Gb B, linear, clipped to black 0 and white 1.

    Raises:
        ValueError: not three channels, or H or W is odd.
    """
    linear = linearize(split_sites(image, camera.pattern))  # inverse tone curve, inverse gamma
    colour, gray = _colour_passed(linear, camera.rgb2cam)  # to camera colours, through the CFA
    inverse_gains = (camera.plane_gains * camera.rgb_gain[..., None]).reciprocal()[..., None, None]
    return safe_invert_gains(colour, gray, inverse_gains).clamp_(0.0, 1.0)


@accepts_numpy
def process(packed: Tensor, camera: Camera, rendering: Rendering = _BROOKS) -> Tensor:
    """Develop a packed raw into an sRGB image: white balance, demosaic, colour correction, gamma.

    The white-balanced mosaic is clipped *before* it is demosaiced, as sensors and converters do; with noise
    this raises deep shadows and lowers highlights, so processed noise does not have zero mean.

    Args:
        packed: (..., 4, H/2, W/2), planes R Gr Gb B, linear, black 0, white 1; may exceed [0, 1].
        camera: one camera, or a batch of cameras with the leading shape of ``packed``.
        rendering: the converter's choices; by default those of the paper.

    Returns:
        (..., 3, H, W), sRGB in [0, 1]; with the gamma black is ``1e-8^(1/2.2)`` = 2.3e-4, less than a tenth
        of an 8-bit step.

    Raises:
        ValueError: ``packed`` does not have four planes.
    """
    lowest = 0.0 if rendering.clip_black else None
    balanced = (packed * camera.plane_gains[..., None, None]).clamp_(lowest, 1.0)
    camera_rgb = demosaic_sites(balanced, camera.pattern, rendering.demosaic).flatten(-3, -2)
    linear = apply_ccm(camera_rgb, saturated(camera.cam2rgb, rendering.saturation))
    if rendering.brighten:
        linear = linear.mul_(camera.rgb_gain[..., None, None, None])
    display = displayed(linear.clamp_(0.0, 1.0), rendering)
    return merge_sites(display.view(*packed.shape[:-3], 3, *packed.shape[-3:]), camera.pattern)


def _colour_passed(linear: Tensor, rgb2cam: Tensor) -> tuple[Tensor, Tensor]:
    """The camera colour that each site's filter passes, and the mean of all three.

    Args:
        linear: (..., 4, 3, H/2, W/2) linear sRGB at the sites R Gr Gb B.
        rgb2cam: (3, 3), or (..., 3, 3) with the leading shape of ``linear``.

    Returns:
        Two of (..., 4, H/2, W/2), linear, not clipped.
    """
    rows = (_colour_and_mean(linear.device) @ rgb2cam).view(*rgb2cam.shape[:-2], 4, 2, 3)
    both = rows @ linear.flatten(-2)  # (..., 4, 2, 3) @ (..., 4, 3, H/2 * W/2)
    colour, gray = both.view(*both.shape[:-1], *linear.shape[-2:]).unbind(dim=-3)
    return colour, gray


@functools.cache
def _colour_and_mean(device: torch.device) -> Tensor:
    """(8, 3): for each of R Gr Gb B, what selects its channel, and what takes the mean of all."""
    mean = torch.full((3,), 1 / 3)
    return torch.stack([row for channel in CHANNEL_OF_PLANE for row in (torch.eye(3)[channel], mean)]).to(device)
