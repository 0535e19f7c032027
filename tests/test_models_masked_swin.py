from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models import MaskedSwin, MaskedSwinSpec, l1, official_state_dict, to_official_state_dict
from models.build import build
from models.masks import attention_mask, drop_path_keep
from models.swin import SwinBlock
from models.token_map import TokenMap
from models.windows import relative_position_index, shift_masks, window_merge, window_partition

ORACLES = Path(__file__).parent / "oracles"
SMALL = MaskedSwinSpec(dim=12, depths=(2, 2), heads=(2, 2), window=4)


def arrays(name: str) -> dict[str, Tensor]:
    with np.load(ORACLES / f"masked_swin_{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def network_of(oracle: dict[str, Tensor]) -> MaskedSwin:
    network = MaskedSwin(SMALL)
    official = {key.removeprefix("sd/"): value for key, value in oracle.items() if key.startswith("sd/")}
    network.load_state_dict(official_state_dict(official), strict=True)
    return network.eval()


def masks_of(oracle: dict[str, Tensor], case: str) -> list[Tensor] | None:
    # The arrays hold 1 = keep; ours are True = hidden.
    masks = [oracle[f"am_{case}_{block}"] == 0 for block in range(4) if f"am_{case}_{block}" in oracle]
    return masks or None


def use(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Force one way of computing masked attention: 0 % hidden is enough for the visible one, or 200 % is not."""
    monkeypatch.setattr("models.swin._VISIBLE_PAYS", {"visible": 0.0, "plain": 2.0}[path])


@pytest.mark.parametrize("name", ["nomask", "attnmask"])
@pytest.mark.parametrize("case", ["a", "b", "c"])
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("path", ["visible", "plain"])
def test_output_equals_the_independent_implementation(
    name: str, case: str, grad: bool, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = arrays(name)
    use(path, monkeypatch)
    with torch.set_grad_enabled(grad):
        output = network_of(oracle)(oracle[f"x_{case}"], attention_masks=masks_of(oracle, case))
    torch.testing.assert_close(output, oracle[f"y_{case}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "path"), [("nomask", "plain"), ("attnmask", "plain"), ("attnmask", "visible")])
def test_loss_and_every_gradient_equal_the_independent_implementation(
    name: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = arrays(name)
    use(path, monkeypatch)
    network = network_of(oracle)
    image = oracle["x_a"].clone().requires_grad_()
    loss = l1(network(image, attention_masks=masks_of(oracle, "a")), oracle["target_a"])
    loss.backward()
    torch.testing.assert_close(loss, oracle["loss_a"].reshape(()), rtol=0, atol=1e-5)
    torch.testing.assert_close(image.grad, oracle["gradx_a"], rtol=0, atol=1e-5)
    gradients = {key.removeprefix("grad_a/"): value for key, value in oracle.items() if key.startswith("grad_a/")}
    ours = to_official_state_dict({key: value.grad for key, value in network.named_parameters()})
    assert ours.keys() == gradients.keys()
    for key, expected in gradients.items():
        torch.testing.assert_close(ours[key], expected, rtol=0, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize(("name", "path"), [("nomask", "plain"), ("attnmask", "plain"), ("attnmask", "visible")])
def test_intermediate_features_equal_the_independent_implementation(
    name: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = arrays(name)
    use(path, monkeypatch)
    network = network_of(oracle)
    seen: dict[str, Tensor] = {}
    attended: dict[str, list[Tensor]] = {}

    def keep(key: str):
        def hook(module: object, arguments: object, output: Tensor) -> None:
            seen[key] = output.map() if isinstance(output, TokenMap) else output

        return hook

    def keep_attention(key: str):
        def hook(module: object, arguments: object, output: Tensor) -> None:
            attended.setdefault(key, []).append(output)

        return hook

    network.conv_first.register_forward_hook(keep("conv_first"))
    network.embed_norm.register_forward_hook(keep("patch_embed"))
    network.norm.register_forward_hook(keep("norm"))
    network.norm.register_forward_pre_hook(lambda _, arguments: seen.update(rstb1=arguments[0]))
    network.groups[1].blocks[0].register_forward_pre_hook(lambda _, arguments: seen.update(rstb0=arguments[0].map()))
    network.conv_body.register_forward_hook(keep("conv_after_body"))
    network.conv_last.register_forward_hook(keep("conv_last"))
    for i, group in enumerate(network.groups):
        for j, block in enumerate(group.blocks):
            block.register_forward_hook(keep(f"rstb{i}_block{j}"))
            block.attention.register_forward_hook(keep_attention(f"rstb{i}_block{j}_attn"))
    network(oracle["x_a"], attention_masks=masks_of(oracle, "a"))

    for key, groups in attended.items():
        if len(groups) == 1:  # an unshifted block runs all windows at once
            seen[key] = groups[0]
        else:  # shifted: inside, last column, last row, corner of 2 images of 4x4 windows
            inside, column, row, corner = (
                part.view(2, *size, 16, 12) for part, size in zip(groups, [(3, 3), (3, 1), (1, 3), (1, 1)], strict=True)
            )
            top, bottom = torch.cat([inside, column], 2), torch.cat([row, corner], 2)
            seen[key] = torch.cat([top, bottom], 1).reshape(32, 16, 12)
    features = {key.removeprefix("feat_a/"): value for key, value in oracle.items() if key.startswith("feat_a/")}
    if path == "visible":  # which has no attention of its own to look into
        features = {key: value for key, value in features.items() if not key.endswith("_attn")}
    assert seen.keys() == features.keys()
    for key, expected in features.items():
        torch.testing.assert_close(
            seen[key].reshape(expected.shape),
            expected,
            rtol=0,
            atol=1e-5,
            msg=lambda text, key=key: f"{key}: {text}",
        )


def test_the_released_configuration_has_824118_parameters() -> None:
    assert sum(parameter.numel() for parameter in MaskedSwin(MaskedSwinSpec()).parameters()) == 824_118


def test_official_names_survive_the_way_there_and_back() -> None:
    oracle = arrays("nomask")
    official = {key.removeprefix("sd/"): value for key, value in oracle.items() if key.startswith("sd/")}
    back = to_official_state_dict(official_state_dict({f"module.{key}": value for key, value in official.items()}))
    parameters = {key for key in official if not key.endswith(("relative_position_index", "attn_mask"))}
    assert back.keys() == parameters
    assert all(torch.equal(back[key], official[key]) for key in parameters)


def test_a_foreign_state_dict_is_refused() -> None:
    with pytest.raises(ValueError, match="not a SwinIR-like state dict"):
        official_state_dict({"weight": torch.zeros(1)})


def test_position_index_and_shift_mask_equal_the_buffers_of_the_independent_implementation() -> None:
    oracle = arrays("nomask")
    index = oracle["sd/layers.0.residual_group.blocks.0.attn.relative_position_index"]
    assert torch.equal(relative_position_index(4), index)
    kinds = torch.zeros(4, 4, dtype=torch.int64)
    kinds[:, -1] += 1
    kinds[-1] += 2
    masks = shift_masks(4, 2)[kinds.reshape(-1)]
    assert torch.equal(masks, oracle["sd/layers.0.residual_group.blocks.1.attn_mask"])


def test_windows_are_cut_row_by_row_and_merge_back() -> None:
    tokens = torch.arange(2 * 4 * 6 * 3).view(2, 4, 6, 3)
    windows = window_partition(tokens, 2)
    assert torch.equal(windows[1, 1, 2, 3], tokens[1, 3, 5])
    assert torch.equal(windows[0, 0, 1, 2], tokens[0, 1, 2])
    assert torch.equal(window_merge(windows, 2), tokens)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (5, 3), (8, 8), (13, 21)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_image_size_keeps_its_size(shape: tuple[int, int], channels: int) -> None:
    network = build(MaskedSwinSpec(channels=channels, dim=12, depths=(2,), heads=(2,), window=8)).eval()
    image = torch.rand(2, channels, *shape, generator=torch.Generator().manual_seed(0))
    output = network(image, seeds=torch.tensor([1, 2]))
    assert output.shape == image.shape
    assert torch.isfinite(output).all()


def test_a_sample_does_not_depend_on_its_batch() -> None:
    image = torch.rand(4, 3, 16, 20, generator=torch.Generator().manual_seed(0))
    seeds = torch.tensor([5, 6, 7, 8])
    network = build(MaskedSwinSpec(dim=12, depths=(2, 2), heads=(2, 2), window=4, drop_path=0.5))
    for mode in (True, False):
        network.train(mode)
        whole = network(image, seeds=seeds)
        alone = network(image[2:3], seeds=seeds[2:3])
        torch.testing.assert_close(whole[2:3], alone, rtol=0, atol=1e-6)


def test_seeds_decide_the_output_in_evaluation_and_without_seeds_nothing_is_hidden() -> None:
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    network = build(SMALL).eval()
    with torch.no_grad():
        one, again = network(image, seeds=torch.tensor([1])), network(image, seeds=torch.tensor([1]))
        other = network(image, seeds=torch.tensor([2]))
        none = network(image)
        open_masks = network(image, attention_masks=[torch.zeros(16, 16, dtype=torch.bool)] * 4)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(none, open_masks)


def test_seeded_masks_are_those_of_the_unrolled_map() -> None:
    # The explicit form takes masks on the rolled map; drawing, rolling and cutting by hand gives the same.
    network = build(SMALL).eval()
    image = torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    seeds = torch.tensor([3, 4])
    masks = []
    for layer in range(4):
        mask = attention_mask(seeds, 0.75, layer, 12, 16, origin=(8, 4))
        if layer % 2:
            mask = torch.roll(mask, (-2, -2), (1, 2))
        masks.append(mask.reshape(2, 3, 4, 4, 4).permute(0, 1, 3, 2, 4).reshape(-1, 16))
    with torch.no_grad():
        drawn = network(image, seeds=seeds, origin=(8, 4))
        given = network(image, attention_masks=masks)
    assert torch.equal(drawn, given)


def test_hidden_tokens_enter_attention_as_the_bias_of_the_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    # Every token of a window hidden: all values are the bias, so attention returns proj(bias) for all tokens.
    use("plain", monkeypatch)
    network = build(SMALL)
    block = network.groups[0].blocks[0]
    assert isinstance(block, SwinBlock)
    torch.nn.init.normal_(block.attention.qkv.bias, generator=torch.Generator().manual_seed(0))
    results = []
    block.attention.register_forward_hook(lambda *call: results.append(call[2]))
    block(TokenMap.of(torch.rand(1, 4, 4, 12)), hidden=torch.ones(1, 1, 1, 16, dtype=torch.bool))
    expected = block.attention.proj(block.attention.qkv.bias[24:])
    torch.testing.assert_close(results[0], expected.expand(1, 16, 12), rtol=0, atol=1e-5)


def test_training_without_seeds_is_refused() -> None:
    image = torch.rand(1, 3, 8, 8)
    for spec in (MaskedSwinSpec(attention_ratio=0), MaskedSwinSpec(drop_path=0)):
        with pytest.raises(ValueError, match="seeds are required in training"):
            build(spec)(image)
    small = MaskedSwinSpec(dim=12, depths=(2,), heads=(2,), attention_ratio=0, drop_path=0)
    assert build(small)(image).shape == image.shape


def test_stochastic_depth_drops_a_branch_at_its_rate_and_keeps_the_mean() -> None:
    count, rate = 40_000, 0.3
    keep = drop_path_keep(torch.arange(count), 5, rate)
    # 5 sd of a binomial share: false alarm below 1e-6 for each of the two branches.
    tolerance = 5 * (rate * (1 - rate) / count) ** 0.5
    for branch in (0, 1):
        assert abs((keep[:, branch] == 0).float().mean().item() - rate) < tolerance
    assert set(keep.unique().tolist()) == {0.0, torch.tensor(1.0).div(1 - rate).item()}
    both = ((keep[:, 0] == 0) & (keep[:, 1] == 0)).float().mean().item()
    assert abs(both - rate**2) < 5 * (rate**2 * (1 - rate**2) / count) ** 0.5


def test_stochastic_depth_grows_linearly_over_the_blocks_and_is_off_in_evaluation() -> None:
    network = build(MaskedSwinSpec(dim=12, depths=(2, 1), heads=(2, 2), window=4, drop_path=0.6))
    seen: list[Tensor | None] = []
    for group in network.groups:
        for block in group.blocks:
            block.register_forward_pre_hook(lambda *call: seen.append(call[2]["keep"]), with_kwargs=True)
    seeds = torch.arange(5)
    network(torch.rand(5, 3, 8, 8), seeds=seeds)
    assert seen[0] is None
    assert torch.equal(seen[1], drop_path_keep(seeds, 1, 0.3))
    assert torch.equal(seen[2], drop_path_keep(seeds, 2, 0.6))
    seen.clear()
    network.eval()(torch.rand(5, 3, 8, 8), seeds=seeds)
    assert seen == [None, None, None]


def test_a_dropped_branch_leaves_the_tokens_as_they_are() -> None:
    network = build(SMALL)
    tokens = torch.rand(2, 8, 8, 12, generator=torch.Generator().manual_seed(0))
    keep = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    for block in network.groups[0].blocks:
        output = block(TokenMap.of(tokens), keep=keep).map()
        assert torch.equal(output[0], tokens[0])
        torch.testing.assert_close(output[1], block(TokenMap.of(tokens)).map()[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dim", 62),
        ("heads", (6, 6, 6)),
        ("heads", (7, 6, 6, 6)),
        ("window", 7),
        ("attention_ratio", float("nan")),
        ("drop_path", 1.0),
        ("depths", ()),
    ],
)
def test_an_impossible_spec_names_its_field(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field.replace("depths", "(depths|heads)")):
        MaskedSwinSpec(**{field: value})


def test_chunks_of_windows_do_not_change_the_output() -> None:
    network = build(SMALL).eval()
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    seeds = torch.tensor([9])
    whole = network(image, seeds=seeds).detach()
    with torch.no_grad():
        chunked = network(image, seeds=seeds)
    torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-6)
