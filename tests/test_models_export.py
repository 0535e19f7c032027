"""The form of a network that is exported computes what the network computes, and takes any whole multiple."""

import pytest
import torch
from torch import Tensor

from models import InferenceSpec, MaskedSwinSpec, NafnetSpec, Network, NetworkSpec, RestormerSpec, UNetSpec, denoise
from models.build import build
from models.export import Exportable, draw_seed, export_program, size_rule

SMALL = {"dim": 12, "depths": (2, 1), "heads": (2, 2), "window": 4}


def trained(spec: NetworkSpec) -> Network:
    """A network in which nothing is zero that training would move."""
    network = build(spec).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter += torch.randn(parameter.shape, generator=generator) * 0.05
    return network


def picture(channels: int, height: int, width: int) -> Tensor:
    return torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(height * width))


@pytest.mark.parametrize(
    "spec",
    [
        MaskedSwinSpec(**SMALL),
        MaskedSwinSpec(**SMALL, channels=1, attention_ratio=(0.3, 0.9)),
        MaskedSwinSpec(**SMALL, attention_ratios=(0.0, 0.9, 0.5)),
        MaskedSwinSpec(**SMALL, embed_kernel=3, skips=True, group_conv="1conv", attention_ratio=0.5),
        MaskedSwinSpec(**SMALL, mask_token="learnable"),
    ],
)
@pytest.mark.parametrize("attention", ["seeded", "off"])
@pytest.mark.parametrize("size", [(8, 8), (8, 20), (28, 12)])
def test_the_flat_swin_is_the_swin(spec: MaskedSwinSpec, attention: str, size: tuple[int, int]) -> None:
    network = trained(spec)
    image = picture(spec.channels, *size)
    flat = Exportable(network, 7 if attention == "seeded" else None)
    with torch.no_grad():
        output = flat(image)
        # What `denoise` draws for the first of its draws is what the graph draws.
        expected = denoise(network, image, InferenceSpec(attention=attention, seed=7))
        other = denoise(network, image, InferenceSpec(attention=attention, seed=8))
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)
    assert torch.equal(expected, other) == (attention == "off")


def test_a_seed_of_the_card_is_the_seed_of_the_first_draw() -> None:
    assert draw_seed(3) == draw_seed(3) != draw_seed(4)
    assert 0 <= draw_seed(2**63 - 1) < 2**63


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        (MaskedSwinSpec(**SMALL), (4, 8)),
        (UNetSpec(depth=2), (4, 8)),
        (NafnetSpec(window=0, encoder=(1,), decoder=(1,)), (2, 4)),
        # One window of channel attention must not hold the map, neither at full resolution nor at the coarsest.
        (NafnetSpec(window=64), (8, 72)),
        (NafnetSpec(window=8, encoder=(1, 1), decoder=(1, 1)), (4, 36)),
    ],
)
def test_the_size_rule(spec: NetworkSpec, rule: tuple[int, int]) -> None:
    assert size_rule(build(spec)) == rule


def test_an_impossible_size_is_refused() -> None:
    network = trained(UNetSpec(width=4, depth=2))
    for wrong in ({"height": 10, "width": 8}, {"height": 8, "width": 4}):
        with pytest.raises(ValueError, match=r"(height|width) must be a multiple of 4 and at least 8, got (10|4)"):
            export_program(network, **wrong)
    with pytest.raises(ValueError, match=r"call network.eval\(\) first"):
        export_program(network.train(), height=8, width=8)


@pytest.mark.parametrize(
    "spec",
    [
        NafnetSpec(width=4, window=8, encoder=(1,), decoder=(1,)),
        RestormerSpec(dim=8, blocks=(1, 1), heads=(1, 2), refinement=1),
    ],
)
def test_a_convolutional_graph_takes_any_height_and_width(spec: NetworkSpec) -> None:
    network = trained(spec)
    multiple, minimum = size_rule(network)
    graph = export_program(network, height=minimum + 2 * multiple, width=minimum + 2 * multiple).module()
    with torch.no_grad():
        for height, width in ((minimum, minimum), (minimum, minimum + 9 * multiple), (minimum + 7 * multiple, minimum)):
            image = picture(network.channels, height, width)
            torch.testing.assert_close(graph(image), network(image), rtol=0, atol=1e-5)
