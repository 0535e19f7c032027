"""Measures a trained network by the scores of a search."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import AsymmetricMasks, InferenceSpec, Network, denoise, from_network, multi_mask_denoise, to_network
from pipeline.data.source import SourceSpec
from pipeline.errors import RunError
from pipeline.evaluation.metrics import measure, psnr_rgb_u8
from tuning.effort import Effort
from tuning.material import held_out_batch, trust_crops
from tuning.score import SUITE_SEED, Score

if TYPE_CHECKING:
    from pipeline.evaluation.cases import CaseSet
    from pipeline.schema import TrainConfig

HELD_OUT_BATCH = 2**42
"""Index of the batch that trials are judged on: far beyond any step, and not the one of the pictures."""

_CHUNK = 8
_EFFECT_CROPS = 4

SSIM: Final = "ssim_gauss11_rgb"

FloatImage = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """What a network is worth."""

    scores: dict[str, float]
    """By name, in the order of the search."""

    parts: dict[str, float]
    """What the first score is the mean of, by name, where it has named parts."""

    effect: float | None = None
    """Root mean square of what the network itself changes in held-out noisy crops, in 1/255; at the end only."""


@dataclass
class Judge:
    """Scores a network. The data are read once, at the first use.

    Before the end of a trial on less: there it is compared with other trials at the same rung only, and judging costs
    as much there as at the end.
    """

    scores: Sequence[Score]
    config: TrainConfig
    """The trial's own configuration: its masks and inference settings count."""

    held_out: SourceSpec
    _batch: dict[str, NDArray[Any]] = field(default_factory=dict)
    _sets: dict[str, list[tuple[FloatImage, FloatImage]]] = field(default_factory=dict)
    _ssim: list[float] = field(default_factory=list)
    _last: bool = True

    def __call__(self, network: Network, *, last: bool = True) -> Judged:
        """Return the scores of a network in evaluation mode.

        Args:
            network: what is judged.
            last: whether this is the end of the trial, which is judged on all the data.

        Raises:
            RunError: its output is not finite.
        """
        judges: dict[str, Callable[[Network, Score], dict[str, float]]] = {
            "pairs": self._on_pictures,
            "suite": self._on_pictures,
            "synthetic": self._on_synthetic,
            "blind": self._blind,
        }
        self._last = last
        trust: dict[str, float] = {}
        scores: dict[str, float] = {}
        parts: dict[str, float] = {}
        for score in self.scores:
            if score.kind == "trust" and not trust:
                trust = self._on_trust(network, score)
            with torch.inference_mode():
                found = {"": trust[score.name]} if score.kind == "trust" else judges[score.kind](network, score)
            mean = float(np.mean(list(found.values())))
            if not math.isfinite(mean):
                raise RunError(f"{score.name}: expected a finite score, found {mean}")
            if score is self.scores[0] and score.kind in ("pairs", "suite"):
                parts = {**(found if score.kind == "suite" else {}), SSIM: float(np.mean(self._ssim))}
            scores[score.name] = mean
        return Judged(scores=scores, parts=parts, effect=self._effect(network) if last else None)

    def _on_pictures(self, network: Network, score: Score) -> dict[str, float]:
        """Mean of each set of pictures that have a clean side."""
        sets = self._sets or self._read(score)
        self._sets = sets
        self._ssim.clear()
        return {
            name: float(np.mean([self._psnr(network, score, *sides) for sides in one])) for name, one in sets.items()
        }

    def _read(self, score: Score) -> dict[str, list[tuple[FloatImage, FloatImage]]]:
        from pipeline.evaluation.case_sets import data_set, noised_sets, suite_noises

        folder = Path(score.data)
        if score.kind == "pairs":
            return {"pairs": _pictures(data_set(folder, limit=score.count), score.side)}
        found = noised_sets(folder, suite_noises(score.suite), SUITE_SEED, score.count)
        return {one.name: _pictures(one, score.side) for one in found}

    def _psnr(self, network: Network, score: Score, noisy: FloatImage, clean: FloatImage) -> float:
        noisy, clean = (_middle(one, self._effort(score).side(score.side), (0, 1)) for one in (noisy, clean))
        output = self._denoised(network, to_network(noisy, network.channels), score)
        values = measure(from_network(output, noisy.shape[2]), clean, ("psnr_rgb_u8", SSIM))
        self._ssim.append(values[SSIM])
        return values["psnr_rgb_u8"]

    def _on_synthetic(self, network: Network, score: Score) -> dict[str, float]:
        noisy, truth = (self._middles(name, score) for name in ("noisy", "clean"))
        output = self._denoised(network, torch.from_numpy(noisy), score)
        return {
            str(number): psnr_rgb_u8(found.transpose(1, 2, 0), clean.transpose(1, 2, 0))
            for number, (found, clean) in enumerate(zip(output.numpy(), truth, strict=True))
        }

    def _on_trust(self, network: Network, score: Score) -> dict[str, float]:
        from pipeline.evaluation.trust import denoise_with, error_terms

        crops = trust_crops(self.held_out, self.config.trust.crops, self._effort(score))
        noisy = crops.noisy.to(_device(network))
        found = error_terms(denoise_with(network, self._inference(network, score)), noisy, crops.known)
        # A network that diverged leaves more in flat areas than elsewhere, and its structure lost is far below zero.
        found["structure_lost"] = abs(found["structure_lost"])
        return {"trust": found["noise_left"] + found["structure_lost"], **found}

    def _blind(self, network: Network, score: Score) -> dict[str, float]:
        method, inference = self.config.method, self.config.inference
        assert isinstance(method, AsymmetricMasks)
        noisy = torch.from_numpy(self._middles("noisy", score))
        losses: list[float] = []
        for start in range(0, len(noisy), _CHUNK):
            image = noisy[start : start + _CHUNK].to(_device(network))
            output = multi_mask_denoise(
                network,
                image,
                pd_stride=score.pd_stride,
                mask_count=method.mask_count,
                draws=self._inference(network, score).draws,
                fill=method.fill,
                hole=method.hole,
                hole_shape=method.hole_shape,
                layout=method.layout,
                seed=inference.seed,
                attention=inference.attention != "off",
            )
            losses += (output - image).abs().mean((1, 2, 3)).tolist()
        return {str(number): loss for number, loss in enumerate(losses)}

    @torch.inference_mode()
    def _effect(self, network: Network) -> float:
        """What the weights do, without masks, fill and pixel shuffling, which may score by themselves."""
        image = torch.from_numpy(self._crops()["noisy"][:_EFFECT_CROPS])
        change = denoise(network, image.to(_device(network)), InferenceSpec()).float().cpu() - image
        return 255 * float(change.square().mean().sqrt())

    def _crops(self) -> dict[str, NDArray[Any]]:
        if not self._batch:
            count = max([_EFFECT_CROPS, *(score.count for score in self.scores)])
            self._batch = held_out_batch(self.held_out, HELD_OUT_BATCH, count)
        return self._batch

    def _middles(self, name: str, score: Score) -> NDArray[Any]:
        crops = self._crops()[name][: score.count]
        return np.ascontiguousarray(_middle(crops, self._effort(score).side(crops.shape[-1]), (2, 3)))

    def _effort(self, score: Score) -> Effort:
        return score.effort if self._last else score.effort.early

    def _inference(self, network: Network, score: Score) -> InferenceSpec:
        return self._effort(score).inference(self.config.inference, stochastic=network.stochastic)

    def _denoised(self, network: Network, image: Tensor, score: Score) -> Tensor:
        output = denoise(network, image.to(_device(network)), self._inference(network, score)).float().cpu()
        if not bool(torch.isfinite(output).all()):
            raise RunError("the network's output is not finite")
        return output


def _device(network: Network) -> torch.device:
    return next(network.parameters()).device


def _pictures(found: CaseSet, side: int) -> list[tuple[FloatImage, FloatImage]]:
    from pipeline.evaluation.cases import checked
    from pipeline.evaluation.metrics import least_side

    pictures = []
    for case in found.cases:
        noisy, clean = checked(case, least_side(("psnr_rgb_u8", SSIM)))
        assert clean is not None  # the folder was found to hold pairs, or is clean itself
        pictures.append((_middle(noisy, side, (0, 1)), _middle(clean, side, (0, 1))))
    return pictures


def _middle(images: NDArray[Any], side: int, axes: tuple[int, int]) -> NDArray[Any]:
    """Cut images to so many pixels at most along these axes."""
    kept = [slice(None)] * images.ndim
    for axis in axes:
        first = max(0, (images.shape[axis] - side) // 2)
        kept[axis] = slice(first, first + side)
    return images[tuple(kept)]
