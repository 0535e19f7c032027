"""How one photo is fitted: everything follows from its size and its measured noise, each choice with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.averaged import STRIDES
from pipeline.training.adapt import LEAST_STRIDE, STRONG_SIGMA

if TYPE_CHECKING:
    from models import AsymmetricMasks, InferenceSpec, UNetSpec
    from noise.measure import NoiseEstimate
    from pipeline.training.step import StepSettings

FloatImage = NDArray[np.float32]

SMALLEST = 16
"""Shortest side of a picture that can be fitted; below it there are too few pixels to learn from."""

_MEASURABLE = 32
_CPU_MINUTES, _LEAST_CPU_MINUTES, _MOST_CPU_MINUTES = 5.0, 1.0, 20.0
_REFERENCE_PIXELS = 512 * 512
_NO_NOISE = 0.4  # quantisation steps; rounding alone has a standard deviation of 0.29
_MOST_STRIDE = max(STRIDES)
_SUB_CROP = 24
_CROP = 64
_DRAWS, _LEAST_DRAWS = ((1 << 20, 4), (4 << 20, 2)), 1


@dataclass(frozen=True, kw_only=True, slots=True)
class FitSettings:
    """All that decides a fit; with ``steps`` it can be repeated bit for bit on one machine."""

    network: UNetSpec
    """Shape of the network that is trained from scratch."""

    method: AsymmetricMasks
    """Stride, masks and fill of the training."""

    inference: InferenceSpec
    """How the picture is denoised in the end: masks and draws, at each of ``strides``."""

    strides: tuple[int, ...]
    """PD strides at which the picture is denoised in the end; their mean is the pilot of a filter of the photo."""

    optimizer: StepSettings
    """Learning rate, schedule and averaging."""

    crop: int
    """Side of the training crops, a multiple of the training stride unless the picture is smaller."""

    batch: int
    """Crops a step."""

    steps: int
    """Steps of training; 0: the clock decides."""

    minutes: float
    """Wall-clock time for the photo, training and denoising together; 0: the steps decide."""

    held_out: float
    """Share of the pixels that training never sees as a target; the masked loss there chooses the weights."""

    seed: int
    """Decides the start of the network, the crops and all masks."""

    sigma_255: float
    """Measured noise, root mean square over the channels, in units of 1/255."""

    correlation: tuple[float, float]
    """Measured correlation of the noise of horizontal and of vertical neighbours."""

    reliable: bool
    """Whether there were enough flat areas to measure the noise in."""

    denoises: bool
    """False if no noise was found: then the picture stays as it is."""

    reasons: dict[str, str]
    """Choice -> why, in words for the user."""

    def told(self) -> str:
        """Return the choice and its reasons as one line."""
        return "; ".join(self.reasons.values())

    def to_dict(self) -> dict[str, Any]:
        """Return what a user may want to know, as JSON values."""
        return {
            "sigma_255": round(self.sigma_255, 3),
            "correlation": [round(value, 3) for value in self.correlation],
            "reliable": self.reliable,
            "train_pd_stride": self.method.pd_stride,
            "strides": list(self.strides),
            "layout": self.inference.layout,
            "hole": list(self.method.hole),
            "mask_count": self.method.mask_count,
            "fill": self.method.fill,
            "draws": self.inference.draws,
            "crop": self.crop,
            "batch": self.batch,
            "width": self.network.width,
            "minutes": self.minutes,
            "steps": self.steps,
            "seed": self.seed,
            "reasons": dict(self.reasons),
        }


def choose_settings(
    image: FloatImage,
    *,
    step: float = 1 / 255,
    minutes: float | None = None,
    steps: int | None = None,
    draws: int | None = None,
    offset: Literal["keep", "level"] = "keep",
    seed: int = 0,
    threads: int = 2,
) -> FitSettings:
    """Measure the noise of a photo and choose how to fit it.

    Args:
        image: (H, W, C) float32 in [0, 1], C 1 or 3, without alpha.
        step: quantisation step of its pixels.
        minutes: wall-clock time; by default 5 CPU-minutes for 512x512 pixels, at least 1 and at most 20, divided by the
            ``threads`` (4 at most).
        steps: steps of training, in place of a time.
        draws: random draws of the masks to average at each stride; by default 4 in strong noise, fewer for large
            pictures, and one of a lattice in weak noise.
        offset: what is done about an offset in brightness, as in `models.InferenceSpec`.
        seed: decides everything random.
        threads: how many the training will use.

    Raises:
        ValueError: the picture is smaller than 16x16, or not finite.
    """
    from models import AsymmetricMasks, InferenceSpec, UNetSpec
    from pipeline.training.step import StepSettings

    height, width, channels = image.shape
    if min(height, width) < SMALLEST:
        raise ValueError(f"expected at least {SMALLEST}x{SMALLEST} pixels to fit a network to, found {width}x{height}")
    noise = _measured(image, step)
    sigma = float(np.sqrt(np.mean(np.square(noise.sigma))))
    correlation = (noise.horizontal[0], noise.vertical[0])
    reasons = {"noise": _noise_in_words(sigma, correlation, reliable=noise.reliable)}
    stride, reasons["train"] = _training_stride(noise, min(height, width))
    strides, reasons["use"] = _strides_in_use(stride)
    layout, count, reasons["draws"] = _draws(height * width, draws, strong=sigma >= STRONG_SIGMA)
    limit, reasons["length"] = _minutes(height * width, minutes, steps, threads)
    if not (denoises := sigma / 255 >= _NO_NOISE * step):
        reasons = {"noise": f"no noise found beyond rounding (sigma {sigma:.2f}/255): the picture stays as it is"}
    return FitSettings(
        network=UNetSpec(channels=channels),
        method=AsymmetricMasks(pd_stride=stride, mask_count=2, fill="mean"),
        inference=InferenceSpec(
            mode="multi_mask",
            mask_count=2,
            draws=count,
            layout=layout,
            fill="mean",
            offset=offset,
            seed=seed,
        ),
        strides=strides,
        optimizer=StepSettings(
            lr=2e-3,
            betas=(0.9, 0.99),
            weight_decay=0.0,
            schedule="cosine",
            warmup_steps=20,
            ema_decay=0.995,
            clip_norm=1.0,
        ),
        crop=_crop(stride, min(height, width)),
        batch=4,
        steps=steps or 0,
        minutes=limit,
        held_out=0.04,
        seed=seed,
        sigma_255=sigma,
        correlation=correlation,
        reliable=noise.reliable,
        denoises=denoises,
        reasons=reasons,
    )


def _measured(image: FloatImage, step: float) -> NoiseEstimate:
    from noise.measure import estimate_noise

    short = [max(_MEASURABLE - length, 0) for length in image.shape[:2]]
    # Mirrored, a picture below the estimator's smallest size keeps its noise statistics.
    return estimate_noise(np.pad(image, ((0, short[0]), (0, short[1]), (0, 0)), mode="symmetric"), step=step)


def _noise_in_words(sigma: float, correlation: tuple[float, float], *, reliable: bool) -> str:
    doubt = "" if reliable else ", measured with little to go by: few flat areas"
    return f"noise {sigma:.1f}/255, neighbours correlated {correlation[0]:.2f} and {correlation[1]:.2f}{doubt}"


def _training_stride(noise: NoiseEstimate, shortest: int) -> tuple[int, str]:
    """Correlated noise is never short: what is left of it beyond the measured stride is learned too, so at least 4."""
    if noise.pd_stride == 1:
        return 1, "trained on stride 1: neighbours are nearly independent"
    wanted = max(noise.pd_stride, LEAST_STRIDE)
    stride = min(wanted, max(1, shortest // SMALLEST))
    if stride < wanted:
        return stride, f"trained on stride {stride}: its noise asks for {wanted}, its size allows no more"
    return stride, f"trained on stride {stride}: the noise of pixels so far apart is nearly independent"


def _strides_in_use(stride: int) -> tuple[tuple[int, ...], str]:
    """Strides differ in their errors: large ones blur, small ones leave noise of long correlation."""
    if stride == 1:
        return (1,), "used on stride 1"
    strides = tuple(range(1, min(stride, _MOST_STRIDE) + 1))
    return strides, f"used on strides {', '.join(map(str, strides))}, averaged for a filter of the photo"


def _draws(pixels: int, asked: int | None, *, strong: bool) -> tuple[Literal["lattice", "random"], int, str]:
    if asked is not None:
        return "random", asked, f"{asked} draws of the masks: asked for"
    if not strong:
        return "lattice", 1, "masks on a lattice: the noise is weak"
    count = next((count for most, count in _DRAWS if pixels <= most), _LEAST_DRAWS)
    return "random", count, f"{count} draws of the masks: by its size"


def time_of(pixels: int, minutes: float | None, threads: int) -> float:
    """Return the minutes that `choose_settings` gives a picture of so many pixels."""
    return _minutes(pixels, minutes, None, threads)[0]


def _minutes(pixels: int, minutes: float | None, steps: int | None, threads: int) -> tuple[float, str]:
    if minutes is not None:
        return minutes, f"{minutes:g} minutes: asked for"
    if steps is not None:
        return 0.0, f"{steps} steps: asked for"
    cpu = min(max(_CPU_MINUTES * pixels / _REFERENCE_PIXELS, _LEAST_CPU_MINUTES), _MOST_CPU_MINUTES)
    limit = round(cpu / min(max(threads, 1), 4), 2)
    return limit, f"{limit:g} minutes: by its size"


def _crop(stride: int, shortest: int) -> int:
    """Small crops give the most steps in a time; a sub-image needs room for the network to look around."""
    wanted = max(_CROP, _SUB_CROP * stride)
    return max(min(wanted, shortest) // stride * stride, stride)
