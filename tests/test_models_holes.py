"""Masks that hide a neighbourhood: partitions, lattices, and what a network behind them cannot know."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from models import (
    AsymmetricMasks,
    InferenceSpec,
    MaskedSwinSpec,
    NafnetSpec,
    Network,
    NetworkSpec,
    RestormerSpec,
    UNetSpec,
    build,
    complementary_masks,
    denoise,
    describe_inference,
    footprint,
    masks_of,
)
from models.holes import Partition
from models.multi_mask import sub_image_seeds

HOLES = [
    ((3, 3), "box"),
    ((3, 3), "diamond"),
    ((1, 5), "box"),
    ((5, 3), "box"),
    ((5, 5), "diamond"),
    ((3, 5), "diamond"),
]
NETWORKS: dict[str, NetworkSpec] = {
    "unet": UNetSpec(width=8, depth=2, residual=False),
    "nafnet": NafnetSpec(width=8, encoder=(1,), middle=1, decoder=(1,), residual=False),
    "restormer": RestormerSpec(dim=8, blocks=(1, 1), heads=(1, 2), refinement=1, residual=False),
    "masked_swin": MaskedSwinSpec(dim=12, depths=(2,), heads=(2,), window=4, attention_ratio=0.5),
}


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def network(kind: str, channels: int = 3) -> Network:
    """A network whose output depends on all it sees."""
    built = build(dataclasses.replace(NETWORKS[kind], channels=channels), seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    for parameter in built.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return built


def test_a_footprint_is_the_box_or_the_diamond_in_it() -> None:
    assert footprint((3, 5), "box").all()
    assert footprint((3, 3), "diamond").int().tolist() == [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    assert footprint((5, 5), "diamond").sum() == 13
    assert footprint((1, 5), "diamond").all()
    assert footprint((3, 5), "diamond").int().tolist() == [[0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0]]


@pytest.mark.parametrize(("hole", "shape"), HOLES)
@pytest.mark.parametrize("mask_count", [2, 3])
def test_every_pixel_is_a_target_once_and_its_hole_is_hidden(
    hole: tuple[int, int], shape: str, mask_count: int
) -> None:
    partition = Partition(mask_count=mask_count, hole=hole, hole_shape=shape)
    assert partition.count == mask_count * int(footprint(hole, shape).sum())
    numbers = partition.numbers(torch.tensor([3, 4]), 40, 37, draw=1, origin=(5, 8))
    down, right = (side // 2 for side in hole)
    times = torch.zeros(2, 1, 40, 37)
    for index in range(partition.count):
        targets, hidden = partition.mask(numbers, index)
        times += targets
        whole = numbers[:, 0] == index
        for sample, row, column in whole.nonzero().tolist():
            for step in footprint(hole, shape).nonzero().tolist():
                at = (row - 2 * down + step[0], column - 2 * right + step[1])
                if 0 <= at[0] < 40 and 0 <= at[1] < 37:
                    assert hidden[sample, 0, *at]
    assert (times == 1).all()


@pytest.mark.parametrize(("hole", "shape"), HOLES)
def test_holes_of_one_mask_do_not_overlap(hole: tuple[int, int], shape: str) -> None:
    # Then the share that a mask hides is one over mask_count. A period of the lattice is counted, so it is exact.
    partition = Partition(mask_count=2, hole=hole, hole_shape=shape)
    side = partition.count
    for seed in range(4):
        _, hidden = partition.mask(partition.numbers(torch.tensor([seed]), side, side), seed)
        assert hidden.sum() == side * side // 2


def test_masks_are_those_of_single_pixels_by_default() -> None:
    seeds = torch.tensor([7, 9])
    partition = Partition.of(InferenceSpec(mask_count=3))
    numbers = partition.numbers(seeds, 20, 30, draw=2, origin=(3, 4))
    masks = complementary_masks(seeds, 3, 20, 30, draw=2, origin=(3, 4))
    for index in range(3):
        targets, hidden = partition.mask(numbers, index)
        assert torch.equal(targets, masks[index])
        assert torch.equal(hidden, masks[index])


def test_the_lattice_of_single_pixels_is_a_chessboard() -> None:
    partition = Partition(mask_count=2, layout="lattice")
    seeds = torch.arange(64)
    white = partition.mask(partition.numbers(seeds, 6, 6), 0)[0][:, 0]
    board = (torch.arange(6)[:, None] + torch.arange(6)) % 2 == 0
    is_board = [torch.equal(mask, board) for mask in white]
    assert all(same or torch.equal(mask, ~board) for mask, same in zip(white, is_board, strict=True))
    # Both colours come up: the chance that 64 draws miss one is 1e-19.
    assert 0 < sum(is_board) < 64


@pytest.mark.parametrize(("hole", "layout"), [((3, 3), "random"), ((5, 3), "random"), ((1, 1), "lattice")])
def test_masks_depend_on_absolute_coordinates_the_seed_and_the_draw(hole: tuple[int, int], layout: str) -> None:
    partition = Partition(mask_count=3, hole=hole, layout=layout)
    seeds = torch.tensor([11, 12, 13])
    down, right = (side // 2 for side in hole)
    whole = partition.numbers(seeds, 40, 50, draw=2)
    part = partition.numbers(seeds[1:2], 16, 24, draw=2, origin=(8, 16))
    assert torch.equal(whole[1:2, :, 8 : 24 + 2 * down, 16 : 40 + 2 * right], part)
    hidden = partition.mask(whole, 1)[1]
    assert torch.equal(hidden[1:2, :, 8:24, 16:40], partition.mask(part, 1)[1])
    many = partition.numbers(torch.arange(50), 8, 8)
    assert len({tuple(numbers.flatten().tolist()) for numbers in many}) >= 3


@pytest.mark.parametrize(
    ("partition", "different"),
    [
        (Partition(mask_count=2, layout="lattice"), 1),
        (Partition(mask_count=2, hole=(3, 3)), 4),
        (Partition(mask_count=2, hole=(5, 5), hole_shape="diamond"), 2),
    ],
)
def test_draws_of_a_lattice_are_the_different_ones_and_no_more(partition: Partition, different: int) -> None:
    def sets(draw: int) -> frozenset[tuple[int, ...]]:
        numbers = partition.numbers(torch.tensor([6]), 30, 30, draw=draw).flatten()
        return frozenset(tuple((numbers == index).nonzero()[:, 0].tolist()) for index in range(partition.count))

    assert partition.distinct == different
    assert len({sets(draw) for draw in range(different)}) == different
    assert {sets(draw) for draw in range(3 * different)} == {sets(draw) for draw in range(different)}
    assert partition.draws(8, stochastic=False) == different
    assert partition.draws(8, stochastic=True) == 8
    spec = InferenceSpec(
        mode="multi_mask", draws=8, hole=partition.hole, hole_shape=partition.hole_shape, layout=partition.layout
    )
    assert describe_inference(spec, stochastic=False)["passes"] == different * partition.count
    assert describe_inference(spec, stochastic=True)["passes"] == 8 * partition.count
    blind = network("unet")
    calls: list[int] = []
    blind.register_forward_pre_hook(lambda _, arguments: calls.append(len(arguments[0])))
    denoise(blind, image(1, 3, 8, 8), spec)
    assert sum(calls) == different * partition.count


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("pd_stride", [1, 2])
@pytest.mark.parametrize("fill", ["zero", "mean", "smooth"])
def test_a_prediction_ignores_its_whole_hole(kind: str, pd_stride: int, fill: str) -> None:
    blind = network(kind)
    clean = image(1, 3, 21, 18)
    for hole, shape, layout in (((3, 3), "diamond", "random"), ((1, 1), "box", "random"), ((1, 1), "box", "lattice")):
        spec = InferenceSpec(
            mode="multi_mask", pd_stride=pd_stride, fill=fill, hole=hole, hole_shape=shape, layout=layout, seed=5
        )
        changed = clean.clone()
        for row, column in (footprint(hole, shape).nonzero() - torch.tensor(hole) // 2).tolist():
            changed[..., 10 + pd_stride * row, 8 + pd_stride * column] += 0.5
        one, other = (denoise(blind, picture, spec) for picture in (clean, changed))
        assert torch.equal(one[..., 10, 8], other[..., 10, 8])
        # What is next to the hole is told.
        assert not torch.equal(one, other)


def test_a_larger_hole_hides_more_than_a_smaller_one_does() -> None:
    # The test above could pass with a network that sees nothing, and the hole would not matter.
    blind = network("unet")
    clean = image(1, 3, 20, 20)
    changed = clean.clone()
    changed[..., 9, 11] += 0.5
    for hole, told in (((1, 1), True), ((3, 3), False), ((1, 3), True)):
        spec = InferenceSpec(mode="multi_mask", hole=hole, draws=4 if hole == (1, 1) else 1)
        one, other = (denoise(blind, picture, spec) for picture in (clean, changed))
        assert torch.equal(one[..., 10, 11], other[..., 10, 11]) != told


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_network_takes_a_step_and_runs_at_odd_sizes(kind: str) -> None:
    spec = NETWORKS[kind]
    for channels, method in (
        (3, AsymmetricMasks(pd_stride=1, hole=(3, 3), hole_shape="diamond", fill="smooth")),
        (1, AsymmetricMasks(pd_stride=2, fill="smooth", smoothing=0.01)),
        (4, AsymmetricMasks(pd_stride=2, layout="lattice")),
    ):
        trained = build(dataclasses.replace(spec, channels=channels))
        loss = method.loss(trained, image(2, channels, 17, 19), torch.tensor([1, 2]))
        loss.backward()
        assert torch.isfinite(loss)
        assert any(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in trained.parameters())
        inference = InferenceSpec(
            mode="multi_mask", pd_stride=method.pd_stride, fill=method.fill, hole=method.hole,
            hole_shape=method.hole_shape, layout=method.layout, refine_draws=2,
        )  # fmt: skip
        for size in ((1, 1), (13, 7)):
            output = denoise(trained.eval(), image(2, channels, *size), inference)
            assert output.shape == (2, channels, *size)
            assert torch.isfinite(output).all()


def test_the_loss_looks_at_targets_only_and_shows_no_hole() -> None:
    method = AsymmetricMasks(pd_stride=1, hole=(3, 3), hole_shape="box", mask_count=2, fill="zero")
    noisy = image(1, 3, 36, 36) + 1
    seeds = torch.tensor([4])
    partition = Partition.of(method)
    targets, hidden = partition.mask(partition.numbers(sub_image_seeds(seeds, 1), 36, 36), 0)

    class Seen(nn.Module):
        def forward(self, shown: Tensor, **_: object) -> Tensor:
            self.shown = shown
            return torch.zeros_like(shown)

    seen = Seen()
    loss = method.loss(seen, noisy, seeds)
    assert torch.equal(seen.shown == 0, hidden.expand_as(noisy))
    torch.testing.assert_close(loss, noisy[targets.expand_as(noisy)].mean())


def test_the_cost_of_a_hole_is_described() -> None:
    spec = InferenceSpec(mode="multi_mask", hole=(5, 5), hole_shape="diamond", mask_count=2, draws=3)
    assert masks_of(spec) == 26
    assert describe_inference(spec, stochastic=False)["passes"] == 52


@pytest.mark.parametrize("spec", [AsymmetricMasks, InferenceSpec])
@pytest.mark.parametrize(
    ("field", "value"),
    [("hole", (2, 3)), ("hole", (3, 17)), ("hole", (3,)), ("hole_shape", "disc"), ("layout", "grid")],
)
def test_an_impossible_hole_names_its_field(spec: type, field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} must be"):
        spec(**{field: value})
