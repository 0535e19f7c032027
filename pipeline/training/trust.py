"""Rank 0's watch over a run that sees no clean image: held-out losses, what the network does, and the best weights.

All of it is a function of the weights and the held-out crops: masks and noise are seeded by the crop, and measurements
are due by the step. So a run that is killed and resumed chooses the same weights.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from models import AsymmetricMasks, InferenceSpec, Network, save
from pipeline.data.held_out import MEASURE_BATCH
from pipeline.evaluation.trust import beside_nlm, denoise_with, measure_trust
from pipeline.evaluation.trust_gate import gate_as_json, summary
from pipeline.evaluation.trust_measures import HeldOutLosses, TrustMeasures, measures_as_json
from pipeline.training.batches import to_device
from pipeline.training.history import Log
from pipeline.training.step import TrainState, batch_loss

if TYPE_CHECKING:
    from pipeline.schema import TrainConfig
    from pipeline.training.rank import Rank

BEST = "best"
_DRAWS = 2
"""Mask draws that are averaged while training goes on; the last measurement takes those of the configuration."""

Losses = NDArray[np.float64]
"""Loss of each held-out crop."""


@dataclass(frozen=True, slots=True)
class Best:
    """The weights of the lowest held-out loss so far."""

    step: int
    losses: Losses
    weights: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run ends with."""

    network: Network
    """Weights to keep."""

    card: dict[str, Any]
    """What they say about themselves: ``gate`` and ``weights_of_step``."""


