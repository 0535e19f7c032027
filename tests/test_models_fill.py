import numpy as np
import pytest
import torch

from models import fill_hidden, input_mask, pd_down, pd_up
from models.fill import _box_sum, fill_reach
from models.padding import pad_to_multiple


def test_phases_come_in_row_order() -> None:
    image = torch.arange(2 * 3 * 6 * 9).view(2, 3, 6, 9)
    sub_images = pd_down(image, 3)
    assert sub_images.shape == (18, 3, 2, 3)
    for batch in range(2):
        for i in range(3):
            for j in range(3):
                assert torch.equal(sub_images[batch * 9 + i * 3 + j], image[batch, :, i::3, j::3])
    assert torch.equal(pd_up(sub_images, 3), image)


def test_stride_one_changes_nothing() -> None:
    image = torch.rand(1, 3, 5, 7)
    assert pd_down(image, 1) is image
    assert pd_up(image, 1) is image


@pytest.mark.parametrize("stride", [0, 4])
def test_a_stride_that_does_not_divide_is_refused(stride: int) -> None:
    with pytest.raises(ValueError, match=f"PD stride {stride} does not divide an image of 6x9"):
        pd_down(torch.zeros(1, 1, 6, 9), stride)
    with pytest.raises(ValueError, match=f"PD stride {stride} does not fit 2 sub-images"):
        pd_up(torch.zeros(2, 1, 6, 9), stride)


def test_mean_fill_takes_the_nearest_neighbourhood_that_shows_something() -> None:
    image = torch.arange(225.0).view(1, 1, 15, 15)
    shown = [(7, 8), (6, 6), (0, 0)]
    mask = torch.ones(1, 1, 15, 15, dtype=torch.bool)
    for row, column in shown:
        mask[0, 0, row, column] = False
    filled = fill_hidden(image, mask, "mean")[0, 0]
    values = {place: image[0, 0, place[0], place[1]].item() for place in shown}
    assert filled[7, 7] == (values[7, 8] + values[6, 6]) / 2  # both in 3x3
    assert filled[8, 9] == values[7, 8]  # 3x3
    assert filled[5, 8] == (values[7, 8] + values[6, 6]) / 2  # 5x5
    assert filled[2, 2] == values[0, 0]  # 5x5, at the border
    assert filled[10, 10] == (values[7, 8] + values[6, 6]) / 2  # 9x9
    assert filled[14, 14] == sum(values.values()) / 3  # nothing within 9x9
    for row, column in shown:
        assert filled[row, column] == image[0, 0, row, column]


@pytest.mark.parametrize("fill", ["zero", "mean", "smooth"])
def test_a_filled_pixel_knows_nothing_of_its_own_value(fill: str) -> None:
    image = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    mask = input_mask(torch.arange(2), 0.5, 16, 16)
    other = torch.where(mask, torch.rand(image.shape), image)
    assert torch.equal(fill_hidden(image, mask, fill), fill_hidden(other, mask, fill))


@pytest.mark.parametrize("fill", ["mean", "smooth"])
def test_channels_and_samples_are_filled_apart(fill: str) -> None:
    image = torch.rand(2, 4, 12, 12, generator=torch.Generator().manual_seed(0))
    mask = input_mask(torch.arange(2), 0.9, 12, 12)
    together = fill_hidden(image, mask, fill)
    for sample in range(2):
        for channel in range(4):
            alone = fill_hidden(image[sample, channel][None, None], mask[sample : sample + 1], fill)
            torch.testing.assert_close(together[sample, channel], alone[0, 0], rtol=0, atol=1e-6)


