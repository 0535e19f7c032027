"""Noise of cameras in the dark, source by source (Wei et al., CVPR 2020, "ELD", equation 3).

``D = K (I + Np) + Nread + Nrow + Nq`` in digital numbers (DN) of 14 bits: photons counted and amplified by the system
gain K, Tukey-lambda read noise, one offset for each row of the sensor, and rounding. The picture is taken with
``ratio`` times too little light and brightened by ``ratio`` afterwards, so what is left of it is a few photons, and
the sensor's own noise is multiplied with them. Calibrations: ``noise.sensors.CAMERAS``.
"""

import math
from dataclasses import asdict, dataclass
from typing import ClassVar, Final, Literal

import torch
from torch import Tensor

from noise import tukey_lambda
from noise.corruption import Corruption, Parameters, draw_seed, generator_from
from noise.finish import PatternChoice, camera_of, check_pattern, develop, draw_camera, draw_pattern, photograph
from noise.poisson_gaussian import shot_noise
from noise.ranges import check_range
from noise.sensor_effects import digitise, row_noise
from noise.sensors import CAMERAS, ELD_BLACK, ELD_RANGE, ELD_WHITE, CameraName, ScaleLine
from raw.arrays import accepts_numpy
from raw.cfa import CFAPattern
from raw.rendering import Rendering

_RENDERING: Final = Rendering()


@dataclass(frozen=True, kw_only=True, slots=True)
class DarkExposure:
    """Every noise source of one exposure, in DN at 14 bits (black 800, white 16383)."""

    gain: float
    """System gain K, DN per photoelectron."""

    ratio: float
    """Light that is missing, and the factor that makes up for it afterwards."""

    read_scale: float
    """Scale of the Tukey-lambda read noise, or the standard deviation of the Gaussian."""

    read_shape: float | None
    """lambda of the Tukey-lambda distribution; None is a Gaussian."""

    row_std: float
    """Standard deviation of a row's offset."""

    offsets: tuple[float, float, float, float]
    """Colour bias of the planes R, Gr, Gb, B."""

    quantise: bool
    """Whether values are rounded to whole DN."""

    @accepts_numpy
    def add(self, raw: Tensor, generator: torch.Generator, pattern: CFAPattern) -> Tensor:
        """Darken by ``ratio``, expose, digitise around the black pedestal, brighten by ``ratio``.

        Args:
            raw: (..., 4, H/2, W/2), planes R Gr Gb B, linear, black 0, white 1.
            generator: its device is where the numbers are drawn.
            pattern: says which planes share a row.

        Returns:
            The same shape; 0 is black, and what lay below black is below 0. At most ``ratio``.
        """
        signal = shot_noise(raw / self.ratio, self.gain / ELD_RANGE, generator)
        if self.read_shape is None:
            read = torch.randn(raw.shape, generator=generator, dtype=raw.dtype, device=generator.device)
        else:
            read = tukey_lambda.sample(tuple(raw.shape), self.read_shape, generator, dtype=raw.dtype)
        signal = signal.add_(read.to(raw.device), alpha=self.read_scale / ELD_RANGE)
        signal = row_noise(signal, self.row_std / ELD_RANGE, generator, pattern)
        if any(self.offsets):
            signal = signal + torch.tensor(self.offsets, dtype=raw.dtype, device=raw.device)[:, None, None] / ELD_RANGE
        return digitise(signal, ELD_BLACK, ELD_WHITE, rounded=self.quantise).mul_(self.ratio)


