import math

import pytest
import torch
from torch import Tensor

from models import attention_mask, complementary_masks, fold, fold_seeds, hash_uniform, hide, input_mask
from models.masks import complementary_mask, uniform_ratio

# A statistic that is N(0, 1) exceeds 5 with probability 6e-7.
SIGMAS = 5.0


def field(seeds: int = 64, size: int = 128) -> Tensor:
    return hash_uniform(torch.arange(seeds)[:, None, None], 7, torch.arange(size)[:, None], torch.arange(size))


def test_uniform_numbers_are_uniform() -> None:
    values = field()
    count, bins = values.numel(), 256
    assert values.dtype == torch.float32
    assert values.min() >= 0
    assert values.max() < 1
    assert torch.equal(values * 2**24, (values * 2**24).floor())
    # chi-square with bins - 1 degrees of freedom: mean bins - 1, variance 2 (bins - 1)
    expected = count / bins
    chi_square = ((torch.histc(values, bins, 0, 1) - expected) ** 2 / expected).sum().item()
    assert abs(chi_square - (bins - 1)) < SIGMAS * math.sqrt(2 * (bins - 1))


@pytest.mark.parametrize("neighbour", ["seed", "row", "column", "diagonal"])
def test_neighbouring_seeds_and_positions_are_independent(neighbour: str) -> None:
    centred = field().double() - 0.5
    one, other = {
        "seed": (centred[1:], centred[:-1]),
        "row": (centred[:, 1:], centred[:, :-1]),
        "column": (centred[..., 1:], centred[..., :-1]),
        "diagonal": (centred[:, 1:, 1:], centred[:, :-1, :-1]),
    }[neighbour]
    # a product of two independent centred uniforms has variance 1/144
    statistic = (one * other).mean().item() * 12 * math.sqrt(one.numel())
    assert abs(statistic) < SIGMAS
    # and the same for the joint distribution: 16 equally likely cells, 15 degrees of freedom
    cells = ((one + 0.5) * 4).long() * 4 + ((other + 0.5) * 4).long()
    expected = cells.numel() / 16
    chi_square = ((torch.bincount(cells.flatten(), minlength=16) - expected) ** 2 / expected).sum().item()
    assert abs(chi_square - 15) < SIGMAS * math.sqrt(2 * 15)


def test_every_bit_of_seed_and_position_changes_half_of_the_numbers_bits() -> None:
    count = 20_000
    seeds = torch.randint(0, 2**62, (count,), generator=torch.Generator().manual_seed(0))
    place = torch.randint(0, 2**16, (count,), generator=torch.Generator().manual_seed(1))

    def bits(seeds: Tensor, place: Tensor) -> Tensor:
        return (hash_uniform(seeds, 3, place) * 2**24).long()

    base = bits(seeds, place)
    changed = [bits(seeds ^ (1 << bit), place) ^ base for bit in range(62)]
    changed += [bits(seeds, place ^ (1 << bit)) ^ base for bit in range(16)]
    for difference in changed:
        share = torch.stack([(difference >> bit & 1).double().mean() for bit in range(24)])
        # sampling sd 0.0035; 0.02 leaves room for the mixer's own bias
        assert (share - 0.5).abs().max() < 0.02


def test_numbers_are_the_same_as_ever() -> None:
    values = hash_uniform(torch.tensor([0, 1, 2**40 + 3, 2**63 - 1]), 7, torch.tensor([[0], [5]]), 9)
    assert (values * 2**24).long().tolist() == [
        [10553336, 3693803, 3927423, 5345727],
        [8265795, 8123436, 2737571, 11809862],
    ]


@pytest.mark.parametrize("threads", [1, 2])
def test_masks_do_not_depend_on_the_number_of_threads(threads: int) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        mask = input_mask(torch.tensor([3]), 0.5, 512, 512)
    finally:
        torch.set_num_threads(before)
    weights = torch.arange(512 * 512).view(512, 512) % 1009
    assert int((mask[0, 0] * weights).sum()) == 66_162_971


def test_child_seeds_agree_between_numbers_and_tensors() -> None:
    seeds = [0, 1, 2**62 + 5, 2**63 - 1]
    children = fold_seeds(torch.tensor(seeds), -3, 2**40)
    assert children.tolist() == [fold(seed, -3, 2**40) for seed in seeds]
    assert all(0 <= child < 2**63 for child in children.tolist())


