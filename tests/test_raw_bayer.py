"""Flips and crops of mosaics, watched through the colour of every sample."""

import numpy as np
import pytest
import torch

from raw.bayer import flip, random_crop
from raw.cfa import CFA_PATTERNS, shifted


def colours(pattern, height, width):
    """(H, W) the colour of each sample, as the letter's number."""
    cell = torch.tensor([ord(letter) for letter in pattern]).view(2, 2)
    return cell.repeat((height + 1) // 2, (width + 1) // 2)[:height, :width]


@pytest.mark.parametrize("pattern", CFA_PATTERNS)
@pytest.mark.parametrize("size", [(8, 12), (7, 12), (8, 11), (7, 11)])
@pytest.mark.parametrize(("across", "down"), [(True, False), (False, True), (True, True)])
def test_a_flipped_mosaic_keeps_its_pattern(pattern, size, across, down):
    flipped = flip(colours(pattern, *size), across=across, down=down)
    assert torch.equal(flipped, colours(pattern, *flipped.shape))


def test_a_flip_mirrors_the_samples():
    mosaic = torch.arange(20).view(4, 5)
    assert flip(mosaic, across=True)[0].tolist() == [4, 3, 2, 1, 0]
    assert flip(mosaic, down=True)[:, 0].tolist() == [10, 5]


def test_a_flip_takes_arrays():
    assert isinstance(flip(np.zeros((4, 5)), across=True), np.ndarray)


@pytest.mark.parametrize("pattern", CFA_PATTERNS)
def test_random_crops_keep_the_pattern_reach_every_corner_and_both_mirrors(pattern):
    generator = torch.Generator().manual_seed(5)
    mosaic = colours(pattern, 13, 14)
    for _ in range(50):
        assert torch.equal(random_crop(mosaic, 6, generator), colours(pattern, 6, 6))
    places = torch.arange(13 * 14).view(13, 14)
    corners = {int(random_crop(places, 6, generator)[0, 0]) for _ in range(600)}
    # A mirrored crop starts at its far end: rows 0 2 4 and 6 8 10, columns 0 2 4 6 and 6 8 10 12. Each corner has a
    # chance of at least 1/48: one is missed with probability 42 * (47/48)^600 < 2e-4.
    assert corners == {14 * row + column for row in range(0, 12, 2) for column in range(0, 14, 2)}


@pytest.mark.parametrize("side", [5, 12])
def test_a_crop_that_does_not_fit_is_refused(side):
    with pytest.raises(ValueError, match=f"side must be even and at most 10 in 12x14, got {side}"):
        random_crop(torch.zeros(12, 14), side, torch.Generator())


def test_an_even_side_of_two_cannot_be_mirrored():
    with pytest.raises(ValueError, match="at least 4 to be mirrored, got 2"):
        flip(torch.zeros(2, 8), down=True)


@pytest.mark.parametrize("pattern", CFA_PATTERNS)
@pytest.mark.parametrize(("top", "left"), [(0, 0), (0, 1), (1, 0), (3, 5)])
def test_the_pattern_of_a_crop_names_its_colours(pattern, top, left):
    crop = colours(pattern, 12, 12)[top : top + 4, left : left + 4]
    assert torch.equal(crop, colours(shifted(pattern, top, left), 4, 4))
