"""Costs against formulas, and receptive fields against gradients and against networks whose reach is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models import MaskedSwinSpec, NafnetSpec, RestormerSpec, UNetSpec, build, count_macs, measure_reach, reach_bound
from models.build import build_empty
from models.network import Network


def swin_macs_per_pixel(spec: MaskedSwinSpec) -> int:
    """By hand: per token, D channels, T tokens of a window."""
    dim, tokens, hidden = spec.dim, spec.window**2, int(spec.dim * spec.mlp_ratio)
    narrow = dim // 4
    bottleneck = 9 * dim * narrow + narrow * narrow + 9 * narrow * dim
    conv = bottleneck if spec.group_conv == "3conv" else 9 * dim * dim
    # q, k, v; q k^T and the average of v; projection; feed-forward
    block = 3 * dim * dim + 2 * tokens * dim + dim * dim + 2 * dim * hidden
    edges = spec.channels * dim * spec.embed_kernel**2 + 9 * dim * spec.channels
    return edges + sum(spec.depths) * block + (len(spec.depths) + 1) * conv


@pytest.mark.parametrize(
    "spec",
    [
        MaskedSwinSpec(),
        MaskedSwinSpec(channels=4, dim=24, depths=(2, 3), heads=(2, 4), window=4, mlp_ratio=1.5),
        MaskedSwinSpec(dim=12, depths=(2,), heads=(2,), embed_kernel=3, skips=True, group_conv="1conv"),
    ],
)
def test_a_masked_swin_costs_what_the_formula_says(spec: MaskedSwinSpec) -> None:
    expected = swin_macs_per_pixel(spec)
    assert count_macs(build_empty(spec), 32, 64) == expected * 32 * 64


def test_the_papers_masked_swin_takes_1_92_mflop_a_pixel() -> None:
    macs = count_macs(build_empty(MaskedSwinSpec()), 512, 512) / 512**2
    assert macs == 959_445
    assert round(2 * macs / 1e6, 2) == 1.92


def test_masks_change_the_work_and_not_the_count() -> None:
    for ratio in (0.0, 0.75):
        spec = MaskedSwinSpec(dim=12, depths=(2,), heads=(2,), attention_ratio=ratio)
        assert count_macs(build_empty(spec), 64, 64) == swin_macs_per_pixel(spec) * 64 * 64


def test_a_unet_costs_what_the_formula_says() -> None:
    spec = UNetSpec(channels=1, width=8, depth=1, convolutions=2)
    # At full resolution two convolutions down, two up and the head; a coarse pixel has a 2x2, two 3x3 and a 1x1.
    fine = 9 * 8 + 3 * 9 * 8 * 8 + 9 * 8
    coarse = 4 * 8 * 16 + 2 * 9 * 16 * 16 + 16 * 8
    assert count_macs(build_empty(spec), 40, 24) == 40 * 24 * fine + 20 * 12 * coarse


def nafnet_macs(spec: NafnetSpec, side: int) -> int:
    """By hand, for the mean of the whole image."""

    def blocks(level: int, count: int) -> int:
        dim, pixels = spec.width << level, (side >> level) ** 2
        pointwise = 2 * dim * dim + dim * dim + 2 * dim * dim + dim * dim
        return count * (pixels * (pointwise + 9 * 2 * dim) + dim * dim)

    levels = len(spec.encoder)
    total = 2 * 9 * spec.channels * spec.width * side**2 + blocks(levels, spec.middle)
    for level in range(levels):
        dim, coarse = spec.width << level, (side >> level + 1) ** 2
        total += coarse * (4 * dim * 2 * dim + 2 * dim * 4 * dim)
        total += blocks(level, spec.encoder[level]) + blocks(level, spec.decoder[level])
    return total


def test_nafnet_costs_what_the_formula_and_the_paper_say() -> None:
    paper = NafnetSpec(width=32, encoder=(2, 2, 4, 8), middle=12, decoder=(2, 2, 2, 2), window=0)
    for spec in (paper, NafnetSpec(window=0)):
        assert count_macs(build_empty(spec), 256, 256) == nafnet_macs(spec, 256)
    assert round(nafnet_macs(paper, 256) / 1e9) == 16  # published: 16 G
    # Windows add the attention's 1x1 convolutions at the corners of cells: little.
    local = count_macs(build_empty(NafnetSpec(window=128)), 512, 512)
    assert nafnet_macs(NafnetSpec(), 512) < local < 1.02 * nafnet_macs(NafnetSpec(), 512)


def test_restormers_attention_products_are_counted() -> None:
    spec = RestormerSpec(dim=48, blocks=(4, 6, 6, 8), refinement=4)
    products = 0
    for level, count in enumerate([4, 12, 12, 8]):
        dim, heads = 48 << level, spec.heads[level]
        products += count * (256 >> level) ** 2 * 2 * dim * dim // heads
    products += (4 + 4) * 256**2 * 2 * 96 * 96  # decoder and refinement at full resolution have twice the channels
    macs = count_macs(build_empty(spec), 256, 256)
    # Published: 140.99 G, without those products.
    assert abs((macs - products) / 140.99e9 - 1) < 1e-3


@pytest.mark.parametrize(
    "spec",
    [
        MaskedSwinSpec(channels=1, dim=4, depths=(1,), heads=(1,), window=4),
        MaskedSwinSpec(channels=1, dim=4, depths=(2, 3), heads=(1, 2), window=4),
        MaskedSwinSpec(
            channels=1, dim=4, depths=(2,), heads=(1,), window=6, embed_kernel=3, group_conv="1conv", skips=True
        ),
    ],
)
def test_the_bound_of_a_masked_swin_is_attained_and_holds(spec: MaskedSwinSpec) -> None:
    network = build(spec).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        # Large enough for a gradient to arrive from the farthest pixel.
        nn.init.normal_(parameter, std=0.5, generator=generator)
    bound = reach_bound(spec)
    assert bound is not None
    size = -(-3 * bound // spec.window) * spec.window
    image = torch.rand(1, 1, size, 2 * spec.window, generator=generator).requires_grad_()
    output = network(image)[0, 0]
    farthest = 0
    for position in range(size // 2, size // 2 + spec.window):
        (gradient,) = torch.autograd.grad(output[position, spec.window], image, retain_graph=True)
        # What the shift mask lets through between opposite borders is exp(-100).
        touched = (gradient[0, 0].abs().sum(1) > 1e-30).nonzero().flatten()
        farthest = max(farthest, position - int(touched.min()), int(touched.max()) - position)
    assert farthest == bound


def test_bounds_of_all_kinds() -> None:
    assert reach_bound(UNetSpec()) == 52
    assert reach_bound(MaskedSwinSpec()) == 104
    assert reach_bound(NafnetSpec()) == 305
    assert reach_bound(NafnetSpec(window=0)) is None
    assert reach_bound(RestormerSpec()) is None


class Tap(Network):
    """Adds to each pixel ``weight`` times the one ``rows`` below and ``columns`` to the right."""

    def __init__(self, rows: int, columns: int, weight: float) -> None:
        super().__init__()
        self.channels, self.multiple, self.reach, self.stochastic = 1, 1, None, False
        self.weight = nn.Parameter(torch.tensor(weight))
        self.shift = (-rows, -columns)

    def forward(self, image: Tensor) -> Tensor:
        return image + self.weight * image.roll(self.shift, (2, 3))


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (7, 0), (-3, 12), (30, 2)])
def test_a_reach_that_is_known_is_measured(rows: int, columns: int) -> None:
    assert measure_reach(Tap(rows, columns, 0.5).eval(), size=96) == max(abs(rows), abs(columns))


def test_a_change_too_small_to_be_seen_does_not_count() -> None:
    assert measure_reach(Tap(9, 0, 1 / 600).eval(), size=96) == 0
    assert measure_reach(Tap(9, 0, 1 / 600).eval(), size=96, threshold=1e-4) == 9


def test_what_is_measured_stays_inside_the_bound() -> None:
    spec = UNetSpec(width=4, depth=1, residual=False)
    measured = measure_reach(build(spec).eval(), size=96)
    assert 0 < measured <= reach_bound(spec)


def test_a_network_in_training_is_not_measured() -> None:
    with pytest.raises(ValueError, match="network is in training mode"):
        measure_reach(build(UNetSpec(width=4)))
