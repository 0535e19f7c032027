"""Batches of arrays to tensors on the worker's device, with the noise made there if it is to be made there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from pipeline.schema import TrainConfig


def to_device(batch: Mapping[str, np.ndarray], config: TrainConfig, device: torch.device) -> dict[str, Tensor]:
    """Return the batch on `device`, with `noisy` and `clean` made there where it comes with `noise_seeds`.

    The copy is needed: arrays from the object store are read-only views that other processes share.
    """
    tensors = {name: torch.from_numpy(np.array(values)).to(device) for name, values in batch.items()}
    seeds = tensors.pop("noise_seeds", None)
    if seeds is None:
        return tensors
    from noise import corrupt

    assert config.noise is not None
    # Random numbers are drawn on the CPU, sample by sample, as a synthesizer draws them: the pairs are the same.
    made = [
        corrupt(image, config.noise, torch.Generator().manual_seed(seed))
        for image, seed in zip(tensors["clean"], seeds.tolist(), strict=True)
    ]
    tensors["noisy"] = torch.stack([pair.noisy for pair in made])
    tensors["clean"] = torch.stack([pair.clean for pair in made])
    return tensors
