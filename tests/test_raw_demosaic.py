"""Mosaic, packing and demosaicing, for every CFA pattern."""

from pathlib import Path

import numpy as np
import pytest
import torch

from raw.cfa import CFA_PATTERNS, plane_sites
from raw.demosaic import demosaic
from raw.mosaic import merge_sites, mosaic, pack, split_sites, unpack

ORACLES = Path(__file__).parent / "oracles"


def channels_first(array):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, -3)))


@pytest.mark.parametrize("name", ["2", "3", "8", "16"])
def test_demosaic_equals_the_reference_up_to_its_border(name):
    data = np.load(ORACLES / "rawsynth_demosaic.npz")
    result = demosaic(channels_first(data[f"bayer_{name}"]))
    torch.testing.assert_close(result, channels_first(data[f"rgb_{name}"]), rtol=0, atol=2e-7)


def test_every_impulse_spreads_as_in_the_reference():
    data = np.load(ORACLES / "rawsynth_demosaic.npz")
    result = demosaic(channels_first(data["impulse_bayer"]))
    torch.testing.assert_close(result, channels_first(data["impulse_rgb"]), rtol=0, atol=2e-7)


@pytest.mark.parametrize("pattern", CFA_PATTERNS)
@pytest.mark.parametrize(("method", "name"), [("bilinear", "bilinear"), ("malvar", "malvar2004")])
def test_demosaic_of_every_pattern_equals_the_reference_inside(pattern, method, name):
    data = np.load(ORACLES / "demosaic_patterns.npz")
    result = demosaic(pack(torch.from_numpy(data[f"cfa_{pattern}"]), pattern), pattern, method)
    expected = channels_first(data[f"{name}_{pattern}"])
    inside = (slice(None), slice(4, -4), slice(4, -4))
    torch.testing.assert_close(result[inside], expected[inside], rtol=0, atol=1e-6)


@pytest.mark.parametrize("pattern", CFA_PATTERNS)
def test_mosaic_takes_the_colour_that_the_pattern_names(pattern):
    image = torch.arange(3 * 4 * 6).view(3, 4, 6)
    flat = unpack(mosaic(image, pattern), pattern)
    for row in range(4):
        for column in range(6):
            color = "RGB".index(pattern[2 * (row % 2) + column % 2])
            assert flat[row, column] == image[color, row, column]


def test_planes_of_rggb_are_in_reading_order():
    packed = pack(torch.arange(16).view(4, 4), "RGGB")
    assert packed[:, 0, 0].tolist() == [0, 1, 4, 5]
    assert packed[:, 1, 1].tolist() == [10, 11, 14, 15]


def test_first_green_plane_lies_in_the_red_rows():
    assert plane_sites("GBRG") == ((1, 0), (1, 1), (0, 0), (0, 1))
    assert plane_sites("GRBG") == ((0, 1), (0, 0), (1, 1), (1, 0))


@pytest.mark.parametrize("pattern", CFA_PATTERNS)
def test_sites_are_the_pixels_of_each_plane_and_merge_again(pattern):
    image = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
    sites = split_sites(image, pattern)
    for channel in range(3):
        assert torch.equal(sites[:, :, channel], pack(image[:, channel], pattern))
        assert torch.equal(merge_sites(sites[:, :, channel], pattern), image[:, channel])


@pytest.mark.parametrize("method", ["bilinear", "malvar"])
def test_a_grey_ramp_is_kept_by_every_method(method):
    """Both reproduce linear functions away from the border, so no pixel or phase may be off by one."""
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(20.0), indexing="ij")
    grey = (0.01 * rows + 0.03 * columns).expand(3, -1, -1)
    for pattern in CFA_PATTERNS:
        result = demosaic(mosaic(grey, pattern), pattern, method)
        torch.testing.assert_close(result[:, 2:-2, 2:-2], grey[:, 2:-2, 2:-2], rtol=0, atol=1e-6)


@pytest.mark.parametrize("pattern", CFA_PATTERNS)
def test_unpack_is_the_inverse_of_pack(pattern):
    flat = torch.arange(2 * 4 * 6).view(2, 4, 6)
    assert torch.equal(unpack(pack(flat, pattern), pattern), flat)


def test_an_unknown_pattern_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="one of RGGB, BGGR, GRBG, GBRG, got 'RGBG'"):
        plane_sites("RGBG")


def test_a_packed_raw_without_four_planes_is_refused():
    with pytest.raises(ValueError, match=r"\(\.\.\., 4, H/2, W/2\), got \(3, 4, 4\)"):
        demosaic(torch.zeros(3, 4, 4))
