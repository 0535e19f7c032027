"""From specs to networks: every kind is built, described, and trained with both kinds of masks."""

from __future__ import annotations

import pytest
import torch

from models import AsymmetricMasks, InferenceSpec, MaskedTraining, build, default_specs, denoise, describe
from models.build import NetworkSpec, build_empty, spec_from_dict
from pipeline.training.step import StepSettings, TrainState, train_step

SMALL = {
    "masked_swin": {"dim": 12, "depths": [2], "heads": [2], "window": 4, "drop_path": 0.0},
    "unet": {"width": 8, "depth": 1},
    "nafnet": {"width": 8, "encoder": [1], "decoder": [1]},
    "restormer": {"dim": 8, "blocks": [1, 1], "heads": [1, 2]},
}
SETTINGS = StepSettings(
    lr=3e-3, betas=(0.9, 0.99), weight_decay=0.0, schedule="constant", warmup_steps=0, ema_decay=0.0, clip_norm=1.0
)


def small(kind: str, **more: object) -> NetworkSpec:
    return spec_from_dict({"kind": kind, **SMALL[kind], **more})


def test_every_kind_has_a_default_that_can_be_built() -> None:
    assert list(default_specs()) == list(SMALL)
    for kind, spec in default_specs().items():
        assert spec.kind == kind
        assert type(build_empty(spec)).__name__.lower() == kind.replace("_", "")


@pytest.mark.parametrize("kind", SMALL)
def test_a_description_is_json_and_counts(kind: str) -> None:
    import json

    spec = small(kind)
    facts = describe(spec)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["parameters"] == sum(parameter.numel() for parameter in build(spec).parameters())
    assert facts["macs_per_pixel"] == round(facts["macs_512x512"] / 512**2)
    assert facts["receptive_field"] is None or facts["receptive_field"] % 2 == 1
    if facts["reach"] is not None:
        assert facts["receptive_field"] == 2 * facts["reach"] + 1


METHODS = {
    "masked": MaskedTraining(input_ratio=(0.5, 0.6)),
    "asymmetric": AsymmetricMasks(pd_stride=2, fill="zero"),
}


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("method", METHODS)
def test_every_kind_learns_with_every_method(kind: str, method: str) -> None:
    # A sum with the hidden pixels would carry their fill into the output.
    more = {} if kind == "masked_swin" else {"residual": False}
    state = TrainState(build(small(kind, channels=1, **more)), SETTINGS)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for step in range(40):
        clean = torch.rand(4, 1, 1, 1, generator=generator).expand(4, 1, 16, 16)
        noisy = clean + 0.05 * torch.randn(clean.shape, generator=generator)
        batch = {"clean": clean, "noisy": noisy, "seeds": torch.arange(4) + 4 * step}
        losses.append(train_step(state, batch, METHODS[method], SETTINGS, 0.0).loss)
    assert state.bad_steps == 0
    # A constant guess costs a quarter of the range; noise alone, which asymmetric masks cannot avoid, 0.04.
    assert sum(losses[-10:]) < 0.75 * sum(losses[:10])


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("mode", ["direct", "multi_mask"])
def test_every_kind_denoises_any_size_in_both_modes(kind: str, mode: str) -> None:
    network = build(small(kind)).eval()
    image = torch.rand(1, 3, 37, 21, generator=torch.Generator().manual_seed(0))
    output = denoise(network, image, InferenceSpec(mode=mode))
    assert output.shape == image.shape
    assert torch.isfinite(output).all()
    assert torch.equal(denoise(network, image, InferenceSpec(mode=mode)), output)
