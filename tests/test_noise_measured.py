"""Noise measured on a photograph and its denoised version comes back with the same strength and correlations."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from noise.measured import LEVELS, RADIUS, MeasuredNoise, add_measured, measure_noise, sigma_at, without_darkening


def scene(seed, size=256, cells=5):
    """Smooth shading over all levels with some edges."""
    rows, columns = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    generator = torch.Generator().manual_seed(seed)
    blocks = F.interpolate(torch.rand(1, 3, cells, cells, generator=generator), size=(size, size), mode="nearest")[0]
    return (0.15 + 0.5 * torch.stack([rows, columns, (rows + columns) / 2]) + 0.2 * blocks).clamp(0, 1)


def known_noise():
    """Noise that grows with the level, whose neighbours correlate by 0.5 and whose channels share a part."""
    taps = torch.zeros(3, 3, 2 * RADIUS + 1, 2 * RADIUS + 1)
    box = torch.ones(2, 2) / 4
    mixing = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, 0.5], [0.5, 0.0, 1.0]])
    taps[:, :, RADIUS : RADIUS + 2, RADIUS : RADIUS + 2] = mixing[:, :, None, None] * box
    taps /= taps.square().sum((1, 2, 3), keepdim=True).sqrt()
    level = (torch.arange(LEVELS) + 0.5) / LEVELS
    sigma = torch.stack([0.02 + 0.06 * level, 0.04 + 0 * level, 0.03 + 0.03 * level])
    return MeasuredNoise(sigma=sigma.numpy(), kernel=taps.numpy())


def correlations(noise):
    """Correlation of neighbours (mean over channels) and of the channels 0 and 1, 0 and 2."""
    unit = noise / noise.std((1, 2), keepdim=True)
    flat = unit.flatten(1)
    channels = flat @ flat.T / flat.shape[1]
    return [
        float((unit[:, :, 1:] * unit[:, :, :-1]).mean()),
        float((unit[:, 1:] * unit[:, :-1]).mean()),
        float(channels[0, 1]),
        float(channels[0, 2]),
    ]


def test_strength_and_correlations_are_measured_and_made_again():
    clean, truth = scene(0), known_noise()
    noisy = add_measured(clean, truth, torch.Generator().manual_seed(1))
    found = measure_noise(noisy, clean)
    occurring = slice(4, 12)  # levels that the scene holds
    np.testing.assert_allclose(found.sigma[:, occurring], truth.sigma[:, occurring], rtol=0.12)
    again = add_measured(clean, found, torch.Generator().manual_seed(2))
    made = (again - clean) / sigma_at(clean, torch.from_numpy(found.sigma))
    original = (noisy - clean) / sigma_at(clean, torch.from_numpy(truth.sigma))
    np.testing.assert_allclose(made.std((1, 2)), 1.0, rtol=0.05)
    np.testing.assert_allclose(correlations(made), correlations(original), atol=0.06)


def test_structure_that_a_denoiser_lost_stays_out():
    clean, truth = scene(0, cells=16), known_noise()
    noisy = add_measured(clean, truth, torch.Generator().manual_seed(1))
    blurred = F.avg_pool2d(F.pad(clean[None], (2, 2, 2, 2), mode="replicate"), 5, 1)[0]
    found = measure_noise(noisy, blurred)
    everywhere = (noisy - blurred).std()
    occurring = slice(4, 12)
    np.testing.assert_allclose(found.sigma[:, occurring].mean(), truth.sigma[:, occurring].mean(), rtol=0.1)
    assert everywhere > 1.05 * (noisy - clean).std()  # there was something to keep out


def test_white_noise_stays_white():
    clean = scene(3)
    noisy = clean + 0.05 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(4))
    found = measure_noise(noisy, clean)
    again = add_measured(clean, found, torch.Generator().manual_seed(5)) - clean
    np.testing.assert_allclose(correlations(again), 0.0, atol=0.05)
    assert again.std() == pytest.approx(0.05, rel=0.05)


def test_the_seed_decides_and_scale_scales():
    clean, noise = scene(0, 64), known_noise()
    first, same, other = (add_measured(clean, noise, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    twice = add_measured(clean, noise, torch.Generator().manual_seed(7), scale=2.0)
    torch.testing.assert_close(twice - clean, 2 * (first - clean), atol=1e-6, rtol=1e-4)


def test_what_a_display_curve_darkens_is_given_back():
    clean, noise = scene(0, 64), known_noise()
    dark = add_measured(clean, noise, torch.Generator().manual_seed(7), tone=0.25)
    plain = add_measured(clean, noise, torch.Generator().manual_seed(7))
    assert (dark < plain).all()
    torch.testing.assert_close(without_darkening(dark - plain + clean, noise, 0.25), clean, atol=2e-3, rtol=0)


def test_the_tone_term_is_what_a_gamma_curve_does():
    # Weak white noise in linear light, put through u ** (1 / 2.2): the factor is (2.2 - 1) / 2.
    linear, deviation = 0.2, 0.02
    noise = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0)).double()
    display = (linear + deviation * noise).pow(1 / 2.2)
    true = linear ** (1 / 2.2)
    predicted = -0.6 * float(display.var()) / true
    assert float(display.mean()) - true == pytest.approx(predicted, rel=0.1)


def test_grey_images_have_noise_of_one_channel():
    clean = scene(0)[:1]
    noisy = clean + 0.03 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(4))
    found = measure_noise(noisy, clean)
    assert found.sigma.shape == (1, LEVELS)
    assert found.kernel.shape == (1, 1, 2 * RADIUS + 1, 2 * RADIUS + 1)
    with pytest.raises(ValueError, match="measured in 1 channels, the image has 3"):
        add_measured(scene(0), found, torch.Generator())


@pytest.mark.parametrize("shapes", [((3, 64, 64), (3, 64, 63)), ((64, 64), (64, 64)), ((3, 31, 64), (3, 31, 64))])
def test_what_cannot_be_measured_is_refused(shapes):
    with pytest.raises(ValueError, match="32x32 or more"):
        measure_noise(torch.zeros(shapes[0]), torch.zeros(shapes[1]))
