"""Noise of one image, without its clean partner: strength, correlation, and the settings that follow.

Estimators that look at neighbouring pixels only (the median of the finest wavelet coefficients, differences)
take noise for white and miss most of it where demosaicing, resizing or JPEG has smoothed it. This one takes
the whole variance inside flat patches instead:

1. cut overlapping patches, subtract a plane from each, and group them by brightness, as noise depends on it;
2. in each group the patches of least variance start the flat population, which then takes in all patches
   that exceed its mean by no more than a sample variance of such noise does (its autocorrelation tells);
3. correct for the noise that the planes took away, and average over the groups.

Two limits, measured in docs/camera-noise.md: where JPEG or a camera smooths flat areas more than textured
ones, the noise of the whole image is larger than that of its flat areas; and an even, fine-grained texture
that fills the image, such as a lawn, is noise to it.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float32]

LAGS: Final = 5
SMALL_PATCH: Final = 8
LARGE_PATCH: Final = 16
"""Correlated noise needs patches many times its correlation length; otherwise small ones are flatter."""

WHITE_CORRELATION: Final = 0.15
GROUPS: Final = 8
START_FRACTION: Final = 0.05
WIDTH: Final = 2.0
"""Patches up to this many standard deviations above the flat mean are flat."""

GROUP_RANGE: Final = 4.0
"""A group whose variance is further off than this factor is all texture, or was smoothed away."""

ROUNDING: Final = (0.3 / 255) ** 2
"""Variance of rounding to 8 bits: a group below it has lost its noise, mostly to JPEG."""

CLIPPED: Final = 0.05
MAX_PATCHES: Final = 16_000
PD_CORRELATION: Final = 0.25
RELIABLE_FLAT: Final = 0.15
RELIABLE_CLAMPED: Final = 0.3
RELIABLE_SPREAD: Final = 0.22
"""Sample variances of noise spread less; what spreads more has the long correlation of texture."""

AUTOCORRELATION_SAMPLE: Final = 2000


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


@dataclass(frozen=True, kw_only=True, slots=True)
class _FlatNoise:
    variance: Array  # (groups, C)
    weight: Array  # (groups,)
    clamped: float
    spread: float
    flat_fraction: float
    autocorrelation: Array  # (2P, 2P), lags in FFT order
    channel_correlation: Array


def estimate_noise(image: NDArray[np.floating]) -> NoiseEstimate:
    """Estimate the noise of one image from its flat areas.

    Args:
        image: (H, W, C) or (H, W), float in [0, 1]; at least 32x32.

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
    flat = _measure(pixels, SMALL_PATCH)
    if max(flat.autocorrelation[0, 1], flat.autocorrelation[1, 0]) > WHITE_CORRELATION:
        flat = _measure(pixels, LARGE_PATCH)
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
    )


