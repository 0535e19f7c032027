"""Where the masks of a masked Swin are, what stands for a hidden token, and how many are hidden."""

import dataclasses

import pytest
import torch
from torch import Tensor

from models import MaskedSwin, MaskedSwinSpec, MaskedTraining, input_mask, spec_from_dict, spec_to_dict
from models.build import build
from models.masks import attention_mask, uniform_ratio
from models.swin import SwinBlock

SMALL = MaskedSwinSpec(dim=12, depths=(2, 2), heads=(2, 2), window=4, drop_path=0.0)
SEEDS = torch.tensor([3, 4])


def image(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def swin(**options: object) -> MaskedSwin:
    network = build(dataclasses.replace(SMALL, **options))
    assert isinstance(network, MaskedSwin)
    return network


def hidden_in_blocks(network: MaskedSwin, seeds: Tensor, size: int = 64) -> list[Tensor]:
    """Attention mask of every block, (B, H / window, W / window, T)."""
    seen: list[Tensor] = []
    handles = [
        block.register_forward_pre_hook(lambda *call: seen.append(call[2]["hidden"]), with_kwargs=True)
        for block in network.modules()
        if isinstance(block, SwinBlock)
    ]
    with torch.no_grad():
        network.eval()(image(len(seeds), 3, size, size), seeds=seeds)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("size", [16, 18])
def test_a_learnable_mask_token_starts_as_the_token_of_a_hidden_pixel(size: int) -> None:
    pixel, token = swin(), swin(mask_token="learnable")
    token.load_state_dict(pixel.state_dict(), strict=False)
    noisy, clean = image(2, 3, size, size), image(2, 3, size, size).flip(0)
    by_pixel = MaskedTraining().loss(pixel, noisy, clean, SEEDS)
    by_token = MaskedTraining(site="token").loss(token, noisy, clean, SEEDS)
    torch.testing.assert_close(by_token, by_pixel, rtol=0, atol=1e-6)
    by_token.backward()
    assert token.mask_token.grad.abs().max() > 0


def test_a_zero_mask_token_is_the_zero_vector() -> None:
    learnable, zero = swin(mask_token="learnable").eval(), swin(mask_token="zero").eval()
    state = learnable.state_dict()
    state["mask_token"] = torch.zeros_like(state["mask_token"])
    learnable.load_state_dict(state)
    del state["mask_token"]
    zero.load_state_dict(state)
    mask = input_mask(SEEDS, 0.8, 16, 16)
    with torch.no_grad():
        outputs = [network(image(2, 3, 16, 16), seeds=SEEDS, input_mask=mask) for network in (learnable, zero)]
    assert torch.equal(*outputs)


@pytest.mark.parametrize("token", ["zero", "learnable"])
def test_a_pixel_hidden_at_the_token_site_does_not_leak(token: str) -> None:
    network = swin(mask_token=token).eval()
    mask = torch.zeros(1, 1, 18, 18, dtype=torch.bool)
    mask[..., 5, 7] = mask[..., 16, 16] = True  # the second one is mirrored into the padding
    one = image(1, 3, 18, 18)
    other = one.clone()
    other[..., 5, 7] += 0.5
    other[..., 16, 16] -= 0.5
    with torch.no_grad():
        outputs = [network(value, seeds=SEEDS[:1], input_mask=mask) for value in (one, other)]
        shown = [network(value, seeds=SEEDS[:1]) for value in (one, other)]
    assert torch.equal(*outputs)
    assert not torch.equal(*shown)


def test_a_token_mask_without_a_token_is_refused() -> None:
    with pytest.raises(ValueError, match='needs mask_token "zero" or "learnable", got "none"'):
        MaskedTraining(site="token").loss(swin(), image(2, 3, 16, 16), image(2, 3, 16, 16), SEEDS)


def test_attention_ratios_are_one_for_each_block() -> None:
    ratios = (0.2, 0.5, 0.75, 0.0)
    seen = hidden_in_blocks(swin(attention_ratio=0.9, attention_ratios=ratios), SEEDS)
    assert seen[3] is None
    for layer, ratio in enumerate(ratios[:3]):
        # 5 sd of a binomial share of 2 * 64 * 64 tokens: false alarm below 1e-6
        tolerance = 5 * (ratio * (1 - ratio) / seen[layer].numel()) ** 0.5
        assert abs(seen[layer].float().mean().item() - ratio) < tolerance


def test_a_range_of_attention_ratios_is_drawn_for_each_sample_and_block() -> None:
    seeds = torch.arange(8) + 1
    seen = hidden_in_blocks(swin(attention_ratio=(0.3, 0.9)), seeds)
    shares = torch.stack([mask.float().mean((1, 2, 3)) for mask in seen])  # (blocks, samples)
    # 32 uniform draws: all in the range but for the 5 sd of their 4096 tokens, and spread over it.
    assert shares.min() > 0.3 - 5 * 0.5 / 64
    assert shares.max() < 0.9 + 5 * 0.5 / 64
    assert (shares[:, None] - shares[None]).abs().max() > 0.2  # between blocks
    assert shares.std(1).min() > 0.05  # between samples
    alone = hidden_in_blocks(swin(attention_ratio=(0.3, 0.9)), seeds[5:6])
    assert all(torch.equal(mask[5:6], one) for mask, one in zip(seen, alone, strict=True))


def test_the_mask_of_a_ratio_range_is_that_of_its_draw() -> None:
    from models.masks import fold_seeds

    seen = hidden_in_blocks(swin(attention_ratio=(0.3, 0.9)), SEEDS, 16)
    ratio = uniform_ratio(fold_seeds(SEEDS, 2), 0.3, 0.9)
    expected = attention_mask(SEEDS, ratio, 2, 16, 16).view(2, 4, 4, 4, 4).transpose(2, 3).reshape(2, 4, 4, 16)
    assert torch.equal(seen[2], expected)


@pytest.mark.parametrize("ratio", [0.6, (0.5, 0.8)])
def test_the_options_survive_json(ratio: float | tuple[float, float]) -> None:
    spec = dataclasses.replace(
        SMALL,
        attention_ratio=ratio,
        attention_ratios=(0.1, 0.2, 0.3, 0.4),
        mask_token="zero",
        skips=True,
        embed_kernel=3,
    )
    assert spec_from_dict({"kind": "masked_swin", **spec_to_dict(spec)}) == spec


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attention_ratio", (0.8, 0.7)),
        ("attention_ratio", 1.1),
        ("attention_ratios", (0.5,)),
        ("attention_ratios", (0.5, 0.5, 0.5, 2.0)),
        ("mask_token", "random"),
        ("embed_kernel", 5),
        ("group_conv", "2conv"),
    ],
)
def test_an_impossible_option_names_its_field(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} must be"):
        dataclasses.replace(SMALL, **{field: value})


def test_an_unknown_site_is_refused() -> None:
    with pytest.raises(ValueError, match="site must be 'pixel' or 'token'"):
        MaskedTraining(site="patch")
