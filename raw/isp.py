"""The camera pipeline in both directions (Brooks et al., CVPR 2019, arXiv 1811.11127, section 3).

``process`` is deliberately *not* the inverse of ``unprocess``: it applies no tone curve and does not
multiply by ``rgb_gain`` again, so ``process(unprocess(x))`` is darker and flatter than ``x`` (a constant
0.5 becomes 0.45 at ``rgb_gain`` 1.25), and the mosaic, the clips and the softened highlights lose
information for good. Noise made with this pair is therefore the difference between ``process(noisy raw)``
and ``process(clean raw)``. A denoiser must be trained towards ``process(clean raw)``: towards the original
image it would learn to brighten and to re-grade instead.

Exact inverse pairs inside the list: smoothstep, gamma, CCM, and the gains outside of highlights.
"""

from torch import Tensor

from raw.camera import Camera
from raw.color import apply_ccm, apply_gains, safe_invert_gains
from raw.demosaic import demosaic
from raw.mosaic import mosaic
from raw.tone import gamma_compression, linearize


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
    if image.ndim < 3 or image.shape[-3] != 3:
        raise ValueError(f"an sRGB image must have shape (..., 3, H, W), got {tuple(image.shape)}")
    linear = linearize(image)  # inverse tone curve, inverse gamma
    camera_rgb = apply_ccm(linear, camera.rgb2cam)
    dimmed = safe_invert_gains(camera_rgb, camera.rgb_gain, camera.red_gain, camera.blue_gain)
    return mosaic(dimmed.clamp(0.0, 1.0), camera.pattern)


def process(packed: Tensor, camera: Camera) -> Tensor:
    """Develop a packed raw into an sRGB image: white balance, demosaic, colour correction, gamma.

    The white-balanced mosaic is clipped *before* it is demosaiced, as sensors and converters do; with noise
    this raises deep shadows and lowers highlights, so processed noise does not have zero mean.

    Args:
        packed: (..., 4, H/2, W/2), planes R Gr Gb B, linear, black 0, white 1; may exceed [0, 1].
        camera: one camera, or a batch of cameras with the leading shape of ``packed``.

    Returns:
        (..., 3, H, W), sRGB in [0, 1]; black is ``1e-8^(1/2.2)`` = 2.3e-4, less than a tenth of an 8-bit
        step.
    """
    balanced = apply_gains(packed, camera.red_gain, camera.blue_gain).clamp(0.0, 1.0)
    camera_rgb = demosaic(balanced, camera.pattern)
    linear = apply_ccm(camera_rgb, camera.cam2rgb).clamp(0.0, 1.0)
    return gamma_compression(linear)