def _measure(image: Array, size: int) -> _FlatNoise:
    residual, brightness = _plane_residuals(image, size)
    count, channels = residual.shape[:2]
    freedom = size * size - 3
    variance = np.square(residual).sum(axis=(2, 3)) / freedom
    total = variance.sum(axis=1)
    groups = np.array_split(np.argsort(brightness, kind="stable"), min(GROUPS, max(1, count // 20)))
    weight = np.array([len(group) for group in groups], dtype=np.float32)

    spread = math.sqrt(2 / (freedom * channels))
    for _ in range(2):
        flat = [group[_flat_population(total[group], spread)] for group in groups]
        means = np.stack([variance[chosen].mean(axis=0) for chosen in flat])
        level = means.sum(axis=1)
        bounded = _bounded(level, floor=channels * ROUNDING)
        plausible = bounded == level
        sample = residual[np.concatenate([chosen for chosen, use in zip(flat, plausible, strict=True) if use])]
        autocorrelation = _autocorrelation(sample)
        channel_correlation = _channel_correlation(sample)
        share = means[plausible].mean(axis=0)
        share = share / max(float(share.sum()), 1e-12)
        independent = np.square(autocorrelation).sum() * (share @ np.square(channel_correlation) @ share)
        spread = min(max(math.sqrt(2 / freedom * float(independent)), 0.03), 0.3)

    means = means * (bounded / np.maximum(level, 1e-12))[:, None]
    return _FlatNoise(
        variance=means / np.float32(_kept_by_planes(autocorrelation, size) * _mean_below(WIDTH, spread)),
        weight=weight,
        spread=spread,
        clamped=float(weight[~plausible].sum() / weight.sum()),
        flat_fraction=sum(map(len, flat)) / count,
        autocorrelation=autocorrelation,
        channel_correlation=channel_correlation,
    )


def _plane_residuals(image: Array, size: int) -> tuple[Array, Array]:
    """Unclipped patches (N, C, P, P) less their least-squares planes, and their brightness (N,)."""
    step = size // 2
    while (image.shape[0] // step) * (image.shape[1] // step) > MAX_PATCHES:
        step += 1
    windows = sliding_window_view(image, (size, size), axis=(0, 1))[::step, ::step]
    patches = windows.reshape(-1, *windows.shape[2:])
    clipped = ((patches <= 0) | (patches >= 1)).mean(axis=(1, 2, 3))
    if (clipped < CLIPPED).sum() >= 20:
        patches = patches[clipped < CLIPPED]
    flattened = patches.reshape(*patches.shape[:2], -1)
    basis = _plane_basis(size).reshape(3, -1)
    residual = flattened - (flattened @ basis.T) @ basis
    return np.asarray(residual.reshape(patches.shape)), np.asarray(patches.mean(axis=(1, 2, 3)))


def _plane_basis(size: int) -> Array:
    """(3, P, P) orthonormal: constant, vertical slope, horizontal slope."""
    ramp = np.broadcast_to(np.arange(size) - (size - 1) / 2, (size, size))
    planes = np.stack([np.ones((size, size)), ramp.T, ramp])
    planes /= np.sqrt(np.square(planes).sum(axis=(1, 2), keepdims=True))
    return np.asarray(planes, dtype=np.float32)


def _bounded(level: Array, *, floor: float) -> Array:
    """Variances of the groups, pulled to within ``GROUP_RANGE`` of a quieter group that has noise."""
    noisy = level[level > floor]
    if not len(noisy):
        return level
    reference = np.quantile(noisy, 0.4, method="lower")
    return np.clip(level, reference / GROUP_RANGE, reference * GROUP_RANGE)


def _flat_population(total: Array, spread: float) -> NDArray[np.intp]:
    """Indices of the patches whose variance fits the flat ones of a group.

    Args:
        total: (N,) variance of each patch, summed over channels.
        spread: relative standard deviation of the sample variance of pure noise.
    """
    order = np.argsort(total, kind="stable")
    start = total[order[: max(4, math.ceil(START_FRACTION * len(order)))]].mean()
    # If half of the patches are flat, these are their lowest tenth, of mean -1.75 sd in a normal.
    centre = start / (1 - min(1.75 * spread, 0.7))
    for _ in range(3):
        below = total[order] <= centre * (1 + WIDTH * spread)
        if not below.any():
            break
        centre = min(total[order][below].mean() / _mean_below(WIDTH, spread), 1.5 * centre)
    chosen = order[total[order] <= centre * (1 + WIDTH * spread)]
    return chosen if len(chosen) else order[:4]


def _mean_below(width: float, spread: float) -> float:
    """Mean of a normal of mean 1 and deviation ``spread``, cut ``width`` deviations above its mean."""
    density = math.exp(-width * width / 2) / math.sqrt(2 * math.pi)
    below = 0.5 * (1 + math.erf(width / math.sqrt(2)))
    return 1 - spread * density / below


def _autocorrelation(residual: Array) -> Array:
    """(2P, 2P) mean over channels, in FFT order, unbiased by the shrinking overlap; 0 beyond half a patch."""
    size = residual.shape[-1]
    residual = residual[:: 1 + len(residual) // AUTOCORRELATION_SAMPLE]
    spectrum = np.square(np.abs(np.fft.rfft2(residual, s=(2 * size, 2 * size)))).mean(axis=0)
    lag = np.minimum(np.arange(2 * size), 2 * size - np.arange(2 * size))
    overlap = np.maximum(np.outer(size - lag, size - lag), 1)
    covariance = np.fft.irfft2(spectrum, s=(2 * size, 2 * size)) / overlap
    correlation = covariance / np.maximum(covariance[:, :1, :1], 1e-12)
    near = lag < size // 2
    return np.asarray(correlation.mean(axis=0) * np.outer(near, near), dtype=np.float32)


def _channel_correlation(residual: Array) -> Array:
    rows = residual.transpose(1, 0, 2, 3).reshape(residual.shape[1], -1)
    covariance = rows @ rows.T / rows.shape[1]
    deviation = np.sqrt(np.maximum(np.diag(covariance), 1e-20))
    return np.asarray(covariance / np.outer(deviation, deviation), dtype=np.float32)


def _kept_by_planes(autocorrelation: Array, size: int) -> float:
    """What is left of a correlated noise's variance, against white noise, once planes are removed."""
    spectrum = np.square(np.abs(np.fft.rfft2(_plane_basis(size), s=(2 * size, 2 * size)))).sum(axis=0)
    overlap = np.fft.irfft2(spectrum, s=(2 * size, 2 * size))
    removed = float((overlap * autocorrelation).sum())
    return min(max((size * size - removed) / (size * size - 3), 0.5), 1.0)


def _interval(sigma: float, *, reliable: bool, correlated: float) -> tuple[float, float]:
    """Factors from real pairs: see the table in docs/camera-noise.md."""
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
