"""Classical denoisers to stand beside a learned one; each estimates the noise from the noisy picture, or is told it."""

from __future__ import annotations

import importlib.util
import threading
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError

FloatImage = NDArray[np.float32]


class Baseline(Protocol):
    """A classical denoiser."""

    def __call__(self, image: FloatImage, sigma: float | None = None, /) -> FloatImage:
        """Denoise (H, W, 1 or 3) float32 in [0, 1]; ``sigma`` is that of `noise_sigma` if it is known already."""


_SMALLEST = 32


def noise_sigma(image: FloatImage) -> float:
    """Return one noise standard deviation for (H, W, C) in [0, 1], on the same scale, never zero.

    The root mean square over the channels of `noise.measure.estimate_noise`, which unlike the usual wavelet
    estimate also sees spatially correlated noise.
    """
    from noise.measure import estimate_noise

    short = [max(_SMALLEST - length, 0) for length in image.shape[:2]]
    # Mirrored, a picture below the estimator's smallest size keeps its noise statistics.
    padded = np.pad(image, ((0, short[0]), (0, short[1]), (0, 0)), mode="symmetric")
    sigma = np.asarray(estimate_noise(padded).sigma, dtype=np.float64) / 255.0
    return max(float(np.sqrt(np.mean(sigma**2))), 1e-4)


def nlm(image: FloatImage, sigma: float | None = None) -> FloatImage:
    """Non-local means (Buades et al. 2005): 5x5 patches, 13x13 search window, filter strength h = sigma."""
    from skimage.restoration import denoise_nl_means

    sigma = noise_sigma(image) if sigma is None else sigma
    result = denoise_nl_means(
        image, patch_size=5, patch_distance=6, h=sigma, sigma=sigma, fast_mode=True, channel_axis=-1
    )
    # scikit-image drops the axis of a single channel.
    return _float32(result).reshape(image.shape)


def wavelet(image: FloatImage, sigma: float | None = None) -> FloatImage:
    """BayesShrink wavelet thresholding (Chang et al. 2000), in YCbCr for colour."""
    from skimage.restoration import denoise_wavelet

    result = denoise_wavelet(
        image,
        sigma=noise_sigma(image) if sigma is None else sigma,
        method="BayesShrink",
        mode="soft",
        convert2ycbcr=image.shape[2] == 3,
        rescale_sigma=True,
        channel_axis=-1,
    )
    return _float32(result)


def tv(image: FloatImage, sigma: float | None = None) -> FloatImage:
    """Total variation (Chambolle 2004) with weight = sigma."""
    from skimage.restoration import denoise_tv_chambolle

    weight = noise_sigma(image) if sigma is None else sigma
    return _float32(denoise_tv_chambolle(image, weight=weight, channel_axis=-1))


# Its library keeps one pool of threads for all callers and aborts the process when two of them call at once.
_BM3D = threading.Lock()


def bm3d(image: FloatImage, sigma: float | None = None) -> FloatImage:
    """BM3D (Dabov et al. 2007) through the optional package `bm3d` (free for non-commercial use only)."""
    from bm3d import bm3d as run
    from bm3d import bm3d_rgb

    sigma = noise_sigma(image) if sigma is None else sigma
    with _BM3D:
        if image.shape[2] == 3:
            return _float32(bm3d_rgb(image.astype(np.float64), sigma))
        planes = [np.asarray(run(image[..., index].astype(np.float64), sigma)) for index in range(image.shape[2])]
    return _float32(np.stack([plane.reshape(image.shape[:2]) for plane in planes], axis=-1))


_OPTIONAL = {"bm3d": "bm3d"}
"""Name -> the package that it needs beside ours."""

BASELINES: dict[str, Baseline] = {
    name: run
    for name, run in {"nlm": nlm, "tv": tv, "wavelet": wavelet, "bm3d": bm3d}.items()
    if name not in _OPTIONAL or importlib.util.find_spec(_OPTIONAL[name]) is not None
}
"""Name on the command line -> function; (H, W, 1 or 3) float32 in [0, 1] to the same.

``bm3d`` is there if its package is installed.
"""


def pick_baselines(names: list[str] | tuple[str, ...]) -> dict[str, Baseline]:
    """Return the named baselines in the given order.

    Raises:
        UserError: unknown name; lists what exists.
    """
    for name in names:
        if name not in BASELINES:
            hint = f"; `pip install {_OPTIONAL[name]}` adds it" if name in _OPTIONAL else ""
            raise UserError(f"--baselines: expected names of {', '.join(BASELINES)}, found {name!r}{hint}")
    return {name: BASELINES[name] for name in dict.fromkeys(names)}


def _float32(result: NDArray[np.floating]) -> FloatImage:
    return np.asarray(result, dtype=np.float32)
