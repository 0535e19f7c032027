"""How far a denoiser can be trusted, measured on noisy crops alone.

With noise n, truth x and residual r = noisy - denoised, the squared error of any denoiser d is

    E |d - x|^2 = E |r|^2 - E |n|^2 + 2 E n.d

(covariance penalty; Efron, "The estimation of prediction error", JASA 2004). E |n|^2 is measured in flat areas. E n.d
is measured with more noise e of the same strength and correlation, as E e.(d(y + e) - d(y)), as in "Monte-Carlo SURE"
(Ramani et al., IEEE TIP 2008) but for noise that is correlated. The first two terms are structure that was lost, the
last is noise that came through: the two things that a denoiser does wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import InferenceSpec, Network, denoise, fold_seeds, hash_uniform
from pipeline.evaluation.baselines import Baseline, nlm
from pipeline.evaluation.trust_flat import (
    Array,
    FlatAreas,
    covariance,
    cut_patches,
    lag_correlation,
    more_noise,
)
from pipeline.evaluation.trust_known import Known, channels_last, known_noise
from pipeline.evaluation.trust_measures import HeldOutLosses, TrustMeasures

Denoise = Callable[[Tensor, Tensor], Tensor]
"""Takes crops (B, C, H, W) float32 and (B,) int64, which of the crops each is; returns the crops denoised."""

_DETAIL_SIGMA: Final = 1.5
_SPACING: Final = 16
_PERTURBED: Final = 4
_STREAM: Final = 77
_STRENGTH: Final = 0.5
"""Of the added noise, in parts of the noise that is there: the question is what happens near this image."""


def measure_trust(
    denoiser: Denoise,
    noisy: Tensor,
    images: NDArray[np.int64],
    *,
    losses: HeldOutLosses | None = None,
    blind: bool = False,
) -> TrustMeasures:
    """Measure a denoiser on noisy crops.

    Args:
        denoiser: as it will be used: blind or direct, any filter.
        noisy: (B, C, H, W) float32 in [0, 1]; 16 crops of 120x120 pixels tell enough.
        images: (B,) which image each crop is from; the noise is measured per image.
        losses: masked losses of the network on the same crops, if it has any; kept with the result.
        blind: whether the denoiser is meant not to see the pixel that it predicts; kept with the result.
    """
    with torch.inference_mode():
        denoised = denoiser(noisy, torch.arange(len(noisy)))
    before, after = channels_last(noisy), channels_last(denoised)
    means = (before - after).mean(axis=(1, 2))
    known = known_noise(noisy, images)
    energy = _energy(known)
    sigma = math.sqrt(energy / noisy.shape[1]) if known else math.nan
    facts = (
        residual_energies(before, after, known, energy) | _passed(denoiser, noisy, denoised, known)
        if known
        else _UNKNOWN
    )
    facts = dict(facts)
    error = facts.pop("excess") + 2 * facts["noise_passed"]
    return TrustMeasures(
        crops=len(noisy),
        bias=tuple(float(255 * value) for value in means.mean(axis=0)),
        bias_error=float(255 * means.std(axis=0).max() / math.sqrt(len(means))),
        noise_sigma=255 * sigma,
        estimated_error=error,
        self_weight=_self_weight(denoiser, noisy, denoised, sigma if known else 0.05),
        losses=losses,
        blind=blind,
        **facts,
    )


def error_terms(denoiser: Denoise, noisy: Tensor, known: Known) -> dict[str, float]:
    """Measure what of `measure_trust` says how good a denoiser is, in less time, where the noise is known already.

    Args:
        denoiser: as it will be used.
        noisy: (B, C, H, W) float32 in [0, 1].
        known: the noise of each image of these crops.

    Returns:
        ``noise_left``, ``structure_lost`` and ``estimated_error``, equal to the fields of `TrustMeasures`; nan where
        no noise is known.
    """
    if not known:
        return dict.fromkeys(("noise_left", "structure_lost", "estimated_error"), math.nan)
    with torch.inference_mode():
        denoised = denoiser(noisy, torch.arange(len(noisy)))
    residual = channels_last(noisy) - channels_last(denoised)
    energy = _energy(known)
    excess, lost = [], []
    for part, areas in known:
        cut = cut_patches(residual[part])
        beyond, structure = _beyond_noise(residual[part], covariance(cut, cut), areas)
        excess.append((beyond, len(part)))
        lost.append((structure, len(part)))
    passed = _passed(denoiser, noisy, denoised, known)
    return {
        "noise_left": passed["noise_left"],
        "structure_lost": _mean(lost) / energy,
        "estimated_error": _mean(excess) / energy + 2 * passed["noise_passed"],
    }


def beside_nlm(measures: TrustMeasures, noisy: Tensor, images: NDArray[np.int64]) -> TrustMeasures:
    """Return the measures of a denoiser with the estimated error of non-local means on the same crops."""
    return replace(measures, error_of_nlm=measure_trust(filter_with(nlm), noisy, images).estimated_error)


def filter_with(run: Baseline) -> Denoise:
    """Return a filter of one picture as what `measure_trust` takes."""

    def denoise_each(crops: Tensor, _which: Tensor) -> Tensor:
        results = np.stack([run(crop) for crop in channels_last(crops)])
        return torch.from_numpy(np.ascontiguousarray(results.transpose(0, 3, 1, 2))).to(crops)

    return denoise_each


def denoise_with(network: Network, spec: InferenceSpec, noise: Tensor | None = None) -> Denoise:
    """Return a network and its inference as what `measure_trust` takes.

    Args:
        network: in evaluation mode.
        spec: how it denoises.
        noise: (B, 2) noise parameters of the crops, for a network with a level map.
    """

    def run(images: Tensor, which: Tensor) -> Tensor:
        named: dict[str, Any] = {} if noise is None else {"noise": noise[which]}
        return denoise(network, images, spec, **named)

    return run


def residual_energies(before: Array, after: Array, known: Known, energy: float) -> dict[str, Any]:
    """What the residual holds beside noise, and what the noise is like.

    Args:
        before: (B, H, W, C) noisy crops in [0, 1].
        after: the same denoised.
        known: the noise of each image.
        energy: of the noise, summed over channels; the unit of ``excess`` and ``structure_lost``.

    Returns:
        The fields of `TrustMeasures` that bear these names, and ``excess``, the energy of the residual beyond the
        noise's.
    """
    residual, detail = before - after, after - _smooth(after)
    excess, lost, products, ours, theirs = [], [], [], [], []
    for part, areas in known:
        cut, fine = cut_patches(residual[part]), cut_patches(detail[part])
        own, product = covariance(cut, cut), covariance(cut, fine)
        beyond, structure = _beyond_noise(residual[part], own, areas)
        excess.append((beyond, len(part)))
        lost.append((structure, len(part)))
        rough = ~areas.flat
        products.append((product - areas.expected(product))[rough])
        ours.append(own[rough])
        theirs.append(covariance(fine, fine)[rough])
    scale = np.concatenate(ours).mean() * np.concatenate(theirs).mean() if any(map(len, ours)) else 0.0
    flat = np.concatenate([areas.flat for _, areas in known])
    return {
        "flat": float(flat.mean()),
        "reliable": sum(areas.reliable for _, areas in known) * 2 > len(known),
        "noise_correlation": _lags([(areas.correlation, len(part)) for part, areas in known]),
        "residual_correlation": _lags([(lag_correlation(cut_patches(residual[part])), len(part)) for part, _ in known]),
        "excess": _mean(excess) / energy,
        "structure_lost": _mean(lost) / energy,
        "detail_correlation": float(np.concatenate(products).mean() / math.sqrt(scale)) if scale > 1e-16 else 0.0,
    }


def _beyond_noise(residual: Array, own: Array, areas: FlatAreas) -> tuple[float, float]:
    """Energy of a residual (B, H, W, C) beyond that of the noise, and what of its patches' energy flat ones lack."""
    beyond = float(np.square(residual).sum(axis=-1).mean()) - areas.energy
    return beyond, float((own - areas.expected(own)).mean())


