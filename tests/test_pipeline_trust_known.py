"""What is known of the noise in crops is known of their middles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.evaluation.trust_flat import covariance, cut_patches
from pipeline.evaluation.trust_known import channels_last, known_noise, middles

IMAGES = np.array([0, 0, 1, 1, 1, 2])


@pytest.fixture
def noisy() -> torch.Tensor:
    """Six crops of three flat images, one of them with texture in the middle."""
    random = torch.Generator().manual_seed(0)
    levels = torch.tensor([0.3, 0.5, 0.7])[IMAGES].view(-1, 1, 1, 1)
    crops = levels + 0.05 * torch.randn(6, 3, 96, 96, generator=random)
    crops[5, :, 24:72, 24:72] = (torch.rand(48, 48, generator=random) < 0.5).float()
    return crops.clamp(0, 1)


@pytest.mark.parametrize(
    ("side", "first", "last"), [(88, 0, 88), (80, 8, 88), (64, 16, 80), (40, 24, 64), (112, 0, 96)]
)
def test_it_is_their_own_patches_with_the_noise_of_the_whole(
    noisy: torch.Tensor, side: int, first: int, last: int
) -> None:
    known = known_noise(noisy, IMAGES)
    assert [part.tolist() for part, _ in known] == [[0, 1], [2, 3, 4], [5]]
    cut, inside = middles(noisy, known, side)
    assert torch.equal(cut, noisy[..., first:last, first:last])
    # Of the textured one nothing flat is left in its middle.
    assert [part.tolist() for part, _ in inside] == [[0, 1], [2, 3, 4], [5]][: 2 if side <= 64 else 3]
    for (part, areas), (_, whole) in zip(inside, known, strict=False):
        assert areas.reference is whole.reference
        patches = cut_patches(channels_last(cut[part]))
        assert np.array_equal(areas.patch_energy, covariance(patches, patches))
        assert len(areas.flat) == len(areas.group) == len(areas.level) == len(patches)


def test_a_side_that_is_shorter_stays_whole(noisy: torch.Tensor) -> None:
    wide = torch.cat([noisy, noisy], dim=3)
    cut, inside = middles(wide, known_noise(wide, IMAGES), 112)
    assert torch.equal(cut, wide[..., 40:152])
    patches = cut_patches(channels_last(cut[inside[0][0]]))
    assert np.array_equal(inside[0][1].patch_energy, covariance(patches, patches))
