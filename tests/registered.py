"""Small trained-looking weights to register, and where their files then lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import torch

from models import InferenceSpec, UNetSpec, build, save

PASSED = {"passed": True, "why": "noise left 12%"}
FAILED = {"passed": False, "why": "it blurs"}


def weights(folder: Path, *, seed: int = 0, channels: int = 3, **card: Any) -> Path:
    """Write weights that change pictures visibly, and return the folder."""
    spec = UNetSpec(channels=channels, width=4, depth=1)
    network = build(spec, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    facts = {
        "unveil": "0.6",
        "data": {"path": "photos", "images": 3, "hash": "ab12", "licence": None},
        "clean_images_read": False,
        "config": {"seed": 5, "method": {"kind": "asymmetric", "pd_stride": 2}, "noise": None},
        "gate": PASSED,
    }
    inference = InferenceSpec(mode="multi_mask", draws=2)
    save(folder, network, spec=spec, inference=inference, card={**facts, **card})
    return folder


def stored(reference: str) -> Path:
    """Return the folder in which a local registry keeps a model."""
    from pipeline.registry.store import find

    return Path(unquote(urlparse(find(reference).location).path))
