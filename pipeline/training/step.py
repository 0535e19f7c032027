"""One optimiser step: plain torch, without Ray, MLflow or a configuration library, so that it runs anywhere.

Everything random in it follows from the per-sample seeds of the batch, so the state holds no random generator:
a step is a pure function of (state, batch).
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from models import AsymmetricMasks, Distillation, MaskedTraining, Network
from pipeline.training.precision import Precision, in_bfloat16
from pipeline.training.schedule import ema_decay, learning_rate


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSettings:
    """Optimiser settings of a run; the names and units of `OptimizerConfig`."""

    lr: float
    betas: tuple[float, float]
    weight_decay: float
    schedule: Literal["cosine", "constant", "halve"]
    warmup_steps: int
    ema_decay: float
    clip_norm: float
    precision: Precision = "float32"


class TrainState:
    """The network, its running average, the optimiser and the step count: all that a resumed run needs."""

    def __init__(self, network: Network, settings: StepSettings, device: str | torch.device = "cpu") -> None:
        self.network = network.to(device).train()
        self.average: Network = copy.deepcopy(network).to(device).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=settings.lr,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )
        self.step = 0
        self.bad_steps = 0
        """Steps skipped so far because a gradient was not finite."""

        self.rollbacks = 0
        """How often the run has gone back to a checkpoint because its gradients stayed non-finite; each time halves the
        learning rate."""

        self.loss_sum = 0.0
        """Losses since the last row of the log, over `loss_steps` steps, so that a row says the same after a resume."""

        self.loss_steps = 0

        self.seconds = 0.0
        """Training time so far, over all sessions."""

    def restart(self, fresh: TrainState) -> None:
        """Take over the weights and the optimiser of a new run, at step 0."""
        self.network.load_state_dict(fresh.network.state_dict())
        self.average.load_state_dict(fresh.average.state_dict())
        self.optimizer.load_state_dict(fresh.optimizer.state_dict())
        self.step = self.loss_steps = 0
        self.loss_sum = 0.0


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step did."""

    loss: float
    grad_norm: float
    lr: float
    skipped: bool


Method = MaskedTraining | AsymmetricMasks | Distillation


def batch_loss(method: Method, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the method's loss of one batch: asymmetric masks compare with no `clean`, the others do."""
    noise = batch.get("noise")
    if isinstance(method, AsymmetricMasks):
        return method.loss(network, batch["noisy"], batch["seeds"], noise=noise)
    if isinstance(method, MaskedTraining):
        return method.loss(network, batch["noisy"], batch["clean"], batch["seeds"], noise=noise)
    return method.loss(network, batch["noisy"], batch["clean"], batch["seeds"])


def train_step(
    state: TrainState,
    batch: Mapping[str, Tensor],
    method: Method,
    settings: StepSettings,
    progress: float,
    *,
    network: nn.Module | None = None,
    parts: int = 1,
    weight: float = 1.0,
) -> StepResult:
    """Take one AdamW step on `batch` and update the average; skip the step if a gradient is not finite.

    Args:
        state: changed in place.
        batch: `noisy` (B, C, H, W) float32 in [0, 1], `seeds` (B,) int64, and `clean` like `noisy` for masked
            training and distillation; `noise` (B, 2) float32 for a network with a level map; on the state's device.
        method: which loss.
        settings: optimiser settings.
        progress: fraction of the run that is over, for the schedule.
        network: what to call instead of `state.network`: its distributed wrapper, when there is one.
        parts: the batch is computed in so many parts, one after the other; the step is that of the whole.
        weight: factor on the loss whose gradient is taken, for shares of a global batch of unequal size.
    """
    rate = learning_rate(
        settings.lr, progress, state.step, schedule=settings.schedule, warmup_steps=settings.warmup_steps
    )
    rate *= 0.5**state.rollbacks
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.optimizer.zero_grad(set_to_none=True)
    loss = _backward(batch, method, network or state.network, settings, parts, weight)
    # The norm of the gradients after all-reduce: the same number on every rank, so all skip or none does.
    norm = float(nn.utils.clip_grad_norm_(state.network.parameters(), settings.clip_norm))
    finite = math.isfinite(norm)
    if finite:
        state.optimizer.step()
        _update_average(state, ema_decay(settings.ema_decay, state.step))
    else:
        state.bad_steps += 1
    state.step += 1
    return StepResult(loss=loss, grad_norm=norm, lr=rate, skipped=not finite)


def _backward(
    batch: Mapping[str, Tensor],
    method: Method,
    network: nn.Module,
    settings: StepSettings,
    parts: int,
    weight: float,
) -> float:
    """Add up the gradients of the batch's parts; only the last one starts the all-reduce. Returns the mean loss."""
    size = len(batch["noisy"])
    ends = [size * part // parts for part in range(parts + 1)]
    slices = [slice(start, end) for start, end in itertools.pairwise(ends) if start < end]
    device = batch["noisy"].device
    short = in_bfloat16(settings.precision, device)
    total = 0.0
    for part in slices:
        share = {name: values[part] for name, values in batch.items()}
        wrapped = isinstance(network, nn.parallel.DistributedDataParallel) and part is not slices[-1]
        with network.no_sync() if wrapped else contextlib.nullcontext():  # type: ignore[operator]
            with torch.autocast(device.type, torch.bfloat16, enabled=short):
                loss = batch_loss(method, network, share)
            fraction = (part.stop - part.start) / size
            (loss * (weight * fraction)).backward()  # type: ignore[no-untyped-call]
        total += fraction * float(loss.detach())
    return total


@torch.no_grad()
def _update_average(state: TrainState, decay: float) -> None:
    weights = [p.detach() for p in state.network.parameters()]
    torch._foreach_lerp_(list(state.average.parameters()), weights, 1 - decay)
    for kept, new in zip(state.average.buffers(), state.network.buffers(), strict=True):
        kept.copy_(new)
