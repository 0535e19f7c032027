"""Noise of real sensors: the phones of SIDD and the cameras of ELD.

Phones: the noise profiles that the phones themselves wrote into the DNG files of the Smartphone Image Denoising
Dataset (Abdelhamed et al., CVPR 2018), rounded to 1e-6 as Noise Flow published them (Abdelhamed et al., ICCV 2019,
``cam_iso_nlf_all.txt``).

Cameras: the calibrations of Wei et al., "A Physics-based Noise Formation Model for Extreme Low-light Raw Denoising"
(CVPR 2020), from flat fields and bias frames. There the scale of each noise source is log-normal around a power
of the system gain K. Of the D850's two profiles this is the first.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

PhoneName = Literal["pixel", "nexus_6", "galaxy_s6", "lg_g4", "iphone_7"]

PHONES: Final[dict[str, tuple[tuple[float, float], ...]]] = {
    "pixel": ((2.28e-4, 2e-6), (8.86e-4, 5e-6), (1.764e-3, 1.2e-5), (3.519e-3, 4.5e-5), (7.029e-3, 1.79e-4)),
    "nexus_6": ((4.73e-4, 3e-6), (1.76e-3, 1.3e-5), (3.476e-3, 5.2e-5), (6.909e-3, 2.08e-4), (1.3773e-2, 8.33e-4)),
    "galaxy_s6": ((4.79e-4, 2e-6), (1.774e-3, 2e-6), (3.696e-3, 2e-6), (8.211e-3, 2e-6), (1.993e-2, 2e-6)),
    "lg_g4": ((7.39e-4, 2e-6), (1.86e-3, 2e-6), (3.356e-3, 6.3e-5)),
    "iphone_7": ((7e-4, 3e-6),),
}
"""(shot, read) at rising ISO: 100, 400, 800, 1600, 3200, as far as the phone goes.

Two are doubtful: the iPhone 7 states the same pair at every ISO, so its metadata does not describe its noise, and
the Galaxy S6 states the same read noise at every ISO.
"""

CameraName = Literal["5D4", "700D", "70D", "D850", "A7S2"]

ELD_BLACK: Final = 800
ELD_WHITE: Final = 16383
ELD_RANGE: Final = ELD_WHITE - ELD_BLACK
"""Black level, white level and their difference in digital numbers (DN) at 14 bits, as the paper's code has them."""


class ScaleLine(NamedTuple):
    """``ln scale ~ N(slope * ln K + bias, sigma^2)``, scale in DN."""

    slope: float
    """Of the line."""

    bias: float
    """ln scale at K = 1."""

    sigma: float
    """Deviation from the line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """What was measured of one camera."""

    gain: tuple[float, float]
    """(lowest, highest) system gain K, in DN per electron."""

    gaussian: ScaleLine
    """Read noise as a Gaussian: its standard deviation."""

    tukey_lambda: ScaleLine
    """Read noise as a Tukey-lambda distribution: its scale."""

    row: ScaleLine
    """Row noise: its standard deviation."""

    shape: tuple[float, float]
    """(lowest, highest) lambda of the Tukey-lambda distribution; lower has longer tails, 0.14 is almost normal."""

    def variance_line(self) -> tuple[tuple[float, float], float, float, float]:
        """The same with Gaussian read noise in normalised raw.

        ``shot = K / range`` and ``read = (scale / range)^2``.

        Returns:
            (lowest, highest) shot, and slope, intercept and deviation of the line from ln shot to ln read.
        """
        line, log_range = self.gaussian, math.log(ELD_RANGE)
        intercept = 2 * (line.bias + (line.slope - 1) * log_range)
        return (self.gain[0] / ELD_RANGE, self.gain[1] / ELD_RANGE), 2 * line.slope, intercept, 2 * line.sigma


CAMERAS: Final[dict[str, Calibration]] = {
    "5D4": Calibration(
        gain=(0.218, 13.96),
        gaussian=ScaleLine(0.677, 1.512, 0.246),
        tukey_lambda=ScaleLine(0.656, 1.093, 0.286),
        row=ScaleLine(0.471, -0.808, 0.244),
        shape=(0.014, 0.2),
    ),
    "700D": Calibration(
        gain=(0.448, 28.65),
        gaussian=ScaleLine(0.652, 2.080, 0.258),
        tukey_lambda=ScaleLine(0.598, 1.537, 0.389),
        row=ScaleLine(0.622, -0.776, 0.248),
        shape=(-0.157, 0.129),
    ),
    "70D": Calibration(
        gain=(0.407, 26.08),
        gaussian=ScaleLine(0.568, 1.998, 0.249),
        tukey_lambda=ScaleLine(0.487, 1.464, 0.382),
        row=ScaleLine(0.729, -0.937, 0.250),
        shape=(-0.171, 0.143),
    ),
    "D850": Calibration(
        gain=(0.415, 26.56),
        gaussian=ScaleLine(0.563, 0.799, 0.214),
        tukey_lambda=ScaleLine(0.477, -0.090, 0.239),
        row=ScaleLine(0.448, -1.798, 0.232),
        shape=(-0.243, -0.1),
    ),
    "A7S2": Calibration(
        gain=(0.094, 6.01),
        gaussian=ScaleLine(0.541, 1.218, 0.268),
        tukey_lambda=ScaleLine(0.462, 0.566, 0.263),
        row=ScaleLine(0.528, -0.592, 0.294),
        shape=(-0.143, 0.129),
    ),
}
"""Canon EOS 5D Mark IV, 700D and 70D, Nikon D850, Sony A7S II."""
