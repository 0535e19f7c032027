"""Recharging: giving a smooth estimate back the structure that it lost, and not the noise.

Several blind estimates of one photograph err in different ways: far-apart samples (a large PD stride) take away noise
of long correlation and blur detail, near ones the reverse. Their mean is the start. Then, from each finer estimate and
at last from the photograph itself, what is missing is given back where its local energy E exceeds what the noise alone
explains there, N, as a Wiener filter does with E - N for the signal:

    x <- x + max(0, 1 - margin * N / E) * (finer - x).

N is the mean energy of the same difference in flat areas of the same brightness. No clean image is needed.
"""

from collections.abc import Sequence
from typing import Final

from torch import Tensor

from noise.measured import flat_areas, gaussian_blur, level_of, mean_by_level

MARGIN: Final = 3.0
"""JPEG and cameras leave more noise in texture than in flat areas, where N is measured."""

_WINDOW: Final = 2.0
"""Standard deviation in pixels of the window in which energies are averaged."""


def recharge(noisy: Tensor, estimates: Sequence[Tensor], *, margin: float = MARGIN) -> Tensor:
    """Give the first estimate back the structure that the others, and the noisy picture, show beyond noise.

    Args:
        noisy: (C, H, W) float in [0, 1].
        estimates: one or more of the same shape, from smooth to fine; the first is the start.
        margin: factor on the energy that noise explains; larger is smoother.

    Returns:
        (C, H, W) float32.

    Raises:
        ValueError: no estimate, or one of another shape.
    """
    if not estimates or any(estimate.shape != noisy.shape for estimate in estimates):
        raise ValueError(f"estimates must be one or more of shape {tuple(noisy.shape)}")
    result, *finer = estimates
    # Of the photograph, not of an estimate: one that has lost all structure looks flat everywhere.
    flat = flat_areas(noisy)
    for other in (*finer, noisy):
        missing = other - result
        energy = gaussian_blur(missing.square(), _WINDOW).mean(0)
        gain = (1 - margin * _explained(energy, result, flat) / energy.clamp_min(1e-12)).clamp(0, 1)
        result = result + gain * missing
    return result


def _explained(energy: Tensor, image: Tensor, flat: Tensor) -> Tensor:
    """(H, W): mean of ``energy`` over the flat pixels of the brightness of each pixel."""
    grey = image.mean(0, keepdim=True)
    return mean_by_level(energy[None], grey, flat)[0][level_of(grey)[0]]
