"""The ablations of the masked-training paper are a preset and one line each, and hide the share that they name."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import MaskedSwinSpec, MaskedTraining
from models.swin import SwinBlock
from pipeline.config import load_config
from pipeline.schema import TrainConfig
from pipeline.training.loop import new_state, step_settings
from pipeline.training.step import StepResult, TrainState, train_step

TINY = ("network.dim=8", "network.depths=[2]", "network.heads=[2]")
BATCH, CROP = 4, 64

TABLE_1 = {
    "attention mask only": (("method.input_ratio=[0.0,0.0]",), (0.0, 0.0), 0.75),
    "input mask only": (("network.attention_ratio=0",), (0.8, 0.9), 0.0),
    "both": ((), (0.8, 0.9), 0.75),
}
TABLE_2 = (0.65, 0.75, 0.85)
TABLE_3A = ((0.75, 0.75), (0.85, 0.85), (0.95, 0.95), (0.7, 0.8), (0.75, 0.85), (0.75, 0.9), (0.75, 0.95), (0.8, 0.9))

CASES: dict[str, tuple[tuple[str, ...], tuple[float, float], float]] = {
    **TABLE_1,
    **{f"table 2, {ratio}": ((f"network.attention_ratio={ratio}",), (0.8, 0.9), ratio) for ratio in TABLE_2},
    **{
        f"table 3a, {low}-{high}": ((f"method.input_ratio=[{low},{high}]",), (low, high), 0.75)
        for low, high in TABLE_3A
    },
}
"""Name -> (the line, range of the input mask, ratio of the attention masks)."""


class Seen:
    """What the network and its blocks are given."""

    def __init__(self, network: nn.Module) -> None:
        self.images: list[Tensor] = []
        self.input_masks: list[Tensor | None] = []
        self.attention_masks: list[Tensor | None] = []
        network.register_forward_pre_hook(self._network, with_kwargs=True)
        for module in network.modules():
            if isinstance(module, SwinBlock):
                module.register_forward_pre_hook(self._block, with_kwargs=True)

    def _network(self, _module: nn.Module, arguments: tuple[Tensor, ...], named: dict[str, Any]) -> None:
        self.images.append(arguments[0])
        self.input_masks.append(named.get("input_mask"))

    def _block(self, _module: nn.Module, _arguments: tuple[Tensor, ...], named: dict[str, Any]) -> None:
        self.attention_masks.append(named["hidden"])


def config_of(*line: str, preset: str = "masked_swin") -> TrainConfig:
    assert len(line) <= 1, "an ablation is one line"
    return load_config(preset=preset, overrides=line)


def step(config: TrainConfig) -> tuple[Seen, TrainState, StepResult]:
    """One training step of a tiny network with the masks of `config`."""
    from pipeline.config import apply_overrides, check, dump

    tiny = check(apply_overrides(dump(config), [*TINY, f"training.batch={BATCH}"], None))
    assert tiny.data.crop == CROP
    state = new_state(tiny)
    seen = Seen(state.network)
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(BATCH, 3, CROP, CROP, generator=generator)
    batch = {"noisy": clean, "clean": clean, "seeds": torch.arange(BATCH)}
    result = train_step(state, batch, tiny.method, step_settings(tiny), 0.0)
    return seen, state, result


def assert_hidden(share: float, count: int, low: float, high: float) -> None:
    # sd of a share of n independent draws is at most sqrt(p (1 - p) / n); 5 sd: false alarm under 1e-6.
    def slack(p: float) -> float:
        return 5 * math.sqrt(p * (1 - p) / count)

    assert low - slack(low) <= share <= high + slack(high)


@pytest.mark.parametrize("name", CASES)
def test_an_ablation_of_the_paper_is_one_line(name: str) -> None:
    line, input_ratio, attention_ratio = CASES[name]
    config, paper = config_of(*line), config_of()
    assert isinstance(config.network, MaskedSwinSpec)
    assert isinstance(config.method, MaskedTraining)
    assert (config.method.input_ratio, config.network.attention_ratio) == (input_ratio, attention_ratio)
    # The line changes nothing else.
    changed = {"method", "network"} if not line else {line[0].split(".")[0]}
    for section in set(type(config).model_fields) - changed:
        assert getattr(config, section) == getattr(paper, section)


@pytest.mark.parametrize("name", CASES)
def test_a_step_hides_the_share_that_the_line_names(name: str) -> None:
    line, (low, high), attention_ratio = CASES[name]
    seen, _, result = step(config_of(*line))
    assert math.isfinite(result.loss)
    (image,) = seen.images
    hidden = (image == MaskedTraining().fill).all(dim=1)
    for sample in hidden:
        assert_hidden(float(sample.float().mean()), sample.numel(), low, high)
    assert len(seen.attention_masks) == 2
    for mask in seen.attention_masks:
        if attention_ratio == 0:
            assert mask is None or not mask.any()
        else:
            assert mask is not None
            assert_hidden(float(mask.float().mean()), mask.numel(), attention_ratio, attention_ratio)


def test_the_baseline_is_a_preset_that_hides_nothing_and_differs_in_nothing_else() -> None:
    config, paper = config_of(preset="swin_baseline"), config_of()
    both_off = load_config(
        preset="masked_swin", overrides=["method.input_ratio=[0.0,0.0]", "network.attention_ratio=0"]
    )
    assert config == both_off
    assert config.training == paper.training
    seen, _, _ = step(config)
    assert bool((seen.images[0] >= 0).all())
    assert all(mask is None or not mask.any() for mask in seen.attention_masks)


def test_the_sample_s_ratio_is_drawn_from_the_whole_range() -> None:
    from models.masks import input_mask, uniform_ratio

    samples, pixels = 300, 32 * 32
    seeds = torch.arange(samples)
    config = config_of("method.input_ratio=[0.75,0.95]")
    assert isinstance(config.method, MaskedTraining)
    low, high = config.method.input_ratio
    ratio = uniform_ratio(seeds, low, high)
    share = input_mask(seeds, ratio, 32, 32).float().mean((1, 2, 3))
    # Uniform over a width of 0.2: sd 0.2 / sqrt(12); and the binomial noise of a share, at most 0.25 / pixels.
    assert abs(float(share.mean()) - 0.85) < 5 * 0.2 / math.sqrt(12 * samples) + 5 * 0.5 / math.sqrt(pixels * samples)
    # The chance that none of 300 falls into the outermost tenth of the range is 0.9^300 < 1e-13.
    assert float(ratio.min()) < low + 0.02
    assert float(ratio.max()) > high - 0.02


def token_config(*more: str) -> TrainConfig:
    return load_config(preset="masked_swin", overrides=["method.site=token", "network.mask_token=learnable", *more])


def test_the_paper_s_site_hides_tokens_and_learns_what_stands_for_them() -> None:
    seen, state, result = step(token_config())
    assert math.isfinite(result.loss)
    (image,), (mask,) = seen.images, seen.input_masks
    assert bool((image >= 0).all()), "at the token site the pixels themselves are whole"
    assert mask is not None
    assert mask.dtype == torch.bool
    for sample in mask:
        assert_hidden(float(sample.float().mean()), sample.numel(), 0.8, 0.9)
    gradient = dict(state.network.named_parameters())["mask_token"].grad
    assert gradient is not None
    assert float(gradient.abs().sum()) > 0


def test_a_zero_token_adds_no_parameter() -> None:
    zero = load_config(preset="masked_swin", overrides=["method.site=token", "network.mask_token=zero", *TINY])
    seen, state, _ = step(zero)
    assert seen.input_masks[0] is not None
    assert "mask_token" not in dict(state.network.named_parameters())


def test_drop_path_and_averaging_switch_off_in_one_line_each() -> None:
    _, averaged, _ = step(config_of())
    _, plain, _ = step(config_of("optimizer.ema_decay=0"))
    for state, equal in ((plain, True), (averaged, False)):
        pairs = zip(state.network.parameters(), state.average.parameters(), strict=True)
        assert all(torch.equal(network, average) for network, average in pairs) == equal
    config = config_of("network.drop_path=0")
    assert isinstance(config.network, MaskedSwinSpec)
    assert config.network.drop_path == 0


@pytest.mark.parametrize(
    ("line", "section", "value"),
    [
        ("optimizer.betas=[0.9,0.999]", "optimizer", (0.9, 0.999)),
        ("optimizer.schedule=constant", "optimizer", "constant"),
        ("method.fill=0", "method", 0),
        ("inference.attention=off", "inference", "off"),
        ("network.skips=true", "network", True),
        ("network.embed_kernel=3", "network", 3),
        ("network.attention_ratio=[0.65,0.85]", "network", (0.65, 0.85)),
    ],
)
def test_each_point_where_paper_and_code_differ_has_an_option(line: str, section: str, value: object) -> None:
    key = line.split("=")[0].split(".")[1]
    assert getattr(getattr(config_of(line), section), key) == value
