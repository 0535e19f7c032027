"""The Wiener filter keeps the frequencies where the pilot shows picture, and knows where the noise lies."""

import numpy as np
import pytest
import torch

import noise.wiener as module
from noise.measured import LEVELS, RADIUS, MeasuredNoise, add_measured, gaussian_blur, measure_noise
from noise.wiener import wiener

SIGMA = 0.06


def kernel_of(channels, deviation):
    """A Gaussian blur of ``deviation`` pixels; channels independent, unit variance."""
    lag = torch.arange(-RADIUS, RADIUS + 1)
    taps = torch.exp(-0.5 * (lag / max(deviation, 1e-3)).square())
    kernel = torch.eye(channels)[:, :, None, None] * (taps[:, None] * taps)
    return (kernel / kernel.square().sum((1, 2, 3), keepdim=True).sqrt()).numpy()


def noise_of(channels=3, deviation=0.0, sigma=SIGMA):
    level = np.full((channels, LEVELS), sigma, dtype=np.float32)
    return MeasuredNoise(sigma=level, kernel=kernel_of(channels, deviation))


def picture(channels=3, height=96, width=128):
    """Left half flat, right half stripes of a cosine."""
    image = torch.full((channels, height, width), 0.5)
    columns = torch.arange(width // 2)
    image[:, :, width // 2 :] += 0.2 * torch.cos(2 * torch.pi * columns / 5)
    return image


def faint(clean):
    """A pilot without noise that lost six tenths of the texture."""
    return 0.5 + 0.4 * (clean - 0.5)


def error(image, clean, columns=slice(None)):
    return float((image - clean)[..., columns].square().mean().sqrt())


def drawn(clean, noise, seed=0):
    return add_measured(clean, noise, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("deviation", [0.0, 1.0])
def test_texture_that_the_pilot_shows_faintly_comes_back_without_the_noise(deviation):
    clean, noise = picture(), noise_of(deviation=deviation)
    noisy = drawn(clean, noise)
    pilot = faint(clean)
    result = wiener(noisy, pilot, noise)
    stripes, flat = slice(76, 116), slice(8, 52)
    assert error(result, clean, stripes) < 0.5 * error(pilot, clean, stripes)
    assert error(result, clean, stripes) < 0.6 * error(noisy, clean, stripes)
    assert error(result, clean, flat) < 0.3 * error(noisy, clean, flat)


def test_noise_of_long_correlation_is_sought_at_low_frequencies():
    # The same energy taken for white noise lets the low frequencies through.
    noise, white = noise_of(deviation=1.5), noise_of(deviation=0.0)
    clean = picture()
    noisy = drawn(clean, noise)
    slow = faint(clean) + gaussian_blur(noisy - clean, 2.0)  # a pilot with slow noise left in
    assert error(wiener(noisy, slow, noise), clean) < 0.6 * error(wiener(noisy, slow, white), clean)


def test_the_expected_energy_is_that_of_drawn_noise():
    noise = noise_of(deviation=1.2)
    mixing = torch.tensor([[1.0, 0.4, 0.0], [0.0, 0.9, 0.3], [0.2, 0.0, 1.0]])
    kernel = torch.einsum("ij,jkyx->ikyx", mixing, torch.from_numpy(noise.kernel))
    noise = MeasuredNoise(
        sigma=noise.sigma, kernel=(kernel / kernel.square().sum((1, 2, 3), keepdim=True).sqrt()).numpy()
    )
    window = torch.hann_window(18, periodic=False)[1:-1]
    window = window[:, None] * window
    expected = module._expected_energy(noise, window)
    field = drawn(torch.full((3, 2048, 2048), 0.5), noise_of_unit(noise)) - 0.5
    blocks = field.unfold(1, 16, 16).unfold(2, 16, 16).reshape(3, -1, 16, 16) * window
    spectrum = torch.fft.rfft2(blocks)
    found = torch.einsum("anyx,bnyx->abyx", spectrum, spectrum.conj()).real / blocks.shape[1]
    strongest = expected.diagonal().amax()
    assert float((found - expected).abs().max() / strongest) < 0.04
    assert float(expected[0, 1].abs().max() / strongest) > 0.3  # the channels do share noise


def noise_of_unit(noise):
    return MeasuredNoise(sigma=np.ones_like(noise.sigma), kernel=noise.kernel)


def test_strength_goes_from_the_photograph_to_smooth():
    noise, clean = noise_of(), picture()
    noisy = drawn(clean, noise)
    pilot = gaussian_blur(noisy, 2.0)
    assert torch.allclose(wiener(noisy, pilot, noise, strength=0.0), noisy, atol=1e-5)
    moved = [error(wiener(noisy, pilot, noise, strength=strength), noisy) for strength in (0.5, 2.0, 8.0)]
    assert moved[0] < moved[1] < moved[2]


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 16, 16), (3, 33, 70), (4, 101, 50)])
def test_any_size_and_number_of_channels_is_covered_alike(channels, height, width):
    noise = noise_of(channels)
    flat = torch.full((channels, height, width), 0.5)
    assert torch.allclose(wiener(flat, flat, noise), flat, atol=1e-6)
    axes = module._colour_axes(channels)
    assert torch.allclose(axes @ axes.T, torch.eye(channels), atol=1e-6)


def test_bands_leave_no_seam(monkeypatch):
    noise = noise_of()
    noisy = drawn(picture(height=150), noise)
    pilot = gaussian_blur(noisy, 1.5)
    banded = wiener(noisy, pilot, noise)
    monkeypatch.setattr(module, "_ROWS", 1000)
    assert torch.allclose(banded, wiener(noisy, pilot, noise), atol=1e-6)


def test_a_measured_noise_serves():
    clean = picture()
    noisy = drawn(clean, noise_of(deviation=1.0))
    pilot = faint(clean) + gaussian_blur(noisy - clean, 3.0)
    assert error(wiener(noisy, pilot, measure_noise(noisy, pilot)), clean) < 0.5 * error(noisy, clean)


def test_a_pilot_without_any_structure_gives_no_wild_values():
    # Energies of nearly nothing, of signal and of noise alike, once made gains of thousands.
    noisy = drawn(picture(), noise_of(deviation=1.5))
    result = wiener(noisy, gaussian_blur(noisy, 4.0), noise_of(deviation=1.5))
    assert 0.1 < float(result.min()) < float(result.max()) < 0.9


@pytest.mark.parametrize(
    ("noisy", "pilot", "channels"),
    [((3, 32, 32), (3, 32, 33), 3), ((3, 15, 40), (3, 15, 40), 3), ((1, 32, 32),) * 2 + (3,)],
)
def test_what_does_not_belong_together_is_refused(noisy, pilot, channels):
    with pytest.raises(ValueError, match="one number of channels, and the pictures one size of 16x16"):
        wiener(torch.zeros(noisy), torch.zeros(pilot), noise_of(channels))
