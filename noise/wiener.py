"""Wiener filtering of a photograph, with a denoised version of it that says where the signal is.

A blind estimate has little noise and has lost detail; the photograph has both. In small overlapping windows, the
spectrum of the estimate (the pilot) tells which frequencies carry picture, and the measured noise how much of the
photograph's own spectrum is noise; each coefficient of the photograph is kept by the empirical Wiener gain (Ghael,
Sayeed and Baraniuk, SPIE 1997)

    G = |P|^2 / (|P|^2 + strength * N),

P a coefficient of the pilot and N the noise's expected energy there. N follows from the measured autocorrelation, so
that noise of long correlation, which lies at low frequencies, is known to lie there; it scales with sigma(x) from
window to window. Colours are filtered in the axes of a cosine transform across the channels: for RGB these are grey,
red - blue, and red - 2 green + blue, as colour noise and texture lie apart there.
"""

import math
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from noise.measured import MeasuredNoise, sigma_at

STRENGTH: Final = 2.0
"""JPEG and cameras leave more noise in texture than in flat areas, where it is measured."""

_SIDE: Final = 16
"""Of a window, in pixels (what others give: docs/results/self-supervised.md)."""

_STEP: Final = 4
"""Between windows; twice as much loses 0.1 dB and more."""

_ROWS: Final = 16
"""Rows of windows that are filtered at once."""

_NOTHING: Final = 1e-20
"""Energy far below that of rounding."""


def wiener(noisy: Tensor, pilot: Tensor, noise: MeasuredNoise, *, strength: float = STRENGTH) -> Tensor:
    """Filter a photograph by what a denoised version and the noise say of its spectrum.

    Args:
        noisy: (C, H, W) float in [0, 1].
        pilot: the photograph with little noise, of the same shape; lost detail does less harm than noise left in.
        noise: of `noise.measured.measure_noise`, measured in C channels.
        strength: factor on the noise's energy; larger is smoother, 0 returns the photograph.

    Returns:
        (C, H, W) float32, not clipped.

    Raises:
        ValueError: shapes that differ, or are smaller than 16x16.
    """
    channels, height, width = noisy.shape
    if pilot.shape != noisy.shape or min(height, width) < _SIDE or noise.kernel.shape[0] != channels:
        raise ValueError(
            f"noisy, pilot and noise must have one number of channels, and the pictures one size of {_SIDE}x{_SIDE} "
            f"or more, got {tuple(noisy.shape)}, {tuple(pilot.shape)} and {noise.kernel.shape[0]} channels"
        )
    noisy, pilot = noisy.float(), pilot.float()
    window = torch.hann_window(_SIDE + 2, periodic=False)[1:-1]
    window = window[:, None] * window
    axes = _colour_axes(channels)
    expected = _expected_energy(noise, window)
    sigma = sigma_at(pilot.clamp(0, 1), torch.from_numpy(noise.sigma))

    # Every pixel is in as many windows as any other; the last window ends at or beyond the border.
    before = _SIDE - _STEP
    after = [before + (-(length + 2 * before - _SIDE)) % _STEP for length in (height, width)]
    padding = (before, after[1], before, after[0])
    noisy, pilot, sigma = (F.pad(image[None], padding, mode="reflect")[0] for image in (noisy, pilot, sigma))
    total, weight = torch.zeros_like(noisy), torch.zeros_like(noisy[:1])
    rows = (noisy.shape[1] - _SIDE) // _STEP + 1
    for first in range(0, rows, _ROWS):
        top = first * _STEP
        bottom = (min(first + _ROWS, rows) - 1) * _STEP + _SIDE
        band = slice(top, bottom)
        part = _filtered(noisy[:, band], pilot[:, band], sigma[:, band], window, axes, expected, strength)
        total[:, band] += _overlaid(part * window, bottom - top, noisy.shape[2])
        weight[:, band] += _overlaid(window.square().expand(1, *part.shape[1:]), bottom - top, noisy.shape[2])
    return (total / weight)[:, before : before + height, before : before + width].contiguous()


def _filtered(
    noisy: Tensor, pilot: Tensor, sigma: Tensor, window: Tensor, axes: Tensor, expected: Tensor, strength: float
) -> Tensor:
    """(C, rows, columns, side, side): every window of a band, filtered and still under the window."""
    seen, known = (image.unfold(1, _SIDE, _STEP).unfold(2, _SIDE, _STEP) for image in (noisy, pilot))
    # Less leaks from the mean into other coefficients when the window does not see it.
    mean = known.mean((-2, -1), keepdim=True)
    seen, known = (
        torch.fft.rfft2(torch.einsum("ij,jrcyx->ircyx", axes, (image - mean) * window)) for image in (seen, known)
    )
    local = F.avg_pool2d(sigma[None], _SIDE, _STEP)[0]
    mixed = torch.einsum("ia,arc->iarc", axes, local)
    # Rounding makes energies of nearly nothing negative, and a gain of them anything.
    energy = strength * torch.einsum("iarc,ibrc,abyx->ircyx", mixed, mixed, expected).clamp_min(0)
    signal = known.real.square() + known.imag.square()
    # Where there is neither, nothing is taken off.
    gain = (signal + _NOTHING) / (signal + energy + _NOTHING)
    kept = torch.fft.irfft2(gain * seen, s=(_SIDE, _SIDE))
    return torch.einsum("ij,ircyx->jrcyx", axes, kept) + mean * window


def _overlaid(parts: Tensor, height: int, width: int) -> Tensor:
    """(C, height, width): the windows (C, rows, columns, side, side) added up where they lie."""
    channels, rows, columns = parts.shape[:3]
    flat = parts.permute(0, 3, 4, 1, 2).reshape(channels, _SIDE * _SIDE, rows * columns)
    whole: Tensor = F.fold(flat, (height, width), _SIDE, stride=_STEP)[:, 0]
    return whole


def _colour_axes(channels: int) -> Tensor:
    """(C, C): the orthonormal cosine transform (DCT-II) across the channels, one axis a row."""
    index = torch.arange(channels, dtype=torch.float64)
    axes = torch.cos(math.pi * index[:, None] * (index + 0.5) / channels)
    axes /= axes.square().sum(1, keepdim=True).sqrt()
    return axes.float()


def _expected_energy(noise: MeasuredNoise, window: Tensor) -> Tensor:
    """(C, C, side, side // 2 + 1): expectation of N_a conj(N_b), N the transform of windowed noise of unit variance.

    The real part: it is all that a symmetric form in real axes takes of a matrix that is its own adjoint.
    """
    size = 2 * _SIDE  # room for the lags of the window, which the kernel's do not exceed
    kernel = torch.from_numpy(noise.kernel)
    transfer = torch.fft.fft2(kernel, s=(size, size))
    correlation = torch.fft.ifft2(torch.einsum("acyx,bcyx->abyx", transfer, transfer.conj())).real
    lags = torch.fft.ifft2(torch.fft.fft2(window, s=(size, size)).abs().square()).real
    # Sampling a spectrum at every second frequency is folding its lags.
    folded = (correlation * lags).unflatten(-2, (2, _SIDE)).unflatten(-1, (2, _SIDE)).sum((-4, -2))
    energy: Tensor = torch.fft.rfft2(folded).real
    return energy.contiguous()
