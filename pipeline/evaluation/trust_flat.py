"""The noise of a few crops of one image, from their flat areas: how much, how correlated, and more of the same.

`pipeline.evaluation.trust` needs to know which energy of a residual is noise, and what a denoiser does to noise. It
does the second with noise that it knows, drawn here to have the measured strength and correlation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from noise.flat_patches import FlatNoise, measure_flat

Array = NDArray[np.float32]

PATCH: Final = 16
APART: Final = PATCH // 2
"""Pixels from one patch to the next."""

_FREEDOM: Final = PATCH * PATCH - 3
_LEVELS: Final = 6
_WIDTH: Final = 2.0
"""Patches whose variance is this many standard deviations above that of the noise are not flat."""

_FEW: Final = 6
_CLIPPED: Final = 0.05
_RELIABLE_FLAT: Final = 0.1
_RELIABLE_CLAMPED: Final = 0.4
_STEP: Final = 1 / 255
_STEEPEST: Final = 1.3
"""Ratio of the noise of one group of brightness to the next, of eight: fourfold noise over the whole range fits in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FlatAreas:
    """Noise of crops of one image; image range [0, 1]."""

    patch_energy: Array
    """(N,) variance of each patch of ``cut_patches``, summed over channels."""

    flat: NDArray[np.bool_]
    """(N,) which of the patches are flat."""

    group: NDArray[np.int64]
    """(N,) which group of brightness each patch is in."""

    level: Array
    """(N,) mean of each patch over pixels and channels."""

    reference: FlatNoise
    """The measurement: variance by brightness, autocorrelation, correlation of the channels."""

    correlation: Array
    """(5,) autocorrelation of the noise at lags 1..5, mean of both directions and the channels."""

    reliable: bool
    """Whether enough is flat to tell noise from texture."""

    @property
    def energy(self) -> float:
        """Variance of the noise summed over channels, where the image is as bright as its patches are on average."""
        return float(self.expected(self.patch_energy).mean())

    def variance(self) -> Array:
        """Variance of the fitted noise in each patch and channel, by its brightness: (N, C)."""
        return np.asarray(_variance_at(self.reference, self.level), np.float32)

    def of_patches(self, chosen: NDArray[np.bool_]) -> FlatAreas | None:
        """Return the same noise with the chosen patches (N,) alone; None if too few of them are flat."""
        if self.flat[chosen].sum() < _FEW:
            return None
        return replace(
            self,
            patch_energy=self.patch_energy[chosen],
            flat=self.flat[chosen],
            group=self.group[chosen],
            level=self.level[chosen],
        )

    def expected(self, values: Array) -> Array:
        """Mean of ``values`` (N,) over the flat patches as bright as each patch; over all where there are few."""
        result = np.full(len(values), values[self.flat].mean(), np.float32)
        for group in range(_LEVELS):
            chosen = self.flat & (self.group == group)
            if chosen.sum() >= _FEW:
                result[self.group == group] = values[chosen].mean()
        return result


def find_flat_areas(noisy: Array) -> FlatAreas | None:
    """Measure the noise of crops (B, H, W, C) in [0, 1] of one image; None if they are too small or nowhere flat."""
    if min(noisy.shape[1:3]) < 2 * PATCH:
        return None
    reference = _smoothed(measure_flat(noisy.reshape(-1, *noisy.shape[2:]), PATCH, step=_STEP))
    raw = patches_of(noisy)
    clipped = ((raw <= 0) | (raw >= 1)).mean(axis=(1, 2, 3)) >= _CLIPPED
    level = raw.mean(axis=(1, 2, 3))
    cut = cut_patches(noisy)
    energy = covariance(cut, cut)
    flat = ~clipped & (energy <= _variance_at(reference, level).sum(axis=-1) * (1 + _WIDTH * reference.spread))
    if flat.sum() < _FEW:
        return None
    group = np.empty(len(level), np.int64)
    for index, part in enumerate(np.array_split(np.argsort(level, kind="stable"), _LEVELS)):
        group[part] = index
    return FlatAreas(
        patch_energy=energy,
        flat=flat,
        group=group,
        level=np.asarray(level, np.float32),
        reference=reference,
        correlation=lag_correlation(cut[flat]),
        reliable=float(flat.mean()) >= _RELIABLE_FLAT and reference.clamped <= _RELIABLE_CLAMPED,
    )


def cut_patches(images: Array) -> Array:
    """Cut (B, H, W, C) into overlapping patches (N, C, P, P), each less its least-squares plane."""
    windows = patches_of(images)
    basis = _planes().reshape(3, -1)
    flattened = windows.reshape(*windows.shape[:2], -1)
    return np.asarray((flattened - (flattened @ basis.T) @ basis).reshape(windows.shape), np.float32)


