"""What is measured of a denoiser without clean images, as plain numbers for logs and cards."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

_LISTS: Final = ("noise_correlation", "residual_correlation", "bias")


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOutLosses:
    """Masked losses on crops that are never trained on, with the same masks every time; image range [0, 1]."""

    loss: float
    """Of the averaged weights, as in training."""

    loss_error: float
    """Standard error over the crops of ``loss - loss_fill``."""

    loss_inference: float
    """Of the averaged weights, at the stride (and hole) of inference."""

    loss_raw: float
    """Of the weights that are being trained, as in training; far above ``loss`` if training is unstable."""

    loss_fill: float
    """Of the fill alone: what hidden pixels show, without a network. An untrained network is no better."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrustMeasures:
    """What `measure_trust` found. Energies are shares of the noise energy; grey levels are units of 1/255."""

    crops: int
    """Crops that were measured."""

    flat: float
    """Share of the patches that are flat."""

    reliable: bool
    """Whether enough is flat to tell noise from texture; without it, only losses and bias mean something."""

    noise_sigma: float
    """Standard deviation of the noise in grey levels, mean over channels."""

    noise_correlation: tuple[float, ...]
    """Autocorrelation of the noise at lags 1..5."""

    residual_correlation: tuple[float, ...]
    """Autocorrelation of the residual at lags 1..5, everywhere. Above the noise's: structure is in it; below: noise was
    left out of it."""

    bias: tuple[float, ...]
    """Mean residual of each channel in grey levels; positive if the output is too dark."""

    bias_error: float
    """Standard error of ``bias``."""

    noise_passed: float
    """Product of noise that is added and what it changes, over its energy: 0 is best, 1 the identity."""

    noise_left: float
    """Energy of what changes when noise is added, over its energy."""

    structure_lost: float
    """Energy of the residual beyond that of the noise at the same brightness."""

    detail_correlation: float
    """Correlation of residual and detail (high-pass) of the denoised image outside flat areas; positive if blurred."""

    estimated_error: float
    """Estimated squared error, by the covariance penalty; 1 is that of the noisy image. Can fall below 0 by chance."""

    error_of_nlm: float = math.nan
    """The same of non-local means on the same crops, which any user can have; nan if it was not measured. Noise that
    JPEG left in texture alone makes both estimates too high."""

    self_weight: float
    """How much of a change of one pixel comes back at that pixel: 0 for a blind denoiser, 1 for the identity. The
    gap to J-invariance (Batson and Royer, "Noise2Self", ICML 2019)."""

    blind: bool = False
    """Whether the denoiser is meant to be blind."""

    losses: HeldOutLosses | None = None
    """None for a denoiser that was not trained with masks."""


def measures_as_json(measures: TrustMeasures) -> dict[str, Any]:
    """Return the measures as JSON values: rounded, and None for what is not known."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(one) for name, one in value.items()}
        if isinstance(value, tuple):
            return [plain(one) for one in value]
        if isinstance(value, float):
            return float(f"{value:.5g}") if math.isfinite(value) else None
        return value

    return dict(plain(asdict(measures)))


def measures_from_json(values: Any) -> TrustMeasures | None:
    """Return what `measures_as_json` gave; None if it is anything else: a card may come from anywhere."""

    def number(value: Any) -> float:
        return math.nan if value is None else float(value)

    try:
        rest = dict(values)
        losses = rest.pop("losses")
        known: dict[str, Any] = {name: tuple(map(number, rest.pop(name))) for name in _LISTS}
        known |= {name: bool(rest.pop(name)) for name in ("reliable", "blind")}
        known |= {"crops": int(rest.pop("crops")), **{name: number(value) for name, value in rest.items()}}
        return TrustMeasures(
            losses=None if losses is None else HeldOutLosses(**{name: number(value) for name, value in losses.items()}),
            **known,
        )
    except (TypeError, ValueError, KeyError, AttributeError):
        return None
