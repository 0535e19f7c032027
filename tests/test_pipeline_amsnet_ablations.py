"""The ablations of the AMSNet paper are the preset and a line or two each, and do what they name."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import AsymmetricMasks, Network, denoise, describe_inference
from pipeline.config import load_config
from pipeline.schema import TrainConfig
from pipeline.training.loop import new_state, step_settings
from pipeline.training.step import TrainState, train_step

BATCH, CROP = 2, 40
TINY = {
    "unet": ("network.width=4", "network.depth=1"),
    "nafnet": ("network.width=4", "network.encoder=[1]", "network.middle=1", "network.decoder=[1]"),
    "restormer": ("network.dim=4", "network.blocks=[1,1]", "network.heads=[1,1]", "network.refinement=1"),
    "masked_swin": ("network.dim=8", "network.depths=[2]", "network.heads=[2]", "network.window=4"),
}

MASK_RATIO = {count: (f"method.mask_count={count}", f"inference.mask_count={count}") for count in (2, 3, 4, 5)}
PD = {
    (train, test): (f"method.pd_stride={train}", f"inference.pd_stride={test}")
    for train, test in ((5, 2), (5, 1), (4, 2), (2, 2), (1, 1), (5, 5))
}
REFINEMENT = {0: ("inference.refine_draws=0",), 8: ()}


class Seen:
    """What the network is given."""

    def __init__(self, network: nn.Module) -> None:
        self.images: list[Tensor] = []
        network.register_forward_pre_hook(lambda _, arguments: self.images.append(arguments[0]))


def config_of(*lines: str) -> TrainConfig:
    assert len(lines) <= 2, "an ablation is a line or two"
    return load_config(preset="amsnet", overrides=lines)


def tiny(config: TrainConfig) -> TrainConfig:
    from pipeline.config import apply_overrides, check, dump

    lines = [*TINY[config.network.kind], f"training.batch={BATCH}", f"data.crop={CROP}"]
    return check(apply_overrides(dump(config), lines, None))


def step(config: TrainConfig) -> tuple[Seen, TrainState]:
    small = tiny(config)
    state = new_state(small)
    seen = Seen(state.network)
    noisy = torch.rand(BATCH, 3, CROP, CROP, generator=torch.Generator().manual_seed(0)) + 1
    batch = {"noisy": noisy, "seeds": torch.arange(BATCH)}
    result = train_step(state, batch, small.method, step_settings(small), 0.0)
    assert math.isfinite(result.loss)
    return seen, state


def passes(config: TrainConfig, network: Network) -> int:
    """Images of the size of the whole that the network sees when it denoises one as the configuration says."""
    seen = Seen(network)
    image = torch.rand(1, 3, CROP, CROP, generator=torch.Generator().manual_seed(1))
    output = denoise(network.eval(), image, config.inference)
    assert torch.isfinite(output).all()
    return sum(shown[:, 0].numel() for shown in seen.images) // CROP**2


def of(config: TrainConfig) -> AsymmetricMasks:
    assert isinstance(config.method, AsymmetricMasks)
    return config.method


def same_but(config: TrainConfig, sections: set[str]) -> bool:
    paper = config_of()
    return all(getattr(config, name) == getattr(paper, name) for name in set(TrainConfig.model_fields) - sections)


def test_the_preset_is_the_paper_s_variant_with_refinement() -> None:
    config = config_of()
    method, inference = of(config), config.inference
    assert (method.pd_stride, method.mask_count, method.fill, method.hole, method.smoothing) == (
        5,
        2,
        "zero",
        (1, 1),
        0,
    )
    assert (inference.mode, inference.pd_stride, inference.mask_count) == ("multi_mask", 2, 2)
    assert (inference.refine_draws, inference.refine_share) == (8, 0.16)
    # 2 at PD 2, as two forward passes of the image, and 8 copies times 2 masks.
    assert describe_inference(inference, stochastic=False)["passes"] == 18


@pytest.mark.parametrize("count", MASK_RATIO)
def test_the_mask_ratio_is_one_over_the_mask_count(count: int) -> None:
    config = config_of(*MASK_RATIO[count])
    assert same_but(config, {"method", "inference"})
    seen, state = step(config)
    (shown,) = seen.images
    hidden = (shown == 0).all(1).float()
    # 5 sd of a share of n independent draws: false alarm under 1e-6.
    assert abs(float(hidden.mean()) - 1 / count) < 5 * math.sqrt(1 / count * (1 - 1 / count) / hidden.numel())
    assert passes(config, state.network) == 9 * count


@pytest.mark.parametrize("strides", PD)
def test_training_and_inference_have_strides_of_their_own(strides: tuple[int, int]) -> None:
    train, test = strides
    config = config_of(*PD[strides])
    assert same_but(config, {"method", "inference"})
    seen, state = step(config)
    side = CROP // train
    assert seen.images[0].shape == (BATCH * train * train, 3, side, side)
    seen.images.clear()
    denoise(state.network.eval(), torch.rand(1, 3, CROP, CROP), config.inference)
    assert seen.images[0].shape[-2:] == (CROP // test, CROP // test)
    # Refinement is at full resolution, whatever the stride.
    assert seen.images[-1].shape[-2:] == (CROP, CROP)


@pytest.mark.parametrize("draws", REFINEMENT)
def test_refinement_is_switched_in_one_line(draws: int) -> None:
    config = config_of(*REFINEMENT[draws])
    assert same_but(config, {"inference"})
    _, state = step(config)
    assert passes(config, state.network) == 2 + 2 * draws


@pytest.mark.parametrize("kind", TINY)
def test_the_denoiser_is_chosen_in_one_line(kind: str) -> None:
    config = load_config(preset="amsnet", overrides=[f"network.kind={kind}"])
    assert same_but(config, {"network"})
    _, state = step(config)
    assert passes(config, state.network) == 18


def test_the_smoothing_fine_tune_is_one_line_and_runs_all_masks() -> None:
    config = config_of("method.smoothing=0.01")
    assert of(config).smoothing == 0.01
    seen, _ = step(config)
    assert [len(shown) for shown in seen.images] == [2 * BATCH * 25]
    hidden = (seen.images[0] == 0).all(1).float()
    assert float(hidden.mean()) == 0.5


@pytest.mark.parametrize(
    ("lines", "masks"),
    [
        (("method.hole=[3,3]", "method.hole_shape=diamond"), 10),
        (("method.hole=[1,5]", "method.mask_count=3"), 15),
        (("method.layout=lattice",), 2),
    ],
)
def test_ours_beyond_the_paper_are_lines_of_the_same_sections(lines: tuple[str, ...], masks: int) -> None:
    config = config_of(*lines)
    inference = tuple(line.replace("method.", "inference.") for line in lines)
    both: dict[str, Any] = {"preset": "amsnet", "overrides": [*lines, *inference, "inference.refine_draws=0"]}
    assert same_but(config, {"method"})
    _, state = step(config)
    assert passes(load_config(**both), state.network) == masks
