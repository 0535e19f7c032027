"""Blind prediction and measurement combined by the known noise, and local levels kept."""

from __future__ import annotations

import torch

from pipeline.inference.known_noise import combine, keep_levels

SIGMA = 0.1
NOISE = torch.tensor([[0.0, SIGMA**2]])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_right_prediction_stays_and_a_wrong_one_gives_way_to_the_measurement() -> None:
    clean = torch.zeros(1, 4, 64, 64)
    texture = 5 * SIGMA * normal(1, 4, 64, 64, seed=1)
    clean[..., 32:] = texture[..., 32:]  # which no neighbour tells
    noisy = clean + SIGMA * normal(1, 4, 64, 64)
    blind = torch.zeros_like(clean)
    made = combine(noisy, blind, NOISE)
    flat, detail = ((made - clean)[..., part].square().mean() / SIGMA**2 for part in (slice(0, 29), slice(35, 64)))
    assert flat < 0.15
    # The best linear combination has the energy 25 / 26 of the noise; the blind one 25.
    assert 0.8 < detail < 1.05


def test_it_never_leaves_the_range_between_the_two() -> None:
    noisy, blind = normal(2, 4, 20, 21), normal(2, 4, 20, 21, seed=1)
    made = combine(noisy, blind, torch.tensor([[0.5, 0.1], [0.0, 0.0]]))
    assert (torch.minimum(noisy, blind) - 1e-6 <= made).all()
    assert (made <= torch.maximum(noisy, blind) + 1e-6).all()
    # No noise: the measurement is right.
    torch.testing.assert_close(made[1], noisy[1], atol=1e-5, rtol=0)


def test_shot_noise_follows_the_level() -> None:
    """Residuals of one size are noise where it is bright and detail where it is dark."""
    blind = torch.cat([torch.full((1, 4, 32, 32), 0.01), torch.full((1, 4, 32, 32), 0.9)], dim=3)
    residual = (0.9 * 1e-2) ** 0.5 * normal(1, 4, 32, 64)
    made = combine(blind + residual, blind, torch.tensor([[1e-2, 1e-6]]))
    kept = (made - blind).square().mean((0, 1, 2)) / residual.square().mean((0, 1, 2))
    assert kept[:28].min() > 0.9
    assert kept[36:].mean() < 0.2


def test_levels_of_every_plane_are_those_of_the_measurement() -> None:
    clean = torch.linspace(0.1, 0.3, 100).expand(1, 4, 120, 100)
    noisy = clean + SIGMA * normal(1, 4, 120, 100)
    shifted = clean - torch.tensor([0.02, -0.03, 0.01, 0.0])[None, :, None, None]
    mended = keep_levels(noisy, shifted)
    # The mean of 33x33 values has 1/33 of their deviation.
    assert (mended - clean).std() < 1.5 * SIGMA / 33
    assert ((mended - clean).mean((0, 2, 3)).abs() < 4 * SIGMA / 110).all()
