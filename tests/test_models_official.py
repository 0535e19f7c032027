"""Official key layouts: the spec is read from names and shapes alone, and the network computes what the papers say."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from models import MaskedSwinSpec, official_state_dict, to_official_state_dict
from models.build import build, build_empty
from models.official import BUFFERS
from models.swinir_layout import spec_from_shapes
from models.windows import relative_position_index
from tests.swinir_numpy import random_weights, swinir

ORACLES = Path(__file__).parent / "oracles"
SMALL = {"channels": 3, "dim": 12, "depths": (2, 1), "heads": 2, "window": 4, "hidden": 24}


def shapes_of(spec: MaskedSwinSpec) -> dict[str, tuple[int, ...]]:
    state = to_official_state_dict(build_empty(spec).state_dict())
    return {name: tuple(value.shape) for name, value in state.items()}


@pytest.mark.parametrize(
    "spec",
    [
        MaskedSwinSpec(),
        MaskedSwinSpec(group_conv="1conv", attention_ratio=0.6),
        # SwinIR's denoisers, in colour and in grey, and its lightweight shape.
        MaskedSwinSpec(
            dim=180, depths=(6,) * 6, heads=(6,) * 6, embed_kernel=3, skips=True, group_conv="1conv", attention_ratio=0
        ),
        MaskedSwinSpec(
            channels=1,
            dim=180,
            depths=(6,) * 6,
            heads=(6,) * 6,
            embed_kernel=3,
            skips=True,
            group_conv="1conv",
            attention_ratio=0,
        ),
        MaskedSwinSpec(embed_kernel=3, skips=True, attention_ratio=0),
        MaskedSwinSpec(dim=24, depths=(2, 4, 1), heads=(2, 4, 8), window=16, mlp_ratio=4.0),
    ],
)
def test_the_spec_is_read_from_names_and_shapes(spec: MaskedSwinSpec) -> None:
    # A spec of SwinIR hides no tokens, whatever ratio is said.
    assert spec_from_shapes(shapes_of(spec), attention_ratio=spec.attention_ratio or 0.75) == spec


@pytest.mark.parametrize("hidden", range(60, 241, 7))
def test_any_number_of_hidden_channels_is_a_ratio(hidden: int) -> None:
    shapes = shapes_of(MaskedSwinSpec(dim=60, depths=(1,), heads=(6,)))
    block = "layers.0.residual_group.blocks.0.mlp"
    shapes |= {f"{block}.fc1.weight": (hidden, 60), f"{block}.fc1.bias": (hidden,), f"{block}.fc2.weight": (60, hidden)}
    spec = spec_from_shapes(shapes)
    assert int(spec.dim * spec.mlp_ratio) == hidden


def test_a_layout_can_be_told_against_the_embedding() -> None:
    plain = MaskedSwinSpec(dim=12, depths=(1,), heads=(2,))
    told = spec_from_shapes(shapes_of(plain), layout="swinir")
    assert (told.skips, told.embed_kernel, told.attention_ratio) == (True, 1, 0.0)
    wide = MaskedSwinSpec(dim=12, depths=(1,), heads=(2,), embed_kernel=3)
    told = spec_from_shapes(shapes_of(wide), layout="masked-training", attention_ratio=0.5)
    assert (told.skips, told.embed_kernel, told.attention_ratio) == (False, 3, 0.5)


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        ("upsample.0.weight", (240, 60, 3, 3), "upsample.0.weight belongs to a SwinIR that enlarges"),
        ("conv_before_upsample.0.weight", (64, 60, 3, 3), "belongs to a SwinIR that enlarges"),
        ("conv_hr.weight", (64, 64, 3, 3), "belongs to a SwinIR that enlarges"),
        ("absolute_pos_embed", (1, 4096, 60), r"1 unknown \(first: \['absolute_pos_embed'\]\)"),
        ("conv_first.weight", None, "not a SwinIR-like state dict: no 'conv_first.weight'"),
        ("conv_first.weight", (60, 3, 5, 5), "embed_kernel must be one of"),
        ("conv_first.weight", (60, 3), r"conv_first.weight must have 4 dimensions, got shape \(60, 3\)"),
        ("conv_first.weight", (60, 0, 1, 1), "conv_first.weight must have 4 dimensions"),
        ("conv_first.weight", (1 << 40, 3, 1, 1), "dim must be 4 to 1024, got 1099511627776"),
        ("conv_last.bias", (4,), r"conv_last.bias must have shape \(3,\), got \(4,\)"),
        ("norm.bias", None, r"1 missing \(first: \['norm.bias'\]\)"),
        (
            "layers.0.residual_group.blocks.0.attn.relative_position_bias_table",
            (169, 6),
            "window must be even, got 7",
        ),
        ("layers.0.residual_group.blocks.0.attn.relative_position_bias_table", (220, 6), "rows, got 220"),
        ("layers.9.residual_group.blocks.0.norm1.weight", (60,), r"without gaps, got \[0, 9\]"),
    ],
)
def test_what_is_not_our_network_is_refused_by_name(name: str, shape: tuple[int, ...] | None, reason: str) -> None:
    shapes = shapes_of(MaskedSwinSpec(depths=(2,), heads=(6,)))
    if shape is None:
        del shapes[name]
    else:
        shapes[name] = shape
    with pytest.raises(ValueError, match=reason) as caught:
        spec_from_shapes(shapes)
    assert "\n" not in str(caught.value)


def test_a_small_file_cannot_ask_for_tables_without_end() -> None:
    spec = MaskedSwinSpec(dim=4, depths=(1,) * 4, heads=(1,) * 4, window=64)
    assert sum(math.prod(shape) for shape in shapes_of(spec).values()) < 1e5
    with pytest.raises(ValueError, match=r"window 64 needs tables of \d{10} bytes, more than 1073741824"):
        spec_from_shapes(shapes_of(spec))


@pytest.mark.parametrize("conv", ["1conv", "3conv"])
@pytest.mark.parametrize(("kernel", "skips"), [(3, True), (1, False)])
@pytest.mark.parametrize("channels", [3, 1])
def test_the_network_equals_a_plain_restatement_of_the_papers(
    conv: str, kernel: int, skips: bool, channels: int
) -> None:
    weights = random_weights(**(SMALL | {"channels": channels, "kernel": kernel, "conv": conv}))
    spec = spec_from_shapes({name: value.shape for name, value in weights.items()})
    assert (spec.skips, spec.group_conv, spec.channels) == (skips, conv, channels)
    network = build(spec).eval()
    network.load_state_dict(official_state_dict({name: torch.from_numpy(value) for name, value in weights.items()}))
    image = np.random.default_rng(1).random((channels, 10, 13))
    with torch.no_grad():
        output = network(torch.from_numpy(image).float()[None])[0].numpy()
    expected = swinir(weights, image, window=4, skips=skips)
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-5)


def test_a_bias_table_in_another_order_is_refused() -> None:
    weights = random_weights(**(SMALL | {"kernel": 1, "conv": "3conv"}))
    state = {name: torch.from_numpy(value) for name, value in weights.items()}
    name = "layers.0.residual_group.blocks.0.attn.relative_position_index"
    assert official_state_dict(state | {name: relative_position_index(4)}).keys() == official_state_dict(state).keys()
    for wrong in (relative_position_index(4).t(), torch.zeros(16, 16), torch.zeros(0), torch.zeros(7)):
        with pytest.raises(ValueError, match=f"{name}: its bias table has rows in another order"):
            official_state_dict(state | {name: wrong})


def test_the_official_state_dict_of_the_oracle_is_recognised() -> None:
    with np.load(ORACLES / "masked_swin_nomask.npz") as file:
        names = [key.removeprefix("sd/") for key in file.files if key.startswith("sd/")]
        shapes = {name: file[f"sd/{name}"].shape for name in names if name.rsplit(".", 1)[-1] not in BUFFERS}
    assert len(names) == 84
    assert spec_from_shapes(shapes) == MaskedSwinSpec(dim=12, depths=(2, 2), heads=(2, 2), window=4)
