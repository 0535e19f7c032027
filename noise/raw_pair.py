"""The two raws behind a pair of images: what the sensor recorded with noise, and what it would have without."""

from dataclasses import dataclass
from typing import Final

from torch import Tensor

from noise import tukey_lambda
from noise.camera_noise import raws_of
from noise.corruption import Parameters, generator_from
from noise.eld import DarkExposure
from noise.finish import camera_of, photograph
from noise.sensors import ELD_BLACK, ELD_RANGE, ELD_WHITE
from noise.shot_read import NoiseLevel
from raw.camera import Camera

BLACK: Final = 2048
WHITE: Final = 16383
"""Levels for a sensor of which nothing else is said: 14 bits, on a pedestal that holds 10 deviations of the most
read noise that Brooks et al. draw."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RawPair:
    """One scene twice, as the sensor records it."""

    noisy: Tensor
    """(4, H/2, W/2) float32, planes R Gr Gb B, black 0, white 1, not clipped at black."""

    clean: Tensor
    """The same without noise. For ``eld`` with ``ratio`` times the light, as a long exposure of the scene is."""

    camera: Camera
    """Colours, white balance and CFA pattern of both."""

    level: NoiseLevel
    """Var = shot x + read of ``noisy``, its rounding to digital numbers included where the recipe rounds."""

    black: int
    """Pedestal of the sensor in digital numbers."""

    white: int
    """Its white in digital numbers."""


def raw_pair(clean: Tensor, parameters: Parameters) -> RawPair:
    """Make the raws of the pair that ``noise.recipe.reproduce`` develops.

    Args:
        clean: (3, H, W), the image put in.
        parameters: of ``CameraNoise.draw`` or ``EldNoise.draw``.

    Raises:
        ValueError: another kind of noise, which has no raw.
    """
    if parameters["kind"] == "eld":
        return _dark(clean, parameters)
    if parameters["kind"] != "camera":
        raise ValueError(f"kind: only camera and eld noise have a raw, got {parameters['kind']}")
    camera = camera_of(parameters, clean.device)
    level = NoiseLevel(shot=parameters["shot"], read=parameters["read"])
    noisy, raw = raws_of(photograph(clean, camera, parameters.get("scale")), parameters)
    sensor = parameters.get("sensor") or {}
    bits = sensor.get("bits")
    return RawPair(
        noisy=noisy,
        clean=raw,
        camera=camera,
        level=level,
        black=BLACK if bits is None else sensor["black"],
        white=WHITE if bits is None else 2**bits - 1,
    )


def _dark(clean: Tensor, parameters: Parameters) -> RawPair:
    camera = camera_of(parameters, clean.device)
    exposure = DarkExposure(**parameters["exposure"])
    raw = photograph(clean, camera)
    # As recorded: the brightening by ratio comes later, and would saturate in a file.
    noisy = exposure.add(raw, generator_from(parameters), camera.pattern) / exposure.ratio
    spread = 1.0 if exposure.read_shape is None else tukey_lambda.variance(exposure.read_shape)
    # Rounding to whole digital numbers adds the variance of a uniform distribution one number wide.
    rounding = 1 / 12 if exposure.quantise else 0.0
    read = (exposure.read_scale**2 * spread + exposure.row_std**2 + rounding) / ELD_RANGE**2
    level = NoiseLevel(shot=exposure.gain / ELD_RANGE, read=read)
    return RawPair(noisy=noisy, clean=raw, camera=camera, level=level, black=ELD_BLACK, white=ELD_WHITE)
