"""The flat patches of an image and the noise in them, however correlated: the sample that a measurement rests on.

1. Cut overlapping patches, subtract a plane from each, and group them by brightness, as noise depends on it.
2. In each group the patches of least variance start the flat population, which then takes in all patches that exceed
   its mean by no more than a sample variance of such noise does (its autocorrelation tells).
3. Correct for the noise that the planes took away.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float32]

GROUPS: Final = 8
START_FRACTION: Final = 0.05
WIDTH: Final = 2.0
"""Patches up to this many standard deviations above the flat mean are flat."""

GROUP_RANGE: Final = 4.0
"""A group whose variance is further off than this factor is all texture, or was smoothed away."""

ROUNDED: Final = 0.3
"""Deviation in quantisation steps: a group below it has lost its noise, mostly to JPEG."""

CLIPPED: Final = 0.05
MAX_PATCHES: Final = 16_000
AUTOCORRELATION_SAMPLE: Final = 2000
_OVERLAP: Final = 2.25
"""Patches that overlap by half: this many make one independent one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FlatNoise:
    """Noise in the flat patches of G groups of brightness, before clipping."""

    level: Array
    """(G, C) mean of the flat patches."""

    variance: Array
    """(G, C) variance, pulled towards the other groups where it is beyond belief (``plausible`` is False)."""

    error: Array
    """(G,) relative standard error of the variances."""

    plausible: NDArray[np.bool_]
    """(G,) whether the variance is what was measured."""

    weight: Array
    """(G,) number of patches, flat or not."""

    clamped: float
    """Share of the patches in groups that are not plausible."""

    spread: float
    """Relative standard deviation of the variance of a patch that this noise would have."""

    flat_fraction: float
    """Share of the patches that are flat."""

    autocorrelation: Array
    """(2P, 2P) mean over the channels, lags in FFT order."""

    channel_correlation: Array
    """(C, C) of the channels' noise at one pixel."""


def measure_flat(image: Array, size: int, *, step: float) -> FlatNoise:
    """Measure the noise in the flat patches of an image.

    Args:
        image: (H, W, C), clipped at 0 and 1; at least two patches high and wide.
        size: side P of a patch in pixels.
        step: quantisation step of the pixels.
    """
    residual, means_of_patches = _plane_residuals(image, size)
    brightness = means_of_patches.mean(axis=1)
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
        bounded = _bounded(level, floor=channels * (ROUNDED * step) ** 2)
        plausible = bounded == level
        sample = residual[np.concatenate([chosen for chosen, use in zip(flat, plausible, strict=True) if use])]
        autocorrelation = autocorrelation_of(sample)
        channel_correlation = _channel_correlation(sample)
        share = means[plausible].mean(axis=0)
        share = share / max(float(share.sum()), 1e-12)
        independent = np.square(autocorrelation).sum() * (share @ np.square(channel_correlation) @ share)
        spread = min(max(math.sqrt(2 / freedom * float(independent)), 0.03), 0.3)

    means = means * (bounded / np.maximum(level, 1e-12))[:, None]
    single = math.sqrt(2 / freedom * float(np.square(autocorrelation).sum()))
    counts = np.array([max(len(chosen) / _OVERLAP, 1.0) for chosen in flat], dtype=np.float32)
    return FlatNoise(
        level=np.stack([means_of_patches[chosen].mean(axis=0) for chosen in flat]),
        variance=means / np.float32(_kept_by_planes(autocorrelation, size) * _mean_below(WIDTH, spread)),
        error=np.asarray(max(single, 0.03) / np.sqrt(counts), dtype=np.float32),
        plausible=plausible,
        weight=weight,
        spread=spread,
        clamped=float(weight[~plausible].sum() / weight.sum()),
        flat_fraction=sum(map(len, flat)) / count,
        autocorrelation=autocorrelation,
        channel_correlation=channel_correlation,
    )


def _plane_residuals(image: Array, size: int) -> tuple[Array, Array]:
    """Unclipped patches (N, C, P, P) less their least-squares planes, and their means (N, C)."""
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
    return np.asarray(residual.reshape(patches.shape)), np.asarray(patches.mean(axis=(2, 3)))


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


def autocorrelation_of(residual: Array) -> Array:
    """Autocorrelation of patches (N, C, P, P) less their planes: (2P, 2P), the mean over channels, in FFT order.

    Unbiased by the shrinking overlap; 0 beyond half a patch.
    """
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
