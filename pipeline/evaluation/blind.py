"""What one denoised picture says about its denoiser without a clean one: noise left, structure lost, colours moved.

With noise n and residual r = noisy - denoised, a good denoiser has r = n. So the residual is held against the noise of
the noisy picture, fitted to its flat areas alone (`pipeline.evaluation.trust_flat`; the denoiser has no say in it):
its strength, histogram, autocorrelation and mean, and whether the picture's detail is in it. Nothing here calls the
denoiser again; `pipeline.evaluation.trust` does, and so can also tell noise that comes through in textured areas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.console import strict
from pipeline.data.image_types import without_alpha
from pipeline.inference.offset import offset_of
from pipeline.inference.residual import residual_of

if TYPE_CHECKING:
    from pipeline.evaluation.trust_flat import FlatAreas

Array = NDArray[np.float32]

MIDDLE: Final = 768
"""Of larger pictures the middle is measured: rows and columns of it."""

LEAST_ENERGY: Final = (0.1 / 255) ** 2
"""Noise below a tenth of a grey level is less than rounding leaves: nothing is measured in parts of it."""

REACH: Final = 5
"""Largest lag of an autocorrelation, in pixels."""

_LUMA: Final = (0.299, 0.587, 0.114)
"""Weights of ITU-R BT.601."""

_BINS: Final = 512
_TAIL: Final = 4.0
"""Histograms end this many deviations of noise from zero, or where a thousandth of the residual lies beyond."""

_STRENGTHS: Final = 64
"""Deviations that stand for those of all flat patches, evenly spaced in rank."""

_FEW: Final = 256
"""A level that fewer pixels have is left out: noise would decide its mean."""

BLIND_DEFINITIONS: Final[dict[str, str]] = {
    "flat": "Share of the 16x16 patches of the noisy picture that are flat: all noise is measured there.",
    "reliable": "Whether enough is flat to tell noise from texture; if not, believe the means and drifts only.",
    "noise_before_255": "Standard deviation of the noise in the flat areas of the noisy picture, in grey levels.",
    "noise_after_255": "The same of the denoised picture in the same areas; faint texture there counts as noise.",
    "noise_left": (
        "Energy of the denoised picture's noise over the noisy one's, in flat areas: 1 is nothing done, 0 is best; a "
        "blur comes near 0 too."
    ),
    "residual_mean_255": (
        "Mean of noisy minus denoised over all pixels and channels, in grey levels; positive if the result is darker."
    ),
    "residual_mean_by_channel_255": "The same for each channel.",
    "drift_by_channel_255": (
        "Mean of denoised minus noisy for each channel, in grey levels, over blocks that are not clipped."
    ),
    "drift_255": "The largest of these drifts in size: how far a colour or the brightness has moved.",
    "drift_error_255": "Standard error of the drifts, the largest; a drift below three of them may be chance.",
    "luma_drift_255": "Drift of the brightness (BT.601 luma), in grey levels.",
    "chroma_drift_255": (
        "Root mean square of the channels' drifts about the luma's, in grey levels: 0 if no colour has moved."
    ),
    "residual_ratio": (
        "Standard deviation of the residual over that of the fitted noise, everywhere: above 1 structure was taken, "
        "below 1 noise was left."
    ),
    "residual_ratio_flat": "The same in flat areas: 1 is best, and less leaves noise.",
    "histogram_distance_255": (
        "Wasserstein-1 distance between the residual in flat areas and the fitted noise there (Gaussian, its deviation "
        "by brightness), in grey levels."
    ),
    "noise_correlation": (
        "Autocorrelation of the noise at lags 1 to 5 in flat areas, mean of both directions and of the channels."
    ),
    "residual_correlation": (
        "The same of the residual: below the noise's where the part that neighbours share was left in the picture."
    ),
    "correlation_gap": "Largest difference of these two over the five lags, in size.",
    "structure_lost": "Energy of the residual beyond that of noise at the same brightness, over the noise's energy.",
    "detail_correlation": (
        "Correlation of the residual and the denoised picture's detail (high-pass) outside flat areas; positive if it "
        "blurs."
    ),
    "structure": (
        "Correlation of residual and denoised picture in the busier half of its 8x8 blocks; needs no flat areas."
    ),
    "left_and_lost": "noise_left plus structure_lost: what is wrong by either; lower is better.",
}
"""What each measure is, in a sentence for a reader of a report; grey levels are units of 1/255."""


def blind_measures(noisy: Array, denoised: Array) -> dict[str, Any]:
    """Measure one denoised picture against its noisy original.

    Args:
        noisy: (H, W, C) float32 in [0, 1], C 1 or 3; alpha does not count.
        denoised: the same picture without its noise, of the same shape; clipped or not.

    Returns:
        A value for each of `BLIND_DEFINITIONS` that JSON can hold; None where it cannot be told: a picture below
        32x32, or nothing flat in it, or no noise.

    Raises:
        ValueError: shapes that differ.
    """
    noisy, denoised = _checked(noisy, denoised)
    values: dict[str, Any] = dict.fromkeys(BLIND_DEFINITIONS)
    means = (noisy - denoised).mean(axis=(0, 1), dtype=np.float64) * 255
    values |= {"residual_mean_255": means.mean(), "residual_mean_by_channel_255": means.tolist()}
    values |= _drift(noisy, denoised)
    taken = residual_of(noisy, denoised)
    values["structure"] = None if taken is None else taken["structure"]
    before, after = _middle(noisy)[None], _middle(denoised)[None]
    areas = _flat_areas(before)
    if areas is not None:
        values |= _against_noise(before, after, areas)
    return dict(_rounded(strict(values)))


def residual_panel(noisy: Array, denoised: Array) -> dict[str, Any]:
    """What a report draws of a residual, in units of 1/255.

    Args:
        noisy: as for `blind_measures`.
        denoised: likewise.

    Returns:
        ``histogram``: ``edges`` (B + 1), ``density`` (B) of the residual in flat areas (everywhere if nothing is flat:
        ``flat`` is False then) and ``fitted`` (B), that of the fitted noise, or None. ``correlation``: of the residual
        there at lags -5..5 down and across, or None; ``noise_correlation``: of the noise. ``by_level``: ``level`` and
        ``mean`` of the residual where the denoised picture has it, levels that hardly occur left out.

    Raises:
        ValueError: shapes that differ.
    """
    from noise.flat_patches import autocorrelation_of
    from pipeline.evaluation.trust_flat import cut_patches, patches_of

    noisy, denoised = _checked(noisy, denoised)
    before, after = _middle(noisy)[None], _middle(denoised)[None]
    residual = before - after
    areas = _flat_areas(before)
    known = areas is not None and areas.energy > LEAST_ENERGY
    panel: dict[str, Any] = {"correlation": None, "noise_correlation": None}
    if areas is None:
        panel["histogram"] = _histogram(residual, None, 60) | {"flat": False}
    else:
        panel["histogram"] = _histogram(patches_of(residual)[areas.flat], areas if known else None, 60) | {"flat": True}
        flat = cut_patches(residual)[areas.flat]
        if float(np.square(flat).mean()) > LEAST_ENERGY:
            panel["correlation"] = _lags(autocorrelation_of(flat))
        if known:
            panel["noise_correlation"] = _lags(areas.reference.autocorrelation)
    panel["by_level"] = _by_level(residual, after)
    return dict(_rounded(strict(panel)))


def mean_measures(rows: Sequence[dict[str, Any] | None]) -> dict[str, Any] | None:
    """Mean of the measures of several pictures, each over the pictures where it is known.

    Args:
        rows: of `blind_measures`; None counts for nothing.

    Returns:
        One value for each measure, None where no picture knows it; ``reliable`` becomes the share that is. Lists of
        channels are left out where grey and colour meet. None for no rows.
    """
    found = [row for row in rows if row is not None]
    if not found:
        return None
    result: dict[str, Any] = {}
    for name in BLIND_DEFINITIONS:
        known = [row[name] for row in found if row.get(name) is not None]
        equal = len({len(value) if isinstance(value, list) else 0 for value in known}) == 1
        result[name] = np.mean(np.asarray(known, np.float64), axis=0).tolist() if equal else None
    return dict(_rounded(strict(result)))


def _against_noise(before: Array, after: Array, areas: FlatAreas) -> dict[str, Any]:
    from pipeline.evaluation.trust import residual_energies
    from pipeline.evaluation.trust_flat import covariance, cut_patches, lag_correlation, patches_of

    channels, energy = before.shape[-1], areas.energy
    own, smooth = cut_patches(before - after), cut_patches(after)
    left = float(areas.expected(covariance(smooth, smooth)).mean())
    found: dict[str, Any] = {
        "flat": float(areas.flat.mean()),
        "reliable": areas.reliable,
        "noise_before_255": 255 * math.sqrt(energy / channels),
        "noise_after_255": 255 * math.sqrt(left / channels),
    }
    if energy <= LEAST_ENERGY:
        return found | {"reliable": False}
    found |= residual_energies(before, after, [(np.array([0]), areas)], energy)
    found.pop("excess")
    taken = covariance(own, own)
    ours = lag_correlation(own[areas.flat]) if float(np.square(own[areas.flat]).mean()) > LEAST_ENERGY else None
    return found | {
        "noise_left": left / energy,
        "residual_ratio": math.sqrt(float(taken.mean()) / energy),
        "residual_ratio_flat": math.sqrt(float(areas.expected(taken).mean()) / energy),
        "histogram_distance_255": _distance(patches_of(before - after)[areas.flat], areas),
        "residual_correlation": None if ours is None else ours.tolist(),
        "correlation_gap": None if ours is None else float(np.abs(ours - areas.correlation).max()),
        "left_and_lost": left / energy + found["structure_lost"],
    }


def _drift(noisy: Array, denoised: Array) -> dict[str, Any]:
    offset = offset_of(noisy, denoised)
    if offset is None:
        return {}
    drift = offset["mean_255"]
    luma = float(np.dot(drift, _LUMA)) if len(drift) == 3 else float(np.mean(drift))
    return {
        "drift_by_channel_255": drift,
        "drift_255": max(drift, key=abs),
        "drift_error_255": max(offset["standard_error_255"]),
        "luma_drift_255": luma,
        "chroma_drift_255": float(np.sqrt(np.mean(np.square(np.array(drift) - luma)))) if len(drift) == 3 else None,
    }


def _distance(residual: Array, areas: FlatAreas) -> float:
    """Area between the distribution functions, which is the Wasserstein-1 distance in one dimension."""
    found = _histogram(residual, areas, _BINS)
    width = np.diff(found["edges"])
    ours, theirs = (np.cumsum(np.asarray(found[name]) * width) for name in ("density", "fitted"))
    return float(np.sum(np.abs(ours - theirs) * width))


def _histogram(residual: Array, areas: FlatAreas | None, bins: int) -> dict[str, Any]:
    """Densities over ``bins`` equal steps in units of 1/255; what lies beyond the ends counts to the last ones."""
    from scipy.special import ndtr

    values = 255 * residual.ravel().astype(np.float64)
    deviations = np.zeros(1) if areas is None else 255 * np.sqrt(np.maximum(areas.variance()[areas.flat], 1e-12))
    reach = max(_TAIL * float(deviations.max()), float(np.quantile(np.abs(values), 0.999)), 0.5)
    edges = np.linspace(-reach, reach, bins + 1)
    counts, _ = np.histogram(np.clip(values, -reach, reach), edges)
    width = edges[1] - edges[0]
    fitted = None
    if areas is not None:
        typical = np.quantile(deviations, (np.arange(_STRENGTHS) + 0.5) / _STRENGTHS)
        below = ndtr(edges[:, None] / typical).mean(axis=1)
        fitted = (np.diff(below) / width).tolist()
    return {"edges": edges.tolist(), "density": (counts / len(values) / width).tolist(), "fitted": fitted}


def _by_level(residual: Array, denoised: Array) -> dict[str, Any]:
    from noise.measured import LEVELS

    place = (np.clip(denoised.mean(axis=-1), 0, 0.9999) * LEVELS).astype(np.int64).ravel()
    count = np.bincount(place, minlength=LEVELS)
    total = np.bincount(place, weights=255 * residual.mean(axis=-1, dtype=np.float64).ravel(), minlength=LEVELS)
    told = np.flatnonzero(count >= _FEW)
    return {"level": ((told + 0.5) * 255 / LEVELS).tolist(), "mean": (total[told] / count[told]).tolist()}


def _lags(correlation: Array) -> list[list[float]]:
    """Lags -5..5 in both directions of an autocorrelation in FFT order."""
    lags = np.arange(-REACH, REACH + 1)
    return np.asarray(correlation[np.ix_(lags, lags)]).tolist()  # type: ignore[no-any-return]


def _flat_areas(noisy: Array) -> FlatAreas | None:
    from pipeline.evaluation.trust_flat import find_flat_areas

    return find_flat_areas(noisy) if np.isfinite(noisy).all() else None


def _checked(noisy: Array, denoised: Array) -> tuple[Array, Array]:
    if noisy.shape != denoised.shape or noisy.ndim != 3:
        raise ValueError(f"noisy and denoised must be (H, W, C) of one shape, got {noisy.shape} and {denoised.shape}")
    return without_alpha(noisy), without_alpha(denoised)


def _middle(image: Array) -> Array:
    top, left = (max(size - MIDDLE, 0) // 2 for size in image.shape[:2])
    return np.asarray(image[top : top + MIDDLE, left : left + MIDDLE], np.float32)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