def _energy(known: Known) -> float:
    return _mean([(areas.energy, len(part)) for part, areas in known])


_NOWHERE = (math.nan,) * 5
_UNKNOWN: Final[dict[str, Any]] = {
    "flat": 0.0,
    "reliable": False,
    "excess": math.nan,
    "noise_correlation": _NOWHERE,
    "residual_correlation": _NOWHERE,
    "structure_lost": math.nan,
    "detail_correlation": math.nan,
    "noise_passed": math.nan,
    "noise_left": math.nan,
}


def _passed(denoiser: Denoise, noisy: Tensor, denoised: Tensor, known: Known) -> dict[str, float]:
    """Add noise that is known to every other crop, and see how much of it comes through."""
    pictures = channels_last(noisy)
    added = np.zeros_like(pictures)
    for number, (part, areas) in enumerate(known):
        guide = _smooth(pictures[part]).mean(axis=-1)
        added[part] = more_noise(areas, guide, np.random.default_rng([_STREAM, number]))
    chosen = np.flatnonzero(np.isin(np.arange(len(pictures)), np.concatenate([part for part, _ in known])))[::2]
    noise = torch.from_numpy(np.ascontiguousarray(_STRENGTH * added[chosen].transpose(0, 3, 1, 2))).to(noisy)
    with torch.inference_mode():
        change = denoiser(noisy[chosen] + noise, torch.from_numpy(chosen)) - denoised[chosen]
    power = float(noise.square().mean())
    return {
        "noise_passed": float((noise * change).mean()) / power,
        "noise_left": float(change.square().mean()) / power,
    }


def _self_weight(denoiser: Denoise, noisy: Tensor, denoised: Tensor, strength: float) -> float:
    """Change every 16th pixel by plus or minus one standard deviation; the mean share that comes back there.

    The signs are random, so what comes from the other changed pixels cancels.
    """
    part = noisy[:_PERTURBED]
    rows, columns = (torch.arange(size, device=noisy.device) for size in part.shape[-2:])
    chosen = ((rows % _SPACING == _SPACING // 2)[:, None] & (columns % _SPACING == _SPACING // 2)).to(part.dtype)
    seeds = fold_seeds(torch.arange(len(part), device=noisy.device), _STREAM)
    sign = torch.where(hash_uniform(seeds[:, None, None], rows[:, None], columns) < 0.5, -1.0, 1.0)[:, None] * chosen
    with torch.inference_mode():
        changed = denoiser(part + strength * sign, torch.arange(len(part)))
    count = float(chosen.sum()) * part.shape[0] * part.shape[1]
    return float(((changed - denoised[: len(part)]) * sign).sum()) / strength / max(count, 1.0)


def _smooth(images: Array) -> Array:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(images, (0, _DETAIL_SIGMA, _DETAIL_SIGMA, 0)), np.float32)


def _mean(values: list[tuple[float, Any]]) -> float:
    """Weighted mean; nan for nothing."""
    total = float(sum(weight for _, weight in values))
    return float(sum(value * weight for value, weight in values)) / total if total else math.nan


def _lags(values: list[tuple[Array, Any]]) -> tuple[float, ...]:
    return tuple(_mean([(float(lags[index]), weight) for lags, weight in values]) for index in range(5))