def covariance(first: Array, second: Array) -> Array:
    """Covariance of two sets of patches (N, C, P, P), summed over channels: (N,). The plane took three freedoms."""
    return np.asarray((first * second).sum(axis=(1, 2, 3)) / _FREEDOM, np.float32)


def lag_correlation(cut: Array) -> Array:
    """Autocorrelation of patches (N, C, P, P) at lags 1..5, mean of both directions: (5,)."""
    variance = max(float(np.square(cut).mean()), 1e-12)
    lags = []
    for lag in range(1, 6):
        across = (cut[..., lag:] * cut[..., :-lag]).mean()
        down = (cut[..., lag:, :] * cut[..., :-lag, :]).mean()
        lags.append(0.5 * float(across + down) / variance)
    return np.asarray(lags, np.float32)


def more_noise(areas: FlatAreas, brightness: Array, random: np.random.Generator) -> Array:
    """Gaussian noise (B, H, W, C) of the measured strength and correlation.

    Args:
        areas: the measurement.
        brightness: (B, H, W) mean of the channels, in [0, 1]; decides the strength at each pixel.
        random: source of the noise.
    """
    count, height, width = brightness.shape
    lag = areas.reference.autocorrelation
    kernel = np.zeros((height, width), np.float32)
    reach = PATCH // 2
    for down in range(-reach + 1, reach):
        for right in range(-reach + 1, reach):
            kernel[down % height, right % width] += lag[down, right]
    # The measured autocorrelation need not be that of any noise: what would be negative power is left out.
    power = np.maximum(np.fft.rfft2(kernel).real, 0)
    values, vectors = np.linalg.eigh(areas.reference.channel_correlation.astype(np.float64))
    mix = vectors * np.sqrt(np.maximum(values, 0))
    white = random.standard_normal((count, len(mix), height, width))
    shaped = np.fft.irfft2(np.fft.rfft2(white) * np.sqrt(power / power.mean()), s=(height, width))
    mixed = np.einsum("ck,bkhw->bhwc", mix, shaped)
    return np.asarray(mixed * np.sqrt(_variance_at(areas.reference, brightness)), np.float32)


def _smoothed(reference: FlatNoise) -> FlatNoise:
    """Cap the variance of a group of brightness at little more than that of the groups next to it.

    Noise changes slowly with brightness; what stands out is a group that is texture everywhere.
    """
    order = np.argsort(reference.level.mean(axis=1))
    variance = reference.variance[order]
    total = variance.sum(axis=1)
    capped = total.copy()
    for indices in (range(1, len(total)), range(len(total) - 2, -1, -1)):
        for index in indices:
            before = index - 1 if indices.step > 0 else index + 1
            capped[index] = min(capped[index], _STEEPEST * capped[before])
    result = np.empty_like(variance)
    result[order] = variance * (capped / np.maximum(total, 1e-12))[:, None]
    return replace(reference, variance=result)


def middle(length: int, side: int) -> slice:
    """Return the middle of a line of pixels, as near to it as the patches of `cut_patches` allow."""
    first = (length - side) // 2 // APART * APART
    return slice(first, first + side)


def patches_within(height: int, width: int, rows: slice, columns: slice) -> NDArray[np.bool_]:
    """Return which of the patches (N,) of `cut_patches` of one picture lie within these rows and columns of it."""
    inside = []
    for length, part in ((height, rows), (width, columns)):
        first = np.arange(0, length - PATCH + 1, APART)
        inside.append((first >= part.start) & (first + PATCH <= part.stop))
    return np.asarray(np.outer(*inside)).ravel()


def patches_of(images: Array) -> Array:
    """Cut (B, H, W, C) into the patches (N, C, P, P) of `cut_patches`, planes left in."""
    windows = sliding_window_view(images, (PATCH, PATCH), axis=(1, 2))[:, ::APART, ::APART]
    return windows.reshape(-1, *windows.shape[3:])


def _planes() -> Array:
    ramp = np.broadcast_to(np.arange(PATCH) - (PATCH - 1) / 2, (PATCH, PATCH))
    planes = np.stack([np.ones((PATCH, PATCH)), ramp.T, ramp])
    return np.asarray(planes / np.sqrt(np.square(planes).sum(axis=(1, 2), keepdims=True)), np.float32)


def _variance_at(reference: FlatNoise, level: Array) -> Array:
    """Variance of each channel, of shape ``level.shape + (C,)``."""
    bright = reference.level.mean(axis=1)
    order = np.argsort(bright)
    return np.stack([np.interp(level, bright[order], line[order]) for line in reference.variance.T], axis=-1)