def test_child_seeds_differ_in_every_argument_and_its_place() -> None:
    assert len({fold(*values) for values in [(1,), (1, 0), (1, 2), (2, 1), (1, 0, 0), (1, 2**32), (1, 2, 3)]}) == 7
    # 63 bits: the chance of any collision among 1e5 is 5e-10
    assert fold_seeds(torch.arange(100_000), 1).unique().numel() == 100_000


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.85, 1.0])
def test_input_mask_hides_the_ratio_asked_for(ratio: float) -> None:
    mask = input_mask(torch.arange(8), ratio, 100, 100)
    assert mask.shape == (8, 1, 100, 100)
    assert mask.dtype == torch.bool
    tolerance = SIGMAS * math.sqrt(ratio * (1 - ratio) / mask.numel())
    assert abs(mask.float().mean().item() - ratio) <= tolerance


def test_ratios_are_per_sample() -> None:
    mask = input_mask(torch.arange(3), torch.tensor([0.0, 0.5, 1.0]), 64, 64)
    assert not mask[0].any()
    assert 0.4 < mask[1].float().mean() < 0.6
    assert mask[2].all()


def test_a_ratio_is_uniform_in_its_range() -> None:
    ratio = uniform_ratio(torch.arange(10_000), 0.8, 0.9)
    assert ratio.min() >= 0.8
    assert ratio.max() <= 0.9
    assert abs(ratio.mean().item() - 0.85) < SIGMAS * 0.1 / math.sqrt(12 * 10_000)


def test_masks_depend_on_absolute_coordinates_and_the_own_seed_only() -> None:
    seeds = torch.tensor([11, 12, 13])
    for whole, part in (
        (
            input_mask(seeds, 0.5, 40, 50)[1:2, :, 8:24, 16:40],
            input_mask(seeds[1:2], 0.5, 16, 24, origin=(8, 16)),
        ),
        (
            attention_mask(seeds, 0.5, 3, 40, 50)[1:2, 8:24, 16:40],
            attention_mask(seeds[1:2], 0.5, 3, 16, 24, origin=(8, 16)),
        ),
        (
            complementary_masks(seeds, 3, 40, 50, draw=2)[:, 1:2, :, 8:24, 16:40],
            complementary_masks(seeds[1:2], 3, 16, 24, draw=2, origin=(8, 16)),
        ),
    ):
        assert torch.equal(whole, part)


@pytest.mark.parametrize("count", [2, 3, 5, 9])
def test_every_pixel_is_hidden_in_exactly_one_complementary_mask(count: int) -> None:
    masks = complementary_masks(torch.arange(4), count, 64, 64)
    assert masks.shape == (count, 4, 1, 64, 64)
    assert (masks.sum(0) == 1).all()
    tolerance = SIGMAS * math.sqrt(1 / count * (1 - 1 / count) / (4 * 64 * 64))
    assert (masks.float().mean((1, 2, 3, 4)) - 1 / count).abs().max() < tolerance
    for index in range(count):
        assert torch.equal(masks[index], complementary_mask(torch.arange(4), index, count, 64, 64))


def test_layers_draws_and_kinds_of_mask_are_independent() -> None:
    seeds = torch.arange(4)
    masks = [
        input_mask(seeds, 0.5, 64, 64)[:, 0],
        attention_mask(seeds, 0.5, 0, 64, 64),
        attention_mask(seeds, 0.5, 1, 64, 64),
        complementary_masks(seeds, 2, 64, 64)[0, :, 0],
        complementary_masks(seeds, 2, 64, 64, draw=1)[0, :, 0],
    ]
    for i, one in enumerate(masks):
        for other in masks[:i]:
            agreement = (one == other).float().mean().item()
            assert abs(agreement - 0.5) < SIGMAS * 0.5 / math.sqrt(one.numel())


def test_one_mask_is_no_partition() -> None:
    with pytest.raises(ValueError, match="mask_count must be at least 2, got 1"):
        complementary_masks(torch.arange(1), 1, 4, 4)


def test_hide_fills_hidden_pixels_of_all_channels_in_a_copy() -> None:
    image = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    before = image.clone()
    mask = input_mask(torch.arange(2), 0.5, 4, 4)
    hidden = hide(image, mask, -0.1)
    assert torch.equal(image, before)
    everywhere = mask.expand_as(image)
    assert (hidden[everywhere] == torch.tensor(-0.1)).all()
    assert torch.equal(hidden[~everywhere], image[~everywhere])