@dataclass(frozen=True, kw_only=True, slots=True)
class EldNoise:
    """Extreme low light: a calibrated camera exposes too short, and the image is brightened afterwards."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["eld"] = "eld"
    """Tag of this recipe."""

    camera: Literal[CameraName, "random"] = "A7S2"
    """Whose calibration; `random` draws one of the five for each image."""

    ratio: tuple[float, float] = (100.0, 300.0)
    """(lowest, highest) factor by which the exposure is too short, drawn uniformly."""

    read: Literal["tukey_lambda", "gaussian"] = "tukey_lambda"
    """Distribution of the read noise; each has its own calibration."""

    rows: bool = True
    """Row noise."""

    quantise: bool = True
    """Round to whole digital numbers."""

    colour_bias: float = 0.0
    """Standard deviation of an offset of each colour plane, in DN. The paper's calibration of it is not in its text."""

    pattern: PatternChoice = "RGGB"
    """CFA pattern of the camera; `random` draws one of the four."""

    rendering: Rendering = _RENDERING
    """How both raws are developed."""

    def __post_init__(self) -> None:
        check_pattern(self.pattern)
        if self.camera not in (*CAMERAS, "random"):
            raise ValueError(f"camera must be one of {', '.join(CAMERAS)}, random; got {self.camera!r}")
        if self.read not in ("tukey_lambda", "gaussian"):
            raise ValueError(f"read must be tukey_lambda or gaussian, got {self.read!r}")
        check_range("ratio", self.ratio, above_zero=True)
        if not 0 <= self.colour_bias < math.inf:
            raise ValueError(f"colour_bias must be finite and >= 0, got {self.colour_bias}")

    def draw(self, generator: torch.Generator) -> Parameters:
        """Draw one image's colours and gains, exposure, noise ``seed`` and CFA pattern, as JSON values."""
        camera = draw_camera(generator)
        sensor, exposure = self.draw_exposure(generator)
        return {
            "kind": self.kind,
            **camera,
            "sensor": sensor,
            "exposure": asdict(exposure),
            "seed": draw_seed(generator),
            "pattern": draw_pattern(generator, self.pattern),
            "rendering": asdict(self.rendering),
        }

    def draw_exposure(self, generator: torch.Generator) -> tuple[str, DarkExposure]:
        """Draw ln K uniformly in the camera's range and every scale log-normally around its line.

        All numbers are drawn whatever is switched off, so that one seed is one exposure.
        """
        names = tuple(CAMERAS)
        index = int(torch.randint(len(names), (), generator=generator, device=generator.device).item())
        name = names[index] if self.camera == "random" else self.camera
        calibration = CAMERAS[name]
        uniform = torch.rand(3, generator=generator, dtype=torch.float64, device=generator.device).tolist()
        normal = torch.randn(6, generator=generator, dtype=torch.float64, device=generator.device).tolist()
        log_gain = _between(math.log(calibration.gain[0]), math.log(calibration.gain[1]), uniform[0])
        gaussian = self.read == "gaussian"
        bias = [self.colour_bias * number for number in normal[2:]]
        return name, DarkExposure(
            gain=math.exp(log_gain),
            ratio=_between(*self.ratio, uniform[1]),
            read_scale=_scale(calibration.gaussian if gaussian else calibration.tukey_lambda, log_gain, normal[0]),
            read_shape=None if gaussian else _between(*calibration.shape, uniform[2]),
            row_std=_scale(calibration.row, log_gain, normal[1]) if self.rows else 0.0,
            offsets=(bias[0], bias[1], bias[2], bias[3]),
            quantise=self.quantise,
        )


def add_eld_noise(clean: Tensor, parameters: Parameters) -> Corruption:
    """Unprocess, expose in the dark, brighten, process: ``noisy`` with noise, ``clean`` without.

    Args:
        clean: (3, H, W) sRGB; float in [0, 1], or uint8. Odd sizes as in ``add_camera_noise``.
        parameters: of ``EldNoise.draw``.

    Returns:
        Both images (3, H, W) float32 in [0, 1]; ``clean`` is ``process(noise-free raw)`` with all its light, not
        rounded.

    Raises:
        ValueError: ``clean`` does not have three channels.
    """
    camera = camera_of(parameters, clean.device)
    exposure = DarkExposure(**parameters["exposure"])
    raw = photograph(clean, camera)
    noisy = exposure.add(raw, generator_from(parameters), camera.pattern)
    return develop(noisy, raw, camera, parameters, clean.shape[-2:])


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def _scale(line: ScaleLine, log_gain: float, normal: float) -> float:
    return math.exp(line.slope * log_gain + line.bias + line.sigma * normal)