def test_smooth_fill_is_a_mean_whose_weights_fall_with_distance() -> None:
    image = torch.zeros(1, 1, 41, 41)
    mask = torch.ones(1, 1, 41, 41, dtype=torch.bool)
    shown = {(20, 21): 1.0, (19, 18): 2.0, (20, 26): 4.0}
    for (row, column), value in shown.items():
        mask[0, 0, row, column] = False
        image[0, 0, row, column] = value
    filled = fill_hidden(image, mask, "smooth")[0, 0]
    # Weights 3, 2, 1 at distances 0, 1, 2 along each axis, and a thousandth of their mean over 9x9.
    near = {(20, 21): 3 * 2, (19, 18): 2 * 1, (20, 26): 0}
    wide = np.convolve([1.0, 2.0, 3.0, 2.0, 1.0], np.ones(9))
    weights = {place: near[place] + 1e-3 / 81 * wide[6 + place[0] - 20] * wide[6 + place[1] - 20] for place in shown}
    expected = sum(shown[place] * weight for place, weight in weights.items()) / sum(weights.values())
    assert float(filled[20, 20]) == pytest.approx(expected, rel=1e-5)
    # Beyond 13x13 every pixel within 37x37 counts the more the nearer, and beyond that there is nothing.
    assert 1 < filled[10, 20] < 4
    assert filled[1, 0] == 2
    assert filled[0, 0] == 0.5
    for (row, column), value in shown.items():
        assert filled[row, column] == value


@pytest.mark.parametrize("fill", ["mean", "smooth"])
def test_a_tile_is_filled_bit_for_bit_like_the_whole_image(fill: str) -> None:
    image = torch.rand(1, 3, 60, 70, generator=torch.Generator().manual_seed(0))
    for ratio, hole in ((0.6, (1, 1)), (0.97, (15, 15))):
        if fill == "mean" and ratio > 0.9:
            continue  # its last resort is the mean of what it is given
        mask = input_mask(torch.tensor([3]), ratio, 60, 70)
        reach = fill_reach(fill, hole)
        whole = fill_hidden(image, mask, fill)
        part = fill_hidden(image[..., 5:50, 10:62], mask[..., 5:50, 10:62], fill)
        assert torch.equal(
            whole[..., 5 + reach : 50 - reach, 10 + reach : 62 - reach], part[..., reach:-reach, reach:-reach]
        )


def test_smooth_fill_predicts_a_noisy_photograph_better_than_the_mean(photo: np.ndarray) -> None:
    clean = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    for ratio in (0.5, 0.75):
        mask = input_mask(torch.tensor([1]), ratio, *clean.shape[-2:]).expand_as(clean)
        error = {
            fill: float((fill_hidden(noisy, mask[:, :1], fill) - clean)[mask].square().mean())
            for fill in ("zero", "mean", "smooth")
        }
        # 0.4 dB at least.
        assert error["smooth"] < 0.91 * error["mean"] < error["zero"]


def test_half_precision_is_filled_in_half_precision() -> None:
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    mask = input_mask(torch.tensor([1]), 0.5, 16, 16)
    filled = fill_hidden(image, mask, "smooth")
    assert filled.dtype == torch.bfloat16
    torch.testing.assert_close(filled.float(), fill_hidden(image.float(), mask, "smooth"), rtol=0.01, atol=0.01)


def test_an_image_that_is_all_hidden_becomes_zero() -> None:
    filled = fill_hidden(torch.rand(1, 1, 4, 4), torch.ones(1, 1, 4, 4, dtype=torch.bool), "mean")
    assert torch.equal(filled, torch.zeros(1, 1, 4, 4))


def test_an_unknown_fill_is_refused() -> None:
    with pytest.raises(ValueError, match="fill must be one of"):
        fill_hidden(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.bool), "median")


def test_padding_mirrors_as_far_as_it_can_and_then_repeats() -> None:
    row = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 1, 3)
    assert pad_to_multiple(row, 8)[0, 0, 0].tolist() == [1, 2, 3, 2, 1, 1, 1, 1]
    assert pad_to_multiple(row, 8).shape == (1, 1, 8, 8)
    assert pad_to_multiple(row, 1) is row


@pytest.mark.parametrize("size", [3, 5, 9, 33])
def test_sums_are_those_that_a_gpu_is_asked_for_bit_for_bit(size: int) -> None:
    image = torch.rand(2, 3, 41, 37, generator=torch.Generator().manual_seed(0))
    pad = size // 2
    rows = torch.nn.functional.avg_pool2d(image, (size, 1), 1, (pad, 0), divisor_override=1)
    wanted = torch.nn.functional.avg_pool2d(rows, (1, size), 1, (0, pad), divisor_override=1)
    assert torch.equal(_box_sum(image, size), wanted)
    assert torch.equal(_box_sum(image.contiguous(memory_format=torch.channels_last), size), wanted)
