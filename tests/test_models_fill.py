import pytest
import torch

from models import fill_hidden, input_mask, pd_down, pd_up
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


@pytest.mark.parametrize("fill", ["zero", "mean"])
def test_a_filled_pixel_knows_nothing_of_its_own_value(fill: str) -> None:
    image = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    mask = input_mask(torch.arange(2), 0.5, 16, 16)
    other = torch.where(mask, torch.rand(image.shape), image)
    assert torch.equal(fill_hidden(image, mask, fill), fill_hidden(other, mask, fill))


def test_channels_and_samples_are_filled_apart() -> None:
    image = torch.rand(2, 4, 12, 12, generator=torch.Generator().manual_seed(0))
    mask = input_mask(torch.arange(2), 0.9, 12, 12)
    together = fill_hidden(image, mask, "mean")
    for sample in range(2):
        for channel in range(4):
            alone = fill_hidden(image[sample, channel][None, None], mask[sample : sample + 1], "mean")
            torch.testing.assert_close(together[sample, channel], alone[0, 0], rtol=0, atol=1e-6)


def test_an_image_that_is_all_hidden_becomes_zero() -> None:
    filled = fill_hidden(torch.rand(1, 1, 4, 4), torch.ones(1, 1, 4, 4, dtype=torch.bool), "mean")
    assert torch.equal(filled, torch.zeros(1, 1, 4, 4))


def test_an_unknown_fill_is_refused() -> None:
    with pytest.raises(ValueError, match="fill must be 'zero' or 'mean', got 'median'"):
        fill_hidden(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.bool), "median")


def test_padding_mirrors_as_far_as_it_can_and_then_repeats() -> None:
    row = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 1, 3)
    assert pad_to_multiple(row, 8)[0, 0, 0].tolist() == [1, 2, 3, 2, 1, 1, 1, 1]
    assert pad_to_multiple(row, 8).shape == (1, 1, 8, 8)
    assert pad_to_multiple(row, 1) is row
