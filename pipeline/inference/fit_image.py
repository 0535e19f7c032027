"""Train a network on one photo alone, and denoise it (single-image use of arXiv 2407.06514, section 3).

The steps are those of `pipeline.training.step`. A few pixels, scattered at random, are never a target in training:
the masked loss there, of the averaged weights, chooses the weights to keep. It rises when the network begins to know
the noise of its targets by heart, which a photo of few pixels soon allows.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models import InferenceSpec, Network, build, denoise, hash_uniform, pd_down
from models import fold as child_seed
from pipeline.inference.averaged import average_strides, brightened
from pipeline.training.step import TrainState, train_step

if TYPE_CHECKING:
    from pipeline.inference.fit_settings import FitSettings

FloatImage = NDArray[np.float32]

_CHECKS = 20
_WINDOW, _WINDOWS = 256, 4
_HELD_STREAM = 0x4E1D
_PREVIEW_SHARE = 8
"""A preview may not take more than one in so many seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FitProgress:
    """Where a fit is."""

    step: int
    """Steps done."""

    fraction: float
    """Share of the training that is over."""

    seconds: float
    """Time since the start."""

    held_out_255: float
    """Latest masked loss at pixels that were never targets, in units of 1/255."""

    best_255: float
    """Lowest so far."""

    picture: FloatImage | None
    """The photo denoised with the best weights so far, (H, W, C) float32, when it is due; else None."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FitResult:
    """A denoised photo, and how it came about."""

    denoised: FloatImage
    """(H, W, C) float32, not clipped."""

    measures: dict[str, Any]
    """``steps``; ``best_step``, whose weights were kept; ``seconds``; ``held_out_255`` of these weights and
    ``held_out_start_255`` of the untrained network, which is the mean of visible neighbours; ``removed_255``, the
    standard deviation of noisy minus denoised."""

    settings: FitSettings
    """What was chosen, and why."""


def fit_image(
    image: FloatImage,
    settings: FitSettings,
    *,
    on_progress: Callable[[FitProgress], None] | None = None,
    save_seconds: float = 30.0,
    device: str = "cpu",
) -> FitResult:
    """Train on one photo and denoise it.

    Args:
        image: (H, W, C) float32 in [0, 1], C as ``settings.network`` has it.
        settings: of `pipeline.inference.fit_settings.choose_settings`.
        on_progress: called after every step, with the picture so far about every ``save_seconds`` if it became better.
        save_seconds: time between two such pictures; longer where making one takes long.
        device: where to compute.

    Returns:
        The same bytes for the same image, settings, machine and threads, if ``settings.minutes`` is 0.
    """
    if not settings.denoises:
        return FitResult(denoised=image.copy(), measures={"steps": 0, "seconds": 0.0}, settings=settings)
    fit = _Fit(image, settings, device)
    listen = on_progress or _ignore
    saved = time.monotonic()
    pause = save_seconds
    while (fraction := fit.fraction()) < 1:
        fit.train(fraction)
        fit.check(fraction)
        picture = None
        if not fit.shown and time.monotonic() - saved >= pause:
            start = time.monotonic()
            picture = fit.preview()
            saved = time.monotonic()
            pause = max(save_seconds, _PREVIEW_SHARE * (saved - start))
            fit.shown = True
        listen(fit.progress(fraction, picture))
    fit.check(1.0)
    denoised = fit.picture()
    measures = {
        "steps": fit.state.step,
        "best_step": fit.best_step,
        "seconds": round(time.monotonic() - fit.start, 2),
        "held_out_255": round(255 * fit.best, 4),
        "held_out_start_255": round(255 * fit.first, 4),
        "removed_255": round(255 * float(np.std(image - denoised)), 3),
    }
    return FitResult(denoised=denoised, measures=measures, settings=settings)


class _Fit:
    """The state of one fit."""

    def __init__(self, image: FloatImage, settings: FitSettings, device: str) -> None:
        self.start = time.monotonic()
        self.settings = settings
        self.image = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        height, width = image.shape[:2]
        seed = torch.tensor([child_seed(settings.seed, _HELD_STREAM)])
        rows, columns = torch.arange(height)[:, None], torch.arange(width)
        self.held = hash_uniform(seed[:, None], rows, columns)[None] < settings.held_out
        self.state = TrainState(build(settings.network, seed=settings.seed), settings.optimizer, device)
        self.device = device
        self.windows = _windows(height, width, self.settings.method.pd_stride)
        self.checked = 0
        self.shown = True
        self.best_weights = copy.deepcopy(self.state.average.state_dict())
        self.best_step = 0
        self.best = self.first = self.latest = self._held_out()
        self.reserved = self._time_to_finish() if settings.minutes else 0.0

    def fraction(self) -> float:
        """Share of the training that is over."""
        if self.settings.minutes:
            limit = max(60 * self.settings.minutes - self.reserved, 30 * self.settings.minutes)
            return (time.monotonic() - self.start) / limit
        return self.state.step / self.settings.steps

    def train(self, fraction: float) -> None:
        """Take one step."""
        settings = self.settings
        generator = np.random.default_rng((settings.seed, self.state.step))
        crops, held = zip(*(self._crop(generator) for _ in range(settings.batch)), strict=True)
        noisy = torch.stack(crops).to(self.device)
        seeds = [child_seed(settings.seed, self.state.step, index) for index in range(settings.batch)]
        batch: Mapping[str, Tensor] = {"noisy": noisy, "seeds": torch.tensor(seeds, device=self.device)}
        stride = settings.method.pd_stride
        excused = _Excused(
            self.state.network, pd_down(noisy, stride), pd_down(torch.stack(held).to(self.device), stride)
        )
        train_step(self.state, batch, settings.method, settings.optimizer, fraction, network=excused)

    def _crop(self, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        side = self.settings.crop
        height, width = self.image.shape[-2:]
        top, left = int(generator.integers(height - side + 1)), int(generator.integers(width - side + 1))
        turns, mirrored = int(generator.integers(4)), bool(generator.integers(2))

        def cut(whole: Tensor) -> Tensor:
            part = torch.rot90(whole[:, top : top + side, left : left + side], turns, (1, 2))
            return part.flip(2) if mirrored else part

        return cut(self.image), cut(self.held)

    def check(self, fraction: float) -> None:
        """Measure the averaged weights now and then, and keep them if they are the best so far."""
        due = math.floor(min(fraction, 1.0) * _CHECKS)
        if due <= self.checked:
            return
        self.checked = due
        self.latest = self._held_out()
        if self.latest < self.best:
            self.best, self.best_step = self.latest, self.state.step
            self.best_weights = copy.deepcopy(self.state.average.state_dict())
            self.shown = False

    def _held_out(self) -> float:
        """Mean absolute error of blind predictions at the held-out pixels, where noise is nearly independent."""
        method = self.settings.method
        spec = InferenceSpec(
            mode="multi_mask",
            pd_stride=method.pd_stride,
            mask_count=method.mask_count,
            fill=method.fill,
            hole=method.hole,
            hole_shape=method.hole_shape,
            seed=child_seed(self.settings.seed, _HELD_STREAM),
        )
        total, count = 0.0, 0
        for window in self.windows:
            noisy, held = self.image[(slice(None), *window)], self.held[(slice(None), *window)]
            blind = denoise(self.state.average, noisy[None].to(self.device), spec)[0].cpu()
            error = (blind - noisy).abs()[held.expand_as(noisy)]
            total, count = total + float(error.double().sum()), count + error.numel()
        return total / max(count, 1)

    def best_network(self) -> Network:
        """Return the averaged network as it was when it was best."""
        network: Network = copy.deepcopy(self.state.average)
        network.load_state_dict(self.best_weights)
        return network

    def picture(self) -> FloatImage:
        """Denoise the photo with the best weights so far: the photo, filtered by the mean of its strides."""
        return self._denoised(self.settings.inference, self.settings.strides)

    def preview(self) -> FloatImage:
        """Denoise the photo with the best weights so far, as fast as possible."""
        return self._denoised(replace(self.settings.inference, draws=1, layout="lattice"), self.settings.strides[:1])

    def _denoised(self, spec: InferenceSpec, strides: Sequence[int]) -> FloatImage:
        network = self.best_network()
        noisy = self.image.numpy().transpose(1, 2, 0)

        def denoise_at(stride: int) -> FloatImage:
            output = denoise(network, self.image[None].to(self.device), replace(spec, pd_stride=stride))
            blind: FloatImage = output[0].cpu().numpy().transpose(1, 2, 0)
            return blind

        return np.ascontiguousarray(brightened(noisy, average_strides(noisy, denoise_at, strides=strides)))

    def _time_to_finish(self) -> float:
        """Seconds that the final picture will take, from those of one window."""
        spec = self.settings.inference
        part = self.image[(slice(None), *self.windows[0])]
        start = time.monotonic()
        denoise(self.state.average, part[None].to(self.device), replace(spec, draws=1, offset="keep"))
        pixels = spec.draws * len(self.settings.strides) * self.image[0].numel()
        return (time.monotonic() - start) * pixels / part[0].numel()

    def progress(self, fraction: float, picture: FloatImage | None) -> FitProgress:
        """Return where the fit is."""
        return FitProgress(
            step=self.state.step,
            fraction=min(fraction, 1.0),
            seconds=time.monotonic() - self.start,
            held_out_255=255 * self.latest,
            best_255=255 * self.best,
            picture=picture,
        )


class _Excused(nn.Module):
    """A network that answers held-out pixels with the truth: their loss is zero, and nothing is learned from them."""

    def __init__(self, network: nn.Module, truth: Tensor, held: Tensor) -> None:
        super().__init__()
        self.network = network
        self.truth, self.held = truth, held

    def forward(self, image: Tensor, **named: Any) -> Tensor:
        """Predict (B, C, H, W), but at held-out pixels."""
        return torch.where(self.held, self.truth, self.network(image, **named))


def _windows(height: int, width: int, stride: int) -> list[tuple[slice, slice]]:
    """Areas in which held-out pixels are looked at: all of a small picture, four places of a large one."""
    if height * width <= _WINDOWS * _WINDOW * _WINDOW:
        return [(slice(0, height), slice(0, width))]
    tall, wide = min(_WINDOW, height), min(_WINDOW, width)
    tops = {(height - tall) * part // 4 // stride * stride for part in (1, 3)}
    lefts = {(width - wide) * part // 4 // stride * stride for part in (1, 3)}
    return [(slice(top, top + tall), slice(left, left + wide)) for top in sorted(tops) for left in sorted(lefts)]


def _ignore(_: FitProgress) -> None:
    pass
