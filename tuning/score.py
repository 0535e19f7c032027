"""What makes one trial better than another, measured on data that no trial trains on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import AsymmetricMasks, Network, denoise, from_network, multi_mask_denoise, to_network
from pipeline.data.source import BatchSource, SourceSpec
from pipeline.errors import RunError, UserError
from pipeline.evaluation.metrics import psnr_rgb_u8

if TYPE_CHECKING:
    from pipeline.schema import TrainConfig

HELD_OUT_BATCH = 2**42
"""Index of the batch that trials are judged on: far beyond any step, and not the one of the pictures."""

_CROPS = 32
_CHUNK = 8
_PAIRS = 6
_PAIR_SIDE = 512
_MIN_FILES_TO_SPLIT = 4
_MAX_HELD_OUT = 16

FloatImage = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A number with its definition, equal for all trials of a search."""

    kind: Literal["pairs", "synthetic", "blind"]
    """Which judge measures it."""

    name: str
    """What tables, plots and MLflow call it."""

    mode: Literal["max", "min"]
    """Whether larger or smaller is better."""

    definition: str
    """What it is, in words."""

    pairs: str = ""
    """Folder of pairs, for `pairs`."""

    pd_stride: int = 1
    """PD stride that all trials are judged at, for `blind`."""


def choose_score(config: TrainConfig, pairs: Path | None) -> Score:
    """Return the most telling score that the data allow: pairs, else synthetic partners, else a blind loss.

    Raises:
        UserError: `pairs` holds no pairs.
    """
    if pairs is not None:
        from pipeline.evaluation.datasets import find_pairs

        count = min(_PAIRS, len(find_pairs(pairs).pairs))
        return Score(
            kind="pairs",
            name="psnr_rgb_u8",
            mode="max",
            pairs=str(pairs.expanduser().resolve()),
            definition=(
                f"mean psnr_rgb_u8 in dB over {count} pairs, of each the centre, {_PAIR_SIDE}x{_PAIR_SIDE} "
                "at most; larger is better"
            ),
        )
    if config.noise is not None:
        return Score(
            kind="synthetic",
            name="psnr_synthetic",
            mode="max",
            definition=(
                f"mean psnr_rgb_u8 in dB over {_CROPS} held-out crops with noise of the recipe; larger is better"
            ),
        )
    method = config.method
    if not isinstance(method, AsymmetricMasks):
        raise UserError("method.kind: expected 'asymmetric' without pairs and without a noise recipe")
    return Score(
        kind="blind",
        name=f"blind_l1_pd{method.pd_stride}",
        mode="min",
        pd_stride=method.pd_stride,
        definition=(
            f"mean absolute difference, in [0, 1], between {_CROPS} held-out noisy crops and their "
            f"prediction without the pixel's own value, at PD stride {method.pd_stride} for all trials; "
            "smaller is better"
        ),
    )


def split_source(source: SourceSpec, score: Score) -> tuple[SourceSpec, SourceSpec]:
    """Return (training, held-out) images: every fourth is held out where there are at least four.

    With fewer, other crops (and other noise) of the same images are held out; with pairs, nothing is.
    """
    from dataclasses import replace

    if score.kind == "pairs" or len(source.files) < _MIN_FILES_TO_SPLIT:
        return source, source
    held_out = source.files[::4][:_MAX_HELD_OUT]
    training = tuple(file for file in source.files if file not in held_out)
    return replace(source, files=training), replace(source, files=held_out)


@dataclass
class Judge:
    """Scores a network. The data are read once, at the first use."""

    score: Score
    config: TrainConfig
    """The trial's own configuration: its masks and inference settings count."""

    held_out: SourceSpec
    _batch: dict[str, NDArray[Any]] = field(default_factory=dict)
    _pairs: list[tuple[FloatImage, FloatImage]] = field(default_factory=list)

    def __call__(self, network: Network) -> float:
        """Return the score of a network in evaluation mode.

        Raises:
            RunError: its output is not finite.
        """
        measure = {"pairs": self._on_pairs, "synthetic": self._on_synthetic, "blind": self._blind}
        with torch.inference_mode():
            values = measure[self.score.kind](network)
        mean = float(np.mean(values))
        if not math.isfinite(mean):
            raise RunError(f"{self.score.name}: expected a finite score, found {mean}")
        return mean

    def _on_pairs(self, network: Network) -> list[float]:
        from pipeline.evaluation.case_sets import data_set
        from pipeline.evaluation.cases import checked
        from pipeline.evaluation.metrics import METRICS

        if not self._pairs:
            least = METRICS[self.score.name].least
            for case in data_set(Path(self.score.pairs), limit=_PAIRS).cases:
                noisy, clean = checked(case, least)
                assert clean is not None  # the folder was found to hold pairs
                self._pairs.append((_centre(noisy), _centre(clean)))

        def denoised(noisy: FloatImage) -> FloatImage:
            output = self._denoised(network, to_network(noisy, network.channels))
            return from_network(output, noisy.shape[2])

        return [psnr_rgb_u8(denoised(noisy), clean) for noisy, clean in self._pairs]

    def _on_synthetic(self, network: Network) -> list[float]:
        batch = self._crops()
        output = self._denoised(network, torch.from_numpy(batch["noisy"]))
        return [
            psnr_rgb_u8(found.transpose(1, 2, 0), clean.transpose(1, 2, 0))
            for found, clean in zip(output.numpy(), batch["clean"], strict=True)
        ]

    def _blind(self, network: Network) -> list[float]:
        method, inference = self.config.method, self.config.inference
        assert isinstance(method, AsymmetricMasks)
        noisy = torch.from_numpy(self._crops()["noisy"])
        losses = []
        for start in range(0, _CROPS, _CHUNK):
            image = noisy[start : start + _CHUNK].to(_device(network))
            output = multi_mask_denoise(
                network,
                image,
                pd_stride=self.score.pd_stride,
                mask_count=method.mask_count,
                draws=inference.draws,
                fill=method.fill,
                hole=method.hole,
                hole_shape=method.hole_shape,
                layout=method.layout,
                seed=inference.seed,
                attention=inference.attention != "off",
            )
            losses += (output - image).abs().mean((1, 2, 3)).tolist()
        return losses

    def _crops(self) -> dict[str, NDArray[Any]]:
        if not self._batch:
            self._batch = BatchSource(self.held_out).batch(HELD_OUT_BATCH, range(_CROPS))
        return self._batch

    def _denoised(self, network: Network, image: Tensor) -> Tensor:
        output = denoise(network, image.to(_device(network)), self.config.inference).float().cpu()
        if not bool(torch.isfinite(output).all()):
            raise RunError("the network's output is not finite")
        return output


def _device(network: Network) -> torch.device:
    return next(network.parameters()).device


def _centre(image: FloatImage) -> FloatImage:
    top, left = (max(0, (size - _PAIR_SIDE) // 2) for size in image.shape[:2])
    return image[top : top + _PAIR_SIDE, left : left + _PAIR_SIDE]
