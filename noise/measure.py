"""Noise of one image, without its clean partner: strength, noise line, correlation, and the settings that follow.

Estimators that look at neighbouring pixels only (the median of the finest wavelet coefficients, differences)
take noise for white and miss most of it where demosaicing, resizing or JPEG has smoothed it. This one takes
the whole variance inside flat patches instead (`noise.flat_patches`). Where the noise turns out white, the noise line
comes from the wavelet fit (`noise.line_fit`), which needs no flat patches.

Two limits, measured in docs/results/noise-measurement.md: where JPEG or a camera smooths flat areas more than textured
ones, the noise of the whole image is larger than that of its flat areas; and an even, fine-grained texture
that fills the image, such as a lawn, is noise to it.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from noise.flat_patches import FlatNoise, measure_flat
from noise.line_fit import fit_line
from noise.noise_line import NoiseLine, line_through

Array = NDArray[np.float32]

LAGS: Final = 5
SMALL_PATCH: Final = 8
LARGE_PATCH: Final = 16
"""Correlated noise needs patches many times its correlation length; otherwise small ones are flatter."""

WHITE_CORRELATION: Final = 0.15
PD_CORRELATION: Final = 0.25
RELIABLE_FLAT: Final = 0.15
RELIABLE_CLAMPED: Final = 0.3
RELIABLE_SPREAD: Final = 0.22
"""Sample variances of noise spread less; what spreads more has the long correlation of texture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseEstimate:
    """Measured noise of one image, with what follows for self-supervised training."""

    sigma: tuple[float, ...]
    """Standard deviation per channel in units of 1/255, before clipping to the image's range."""

    interval: tuple[float, float]
    """Plausible (lowest, highest) mean of ``sigma``: wide where flat areas are missing."""

    reliable: bool
    """False if there are too few flat areas to tell noise from texture: then trust ``interval`` only."""

    horizontal: tuple[float, ...]
    """Autocorrelation at horizontal lags 1..5, mean over channels."""

    vertical: tuple[float, ...]
    """Autocorrelation at vertical lags 1..5, mean over channels."""

    channel_correlation: tuple[tuple[float, ...], ...]
    """Correlation of the channels' noise at one pixel, (C, C)."""

    flat_fraction: float
    """Fraction of patches in which the noise was measured."""

    pd_stride: int
    """Smallest stride at which the noise of neighbours is nearly independent, 1..5."""

    mask_ratio: float
    """Fraction of pixels to hide that suits the correlation: 0.2 white, 0.5, or 0.8 strongly correlated."""

    lines: tuple[NoiseLine, ...] = ()
    """Variance against level, one line per channel: of the wavelet fit where the noise is white, else of flat patches.

    After a tone curve the variance is no line in the level; then the intervals are wide and the curve tells more.
    """


def estimate_noise(image: NDArray[np.floating], *, step: float = 1 / 255) -> NoiseEstimate:
    """Estimate the noise of one image from its flat areas.

    Args:
        image: (H, W, C) or (H, W), float, clipped at 0 and 1; at least 32x32.
        step: quantisation step of the pixels: areas with less than a third of it have lost their noise.

    Raises:
        ValueError: the image is smaller, or not finite.
    """
    pixels = np.asarray(image, dtype=np.float32)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or min(pixels.shape[:2]) < 2 * LARGE_PATCH:
        raise ValueError(f"noise needs an image of at least 32x32 pixels, got shape {np.shape(image)}")
    if not np.isfinite(pixels).all():
        raise ValueError("noise cannot be measured in an image with NaN or infinite values")
    flat = measure_flat(pixels, SMALL_PATCH, step=step)
    if max(flat.autocorrelation[0, 1], flat.autocorrelation[1, 0]) > WHITE_CORRELATION:
        flat = measure_flat(pixels, LARGE_PATCH, step=step)
    variance = (flat.variance * flat.weight[:, None]).sum(axis=0) / flat.weight.sum()
    sigma = 255.0 * np.sqrt(variance)
    horizontal = tuple(float(value) for value in flat.autocorrelation[0, 1 : LAGS + 1])
    vertical = tuple(float(value) for value in flat.autocorrelation[1 : LAGS + 1, 0])
    reliable = (
        flat.flat_fraction >= RELIABLE_FLAT and flat.clamped <= RELIABLE_CLAMPED and flat.spread <= RELIABLE_SPREAD
    )
    return NoiseEstimate(
        sigma=tuple(float(value) for value in sigma),
        interval=_interval(float(sigma.mean()), reliable=reliable, correlated=max(horizontal[0], vertical[0])),
        reliable=reliable,
        horizontal=horizontal,
        vertical=vertical,
        channel_correlation=tuple(tuple(float(value) for value in row) for row in flat.channel_correlation),
        flat_fraction=flat.flat_fraction,
        pd_stride=_pd_stride(horizontal, vertical),
        mask_ratio=_mask_ratio(horizontal, vertical),
        lines=_lines(pixels, flat, white=max(abs(horizontal[0]), abs(vertical[0])) < WHITE_CORRELATION),
    )


def _lines(pixels: Array, flat: FlatNoise, *, white: bool) -> tuple[NoiseLine, ...]:
    if white:
        return tuple(fit_line(pixels[..., channel]) for channel in range(pixels.shape[2]))
    use = flat.plausible if flat.plausible.any() else ~flat.plausible
    weight = 1 / np.square(flat.error[use])
    return tuple(
        line_through(
            [(float(x), max(float(v), 1e-12), float(w)) for x, v, w in zip(level, variance, weight, strict=True)],
            method="flat patches",
        )
        for level, variance in zip(flat.level[use].T, flat.variance[use].T, strict=True)
    )


def _interval(sigma: float, *, reliable: bool, correlated: float) -> tuple[float, float]:
    """Factors from real pairs: see the table in docs/results/noise-measurement.md."""
    if not reliable:
        return 0.3 * sigma, 2.2 * sigma
    if correlated > WHITE_CORRELATION:
        return 0.7 * sigma, 2.2 * sigma
    return 0.8 * sigma, 1.15 * sigma


def _pd_stride(horizontal: tuple[float, ...], vertical: tuple[float, ...]) -> int:
    """Smallest stride whose neighbours, in both directions, correlate by less than ``PD_CORRELATION``."""
    for stride in range(1, LAGS):
        if max(abs(horizontal[stride - 1]), abs(vertical[stride - 1])) < PD_CORRELATION:
            return stride
    return LAGS


def _mask_ratio(horizontal: tuple[float, ...], vertical: tuple[float, ...]) -> float:
    nearest = max(abs(horizontal[0]), abs(vertical[0]))
    if nearest < WHITE_CORRELATION:
        return 0.2
    return 0.5 if nearest < 0.5 else 0.8
