"""The distribution of cameras against 200,000 draws of an independent implementation."""

from pathlib import Path

import numpy as np
import pytest
import torch

from raw.camera import sample_camera

ORACLES = Path(__file__).parent / "oracles"
DRAWS = 4000


@pytest.fixture(scope="module")
def draws():
    generator = torch.Generator().manual_seed(11)
    cameras = [sample_camera(generator) for _ in range(DRAWS)]
    return {
        "ccm": torch.stack([camera.rgb2cam.flatten() for camera in cameras]).double().numpy(),
        "cam2rgb": torch.stack([camera.cam2rgb.flatten() for camera in cameras]).double().numpy(),
        **{name: np.array([float(getattr(camera, name)) for camera in cameras]) for name in ("rgb_gain", "red_gain")},
        "blue_gain": np.array([float(camera.blue_gain) for camera in cameras]),
    }


@pytest.mark.parametrize("name", ["ccm", "cam2rgb", "rgb_gain", "red_gain", "blue_gain"])
def test_camera_parameters_have_the_reference_distribution(draws, name):
    data = np.load(ORACLES / "rawsynth_samplers_moments.npz")
    ours = draws[name]
    # Both means vary: 5 standard errors of their difference, 9 entries at most: false alarm under 1e-5.
    allowed = 5 * data[f"{name}_stderr_of_mean"] * np.sqrt(1 + float(data["n"]) / DRAWS)
    assert np.all(np.abs(ours.mean(axis=0) - data[f"{name}_mean"]) < allowed)
    # The fraction of draws below each reference quantile is binomial.
    for level, quantile in zip(data["quantile_levels"], data[f"{name}_quantiles"], strict=True):
        fraction = (ours < quantile).mean(axis=0)
        allowed = 5 * np.sqrt(max(level * (1 - level), 1e-3) / DRAWS)
        assert np.all(np.abs(fraction - level) < allowed), (level, fraction)


def test_entries_of_the_colour_matrix_move_together_as_in_the_reference(draws):
    data = np.load(ORACLES / "rawsynth_samplers_moments.npz")
    difference = np.corrcoef(draws["ccm"].T) - data["ccm_correlation"]
    # The standard error of a correlation is at most 1/sqrt(n).
    assert np.abs(difference).max() < 5 / np.sqrt(DRAWS)


def test_neutral_stays_neutral():
    camera = sample_camera(torch.Generator().manual_seed(5))
    torch.testing.assert_close(camera.rgb2cam.sum(dim=1), torch.ones(3))
    torch.testing.assert_close(camera.cam2rgb.sum(dim=1), torch.ones(3))


def test_one_seed_gives_one_camera():
    first, again, other = (sample_camera(torch.Generator().manual_seed(seed)) for seed in (7, 7, 8))
    assert torch.equal(first.rgb2cam, again.rgb2cam)
    assert first.rgb_gain == again.rgb_gain
    assert not torch.equal(first.rgb2cam, other.rgb2cam)
