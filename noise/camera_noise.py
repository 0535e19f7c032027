"""Noise as a camera makes it: added to the raw, then developed with the image (Brooks et al., CVPR 2019).

After white balance, demosaicing, colour correction and gamma the noise depends on the signal, is correlated
over about two pixels and between the channels, and does not have zero mean.
"""

import math
from dataclasses import asdict, dataclass
from typing import ClassVar, Final, Literal, get_args

import torch
from torch import Tensor

from noise.corruption import Corruption, Parameters, draw_seed, generator_from
from noise.finish import PatternChoice, camera_of, check_pattern, develop, draw_camera, draw_pattern, photograph
from noise.levels import LevelLine, Levels
from noise.poisson_gaussian import add_poisson_gaussian
from noise.ranges import check_range, draw_log_uniform, draw_uniform
from noise.sensor_effects import SensorEffects, read_out, vary_sensitivity
from noise.shot_read import NoiseLevel
from raw.jpeg import Subsampling
from raw.rendering import Rendering

_LEVELS: Final = LevelLine()
_RENDERING: Final = Rendering()
_SENSOR: Final = SensorEffects()


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraNoise:
    """Shot and read noise of a random camera at a random noise level, one draw per image; more on request."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["camera"] = "camera"
    """Tag of this recipe."""

    levels: Levels = _LEVELS
    """How the noise level (shot, read) of an image is drawn: `line`, `table` or `sensor`."""

    photons: Literal["gaussian", "poisson"] = "gaussian"
    """Shot noise as a Gaussian of the right variance, or photons counted one by one."""

    pattern: PatternChoice = "RGGB"
    """CFA pattern of the camera; `random` draws one of the four."""

    rendering: Rendering = _RENDERING
    """How both raws are developed."""

    sensor: SensorEffects = _SENSOR
    """Effects beside shot and read noise: black level, bit depth, row noise, hot pixels and others; all off."""

    jpeg: tuple[float, float] | None = None
    """(lowest, highest) JPEG quality, 1 to 100, of the noisy image; None writes none."""

    subsampling: Subsampling = "4:2:0"
    """Chroma subsampling of the JPEG."""

    resize: tuple[float, float] | None = None
    """(lowest, highest) scale, 0.25 to 4, of the finished images against the size they were taken at; None keeps
    the size. The output always has the size of the input: the picture is taken 1 / scale times as large."""

    exposure: tuple[float, float] | None = None
    """(lowest, highest) factor, above 0 and up to 1, on the light of the picture before the noise; None leaves it. Most
    training images are brighter than the photos that need denoising."""

    tint: float = 0.0
    """Largest natural logarithm, up or down, by which red and blue light differ from that of the picture, as under
    coloured light; at most 1. Networks else learn that shadows are grey, as those of most pictures are."""

    saturation: tuple[float, float] | None = None
    """(lowest, highest) `rendering.saturation`, up to 2, drawn for each image; None takes that of ``rendering``."""

    black_error: tuple[float, float] | None = None
    """(lowest, highest) light, white = 1, within 0.1 of 0, that is left in both raws by a black level that is off; None
    leaves none. White balance multiplies it: shadows of phones are often magenta, and are to stay so."""

    def __post_init__(self) -> None:
        check_pattern(self.pattern)
        if self.saturation is not None:
            check_range("saturation", self.saturation, highest=2.0)
        check_range("tint", (0.0, self.tint), highest=1.0)
        if self.photons not in ("gaussian", "poisson"):
            raise ValueError(f"photons must be gaussian or poisson, got {self.photons!r}")
        if self.subsampling not in get_args(Subsampling):
            raise ValueError(f"subsampling must be one of {', '.join(get_args(Subsampling))}; got {self.subsampling!r}")
        if self.jpeg is not None:
            check_range("jpeg", self.jpeg, least=1, highest=100)
        if self.resize is not None:
            check_range("resize", self.resize, least=0.25, highest=4)
        if self.exposure is not None:
            check_range("exposure", self.exposure, highest=1.0, above_zero=True)
        if self.black_error is not None:
            check_range("black_error", self.black_error, least=-0.1, highest=0.1)

    def draw(self, generator: torch.Generator) -> Parameters:
        """Draw one image's camera, noise level and noise ``seed``, then whatever else is on, as JSON values.

        In that order: switching an effect on leaves the camera, the level and the other noise of an image as
        they were.
        """
        camera = draw_camera(generator)
        level = self.levels.draw(generator)
        seed = draw_seed(generator)
        drawn = {
            "kind": self.kind,
            **camera,
            "pattern": draw_pattern(generator, self.pattern),
            "shot": level.shot,
            "read": level.read,
            "seed": seed,
            "photons": self.photons,
            "rendering": asdict(self.rendering),
            "sensor": self.sensor.draw(generator, level),
            "jpeg": None if self.jpeg is None else round(draw_uniform(self.jpeg, generator)),
            "subsampling": self.subsampling,
            "scale": None if self.resize is None else draw_log_uniform(self.resize, generator),
            "exposure": None if self.exposure is None else draw_log_uniform(self.exposure, generator),
            "tint": None if self.tint == 0 else [draw_uniform((-self.tint, self.tint), generator) for _ in range(2)],
        }
        if self.saturation is not None:
            drawn["rendering"]["saturation"] = draw_uniform(self.saturation, generator)
        if self.black_error is not None:
            drawn["black_error"] = draw_uniform(self.black_error, generator)
        return drawn


def add_camera_noise(clean: Tensor, parameters: Parameters) -> Corruption:
    """Unprocess, add the sensor's noise, process: ``noisy`` with noise, ``clean`` without.

    Args:
        clean: (3, H, W) sRGB; float in [0, 1], or uint8. Odd sizes are extended by one repeated row or column
            for the mosaic and cut back afterwards.
        parameters: of ``CameraNoise.draw``. Those of version 0.1, which end at ``seed``, mean the same as then.

    Returns:
        Both images (3, H, W) float32 in [0, 1]. ``clean`` is ``process(noise-free raw)``, *not* the input:
        the pipeline darkens and softens, and the only error left for a denoiser to remove must be the
        noise.

    Raises:
        ValueError: ``clean`` does not have three channels.
    """
    camera = camera_of(parameters, clean.device)
    noisy, raw = raws_of(photograph(clean, camera, parameters.get("scale")), parameters)
    return develop(noisy, raw, camera, parameters, clean.shape[-2:])


def raws_of(light: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
    """Return the two raws of a pair, with noise and without.

    Args:
        light: of ``photograph``, or a part of it: packed raw (4, H/2, W/2), linear, black 0, white 1.
        parameters: of ``CameraNoise.draw``.
    """
    level = NoiseLevel(shot=parameters["shot"], read=parameters["read"])
    raw = lit(light, parameters)
    noisy = expose(raw, level, parameters)
    # No light, so there is no noise of it: it is what the converter forgets to subtract.
    error = parameters.get("black_error", 0.0)
    return (noisy + error, raw + error) if error else (noisy, raw)


def expose(raw: Tensor, level: NoiseLevel, parameters: Parameters) -> Tensor:
    """Add the noise of the whole sensor that ``parameters`` describe to a packed raw, black 0, white 1.

    ``noise.sensor_effects`` gives reasons for the order.
    """
    sensor = parameters.get("sensor")
    if sensor is None:
        return _shot_and_read(raw, level, parameters)
    own = generator_from(sensor)
    light = vary_sensitivity(raw, sensor["prnu"], own)
    return read_out(_shot_and_read(light, level, parameters), sensor, own, parameters["pattern"])


def _shot_and_read(light: Tensor, level: NoiseLevel, parameters: Parameters) -> Tensor:
    if parameters.get("photons") == "poisson":
        return add_poisson_gaussian(light, level, generator_from(parameters))
    return level.add(light, generator_from(parameters))


def lit(raw: Tensor, parameters: Parameters) -> Tensor:
    """Scale the light of a packed raw (4, H/2, W/2) by the drawn exposure, and of its red and blue by the tint."""
    red, blue = parameters.get("tint") or (0.0, 0.0)
    exposure = parameters.get("exposure") or 1.0
    factors = [exposure * math.exp(red), exposure, exposure, exposure * math.exp(blue)]
    if factors == [1.0] * 4:
        return raw
    return (raw * raw.new_tensor(factors)[:, None, None]).clamp_(max=1.0)