class Watch:
    """Measures, remembers the best weights, and says when to stop."""

    def __init__(self, config: TrainConfig, run_dir: Path, card: Mapping[str, Any], rank: Rank, log: Log) -> None:
        assert isinstance(config.method, AsymmetricMasks)
        self._config = config
        self._method = config.method
        self._run_dir = run_dir
        self._card = card
        self._rank = rank
        self._log = log
        self._crops: dict[str, Tensor] = {}
        self._images = np.zeros(0, np.int64)
        self._fill: Losses | None = None
        self._measured = -1
        self._since = 0
        self.best: Best | None = None

    def due(self, step: int) -> bool:
        """Say whether this step is to be measured."""
        return step % self._config.trust.every == 0

    @property
    def stop(self) -> bool:
        """Whether the run has been patient enough."""
        return 0 < self._config.trust.patience <= self._since

    def look(self, state: TrainState) -> None:
        """Measure the average, write a row, and keep the weights if they are the best so far."""
        if self._measured == state.step:
            return
        self._measured = state.step
        own = self._losses(state.average, self._method)
        better = bool(np.isfinite(own).all()) and (self.best is None or own.mean() < self.best.losses.mean())
        self._since = 0 if better else self._since + 1
        if better:
            weights = {name: value.detach().cpu().clone() for name, value in state.average.state_dict().items()}
            self.best = Best(state.step, own, weights)
            try:
                self._save_best(state)
            except (OSError, SafetensorError) as error:
                # They are in every checkpoint as well; the folder is for whoever wants to use them early.
                self._log.note(f"{self._run_dir / BEST}: could not be written ({error}); training goes on")
        measures = self._measure(state, state.average, own, _quick(self._config.inference))
        text = f"step {state.step}: {summary(measures)}{', best so far' if better else ''}"
        row = {"event": "trust", "step": state.step, "time": time.time(), "text": text}
        self._log.append(row | flat_numbers(measures_as_json(measures)))

    def finish(self, state: TrainState) -> Verdict:
        """Choose the weights to keep and judge them."""
        self.look(state)
        network, step = state.average, state.step
        own = self._losses(network, self._method)
        best = self.best
        if self._config.trust.keep == "best" and best is not None and _worse(own, best.losses):
            network, step, own = copy.deepcopy(network), best.step, best.losses
            network.load_state_dict(best.weights)
            text = f"step {step} had the best held-out loss; its weights are kept"
            self._log.append({"event": "trust", "step": state.step, "time": time.time(), "text": text})
        measures = self._measure(state, network, own, self._config.inference)
        card = gate_as_json(beside_nlm(measures, self._read()["noisy"], self._images))
        row = {"event": "gate", "step": state.step, "time": time.time(), **card, "trust_passed": int(card["passed"])}
        self._log.append(row)
        return Verdict(network, {"gate": card, "weights_of_step": step})

    def parts(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the state of this watch for a checkpoint: tensors, and JSON values."""
        facts: dict[str, Any] = {"measured": self._measured, "since": self._since}
        if self.best is None:
            return {}, facts
        return self.best.weights, {**facts, "best_step": self.best.step, "best_losses": self.best.losses.tolist()}

    def restore(self, weights: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take up the state of a checkpoint."""
        self._measured, self._since = facts["measured"], facts["since"]
        if "best_step" in facts:
            self.best = Best(facts["best_step"], np.array(facts["best_losses"]), weights)

    def _measure(self, state: TrainState, network: Network, own: Losses, spec: InferenceSpec) -> TrustMeasures:
        crops = self._read()
        if self._fill is None:
            # A network that changes nothing shows what was filled in.
            self._fill = self._losses(_Identity(), replace(self._method, fill=_visible(self._method.fill)))
        state.network.eval()
        raw = self._losses(state.network, self._method)
        state.network.train()
        losses = HeldOutLosses(
            loss=float(own.mean()),
            loss_error=_error(own - self._fill),
            loss_inference=float(self._losses(network, _as_at_inference(self._method, spec)).mean()),
            loss_raw=float(raw.mean()),
            loss_fill=float(self._fill.mean()),
        )
        denoise = denoise_with(network, spec, crops.get("noise"))
        blind = spec.mode == "multi_mask" and not spec.refine_draws
        if "levels" in crops:  # raw, which is never denoised by the blind prediction alone
            from pipeline.inference.known_noise import combined

            denoise, blind = combined(denoise, crops["levels"]), False
        return measure_trust(denoise, crops["noisy"], self._images, losses=losses, blind=blind)

    @torch.no_grad()
    def _losses(self, network: nn.Module, method: AsymmetricMasks) -> Losses:
        crops = self._read()
        count = len(crops["noisy"])
        each = ({name: values[index : index + 1] for name, values in crops.items()} for index in range(count))
        return np.array([float(batch_loss(method, network, crop)) for crop in each])

    def _read(self) -> dict[str, Tensor]:
        if not self._crops:
            batch = self._rank.ask(MEASURE_BATCH, range(self._config.trust.crops))
            self._images = np.array(batch["images"])
            crops = {name: values for name, values in batch.items() if name != "images"}
            self._crops = to_device(crops, self._config, self._rank.device)
        return self._crops

    def _save_best(self, state: TrainState) -> None:
        trained = {"steps": state.step, "seconds": round(state.seconds, 1), "skipped_steps": state.bad_steps}
        save(
            self._run_dir / BEST,
            state.average,
            spec=self._config.network,
            inference=self._config.inference,
            card={**self._card, "training": trained},
        )


class _Identity(nn.Module):
    def forward(self, image: Tensor, **_: Any) -> Tensor:
        return image


def _visible(fill: Any) -> Any:
    """A fill that says something about the image."""
    return "mean" if fill == "zero" else fill


def _quick(spec: InferenceSpec) -> InferenceSpec:
    return replace(spec, draws=min(spec.draws, _DRAWS), refine_draws=0)


def _as_at_inference(method: AsymmetricMasks, spec: InferenceSpec) -> AsymmetricMasks:
    """Return the training loss with the stride, masks and holes of inference."""
    same = {field.name for field in fields(method)} & {field.name for field in fields(spec)}
    return replace(method, **{name: getattr(spec, name) for name in same})


def _worse(losses: Losses, best: Losses) -> bool:
    """Whether the mean is larger by more than the standard error of the difference, crop by crop."""
    difference = losses - best
    return not math.isfinite(difference.mean()) or bool(difference.mean() > _error(difference))


def _error(values: Losses) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def flat_numbers(values: Mapping[str, Any], prefix: str = "trust_") -> dict[str, float]:
    """Return the numbers of nested values by name, lists numbered from 1."""
    numbers: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            numbers |= flat_numbers(value, prefix)
        elif isinstance(value, list):
            numbers |= flat_numbers({f"{name}_{index + 1}": one for index, one in enumerate(value)}, prefix)
        elif isinstance(value, int | float):
            numbers[prefix + name] = value
    return numbers
