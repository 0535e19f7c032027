"""The variance-stabilising curve: one deviation at every level, an exact inverse, and medians that pass through it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from noise.shot_read import NoiseLevel
from noise.stabilised import deviation, restore, stabilise

LEVELS = [(1e-4, 1e-6), (1e-2, 1e-3), (4e-3, 2e-5), (0.0, 1e-4), (1e-3, 0.0)]


@pytest.mark.parametrize(("shot", "read"), LEVELS)
def test_the_curve_rises_from_black_to_white_and_comes_back(shot: float, read: float) -> None:
    level = NoiseLevel(shot=shot, read=read)
    raw = np.linspace(-0.05, 1.2, 20001, dtype=np.float32)
    curve = stabilise(raw, level)
    assert curve.dtype == np.float32
    assert (np.diff(curve) > 0).all()
    np.testing.assert_allclose(stabilise(np.array([0, 1]), level), [0, 1], atol=1e-6)
    np.testing.assert_allclose(restore(curve, level), raw, atol=1e-6)


@pytest.mark.parametrize(("shot", "read"), LEVELS[:4])
@pytest.mark.parametrize("light", [0.0, 0.02, 0.1, 0.5, 0.9])
def test_noise_has_one_deviation_and_its_median_is_the_light(shot: float, read: float, light: float) -> None:
    level = NoiseLevel(shot=shot, read=read)
    noisy = level.add(torch.full((100_000,), light), torch.Generator().manual_seed(0)).numpy()
    curve = stabilise(noisy, level)
    few_electrons = light == 0 and read < 4 * shot**2
    assert curve.std() == pytest.approx(deviation(level), rel=0.3 if few_electrons else 0.08)
    # 1.25 / sqrt(n) of a deviation is the error of a median.
    error = restore(np.median(curve), level) - light
    assert abs(error) < 5 * 1.25 / np.sqrt(100_000) * np.sqrt(shot * light + read)


def test_no_noise_has_no_curve() -> None:
    with pytest.raises(ValueError, match="shot and read must not both be 0"):
        stabilise(np.zeros(3, np.float32), NoiseLevel(shot=0.0, read=0.0))
