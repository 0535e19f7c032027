"""Shot and read noise: its moments, and the distribution of noise levels."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from noise.shot_read import NoiseLevel, sample_noise_level

ORACLES = Path(__file__).parent / "oracles"
DRAWS = 20_000


def test_moments_equal_those_of_the_reference():
    data = np.load(ORACLES / "rawsynth_add_noise.npz")
    generator = torch.Generator().manual_seed(21)
    count = 200_000
    for i, (shot, read) in enumerate(data["shot_read"]):
        level = NoiseLevel(shot=float(shot), read=float(read))
        for j, x in enumerate(data["levels"]):
            noise = level.add(torch.full((count,), float(x), dtype=torch.float64), generator) - float(x)
            want = float(data["expected_variance"][i, j])
            # sd of a mean is sqrt(var/n), of a variance sqrt(2/n) var; 5 sd: false alarm under 1e-4.
            assert abs(noise.mean()) <= 5 * math.sqrt(want / count)
            assert abs(noise.var() - want) <= 5 * math.sqrt(2 / count) * want
            if want > 0:
                standard = (noise / math.sqrt(want)).numpy()
                assert abs((standard**3).mean()) < 5 * math.sqrt(15 / count)
                assert abs((standard**4).mean() - 3) < 5 * math.sqrt(96 / count)


def test_given_normals_become_the_reference_noise():
    data = np.load(ORACLES / "rawsynth_stages_saturated_a.npz")
    clean = torch.from_numpy(data["m0_mosaic"])
    level = NoiseLevel(shot=float(data["shot"]), read=float(data["read"]))
    noisy = clean + level.variance(clean).sqrt() * torch.from_numpy(data["z"])
    torch.testing.assert_close(noisy, torch.from_numpy(data["m0_noisy_mosaic"]), rtol=0, atol=1e-6)
    normal = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    drawn = level.add(clean, torch.Generator().manual_seed(1))
    torch.testing.assert_close(drawn, clean + level.variance(clean).sqrt() * normal)


@pytest.fixture(scope="module")
def levels():
    generator = torch.Generator().manual_seed(22)
    return [sample_noise_level(generator) for _ in range(DRAWS)]


def test_noise_levels_have_the_reference_distribution(levels):
    data = np.load(ORACLES / "rawsynth_samplers_moments.npz")
    shot = np.log([level.shot for level in levels])
    read = np.log([level.read for level in levels])
    ours = {"log_shot": shot, "log_read": read, "log_read_residual": read - (2.18 * shot + 1.20)}
    for name, values in ours.items():
        allowed = 5 * float(data[f"{name}_stderr_of_mean"]) * math.sqrt(1 + float(data["n"]) / DRAWS)
        assert abs(values.mean() - float(data[f"{name}_mean"])) < allowed, name
        for level, quantile in zip(data["quantile_levels"], data[f"{name}_quantiles"], strict=True):
            allowed = 5 * math.sqrt(max(level * (1 - level), 1e-3) / DRAWS)
            assert abs((values < quantile).mean() - level) < allowed, (name, level)


def test_shot_range_is_kept():
    generator = torch.Generator().manual_seed(23)
    shots = [sample_noise_level(generator, shot=(0.002, 0.004)).shot for _ in range(200)]
    assert 0.002 <= min(shots) < 0.0022
    assert 0.0038 < max(shots) <= 0.004


def test_negative_raw_gives_no_nan():
    noisy = NoiseLevel(shot=0.01, read=1e-6).add(torch.tensor([-0.5]), torch.Generator().manual_seed(0))
    assert torch.equal(noisy, torch.tensor([-0.5]))


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_an_impossible_level_is_refused(value):
    with pytest.raises(ValueError, match="read must be finite and >= 0"):
        NoiseLevel(shot=0.01, read=value)
