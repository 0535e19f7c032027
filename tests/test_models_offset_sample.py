"""Of a large image the offset is measured on some rows: few enough to keep, and enough to find it."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import correct_offset, fit_offset, level_offset, measure_offset, sampled_rows


def pair(height: int = 1500, width: int = 200) -> tuple[Tensor, Tensor]:
    """A smooth image with noise, and a denoised one that is 4/255 too bright and too flat."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 20, 6, generator=generator)
    clean = 0.2 + 0.6 * torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    noisy = clean + 0.04 * torch.randn(clean.shape, generator=generator)
    return noisy, 0.95 * clean + 0.025 + 4 / 255


@given(height=st.integers(1, 10**6), width=st.integers(1, 10**6))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_sampled_rows_are_few_and_apart_and_a_sample_is_sampled_whole(height: int, width: int) -> None:
    rows = sampled_rows(height, width)
    count = sum(stop - start for start, stop in rows)
    assert rows[0][0] >= 0
    assert rows[-1][1] <= height
    assert all(stop <= following for (_, stop), (following, _) in itertools.pairwise(rows))
    assert count * width <= 1 << 22 or len(rows) == 1
    assert sampled_rows(count, width) == [(0, count)]
    if height * width <= 1 << 22:
        assert count == height
    elif len(rows) > 1:
        # The first and the last stripe are as far from the ends as half the way to the next.
        assert abs(rows[0][0] - (height - rows[-1][1])) <= 2


def test_the_offset_of_a_sample_is_that_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy, denoised = pair()
    whole = measure_offset(noisy, denoised)
    all_mended = correct_offset(noisy, denoised, "level")
    monkeypatch.setattr(level_offset, "_SAMPLED_PIXELS", 200 * 64 * 6)
    rows = sampled_rows(1500, 200)
    assert len(rows) == 6
    kept = [torch.cat([image[:, start:stop] for start, stop in rows], 1) for image in (noisy, denoised)]
    sampled = measure_offset(noisy, denoised)
    assert sampled == measure_offset(*kept)
    assert whole is not None
    assert sampled is not None
    # Six deviations of either: two estimates of one number.
    for one, other, error in zip(whole.mean, sampled.mean, sampled.standard_error, strict=True):
        assert 0 < abs(one - other) < 6 * error
    curve = fit_offset(*kept)
    assert curve is not None
    # Whoever has the sample only mends any rows as the whole image is mended.
    mended = correct_offset(noisy, denoised, "level")
    assert torch.equal(curve.applied(denoised[:, 700:800]), mended[:, 700:800])
    assert (mended - all_mended).abs().max() < 1 / 255
    assert (mended - denoised).abs().mean() > 2 / 255
