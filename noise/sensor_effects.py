"""What a sensor adds beside shot and read noise, and how its readout digitises the sum.

The order is the signal's own way through the sensor (notation as in Wei et al., CVPR 2020):

1. PRNU. Pixels differ in sensitivity, so it scales the *light*: photons are counted after it.
2. Shot noise (``NoiseLevel.add``, ``add_poisson_gaussian``); read noise, which is independent, in the same step.
3. Hot pixels leak charge, in the pixel, with no regard to the light.
4. Row noise and colour bias come from the electronics that read rows and colours out.
5. The black pedestal is added *before* the converter, so that noise below black survives it.
6. The converter rounds to whole digital numbers (DN) and clips to [0, white]. It sits before white balance: what
   saturates here is the same in every channel, and the gains of white balance stretch it apart.
7. Black is subtracted and white scaled to 1, *without* clipping at 0, which would brighten the shadows.

All of it is off by default, which is the model of Brooks et al. (CVPR 2019).
"""

import math
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from noise.corruption import Parameters, draw_seed
from noise.ranges import check_range, draw_uniform
from noise.shot_read import NoiseLevel
from raw.arrays import accepts_numpy
from raw.cfa import CFAPattern, plane_sites

_RANGES = ("prnu", "hot_pixels", "rows", "colour_bias")


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorEffects:
    """Imperfections of a sensor beside shot and read noise; each image draws its own values."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    prnu: tuple[float, float] = (0.0, 0.0)
    """(lowest, highest) relative deviation of the pixels' sensitivity c, which adds c^2 x^2 to the variance; 0.005 to
    0.01 is usual."""

    hot_pixels: tuple[float, float] = (0.0, 0.0)
    """(lowest, highest) fraction of the pixels that are hot."""

    hot_level: float = 0.2
    """Mean excess of a hot pixel, white = 1; exponentially distributed."""

    rows: tuple[float, float] = (0.0, 0.0)
    """(lowest, highest) deviation of a whole row's offset, as a multiple of the read noise's deviation sqrt(read).
    The cameras of ELD have about 0.05 to 0.2."""

    colour_bias: tuple[float, float] = (0.0, 0.0)
    """(lowest, highest) deviation of the offset of each colour plane (dark shading), as a multiple of sqrt(read)."""

    bits: int | None = None
    """Depth of the converter: values are rounded to whole DN and clipped to [0, 2^bits - 1], which is white. None
    neither rounds nor clips."""

    black: int = 0
    """Black pedestal in DN, with ``bits``. 0 cuts off all noise below black, as cameras do that subtract it."""

    def __post_init__(self) -> None:
        for name in _RANGES:
            limit = 1.0 if name in ("prnu", "hot_pixels") else math.inf
            check_range(name, getattr(self, name), highest=limit)
        if not 0 <= self.hot_level < math.inf:
            raise ValueError(f"hot_level must be finite and >= 0, got {self.hot_level}")
        if self.bits is None:
            if self.black != 0:
                raise ValueError(f"black is in digital numbers, so {self.black} needs bits")
        elif not 4 <= self.bits <= 16:
            raise ValueError(f"bits must be from 4 to 16, got {self.bits}")
        elif not 0 <= self.black < 2 ** (self.bits - 1):
            raise ValueError(f"black must be from 0 to half of white, {2 ** (self.bits - 1) - 1}, got {self.black}")

    def draw(self, generator: torch.Generator, level: NoiseLevel) -> Parameters | None:
        """Draw one image's sensor, with a seed of its own, so that other noise stays the same with or without it.

        Returns:
            JSON values: ``prnu``, ``hot_fraction``, ``hot_level``, ``row_std`` and four ``offsets`` (white = 1),
            ``bits``, ``black``, ``seed``. None if everything is off; then nothing was drawn.
        """
        if all(getattr(self, field.name) == field.default for field in fields(self) if field.name != "hot_level"):
            return None
        unit = math.sqrt(level.read)
        prnu, hot_fraction, row_std, bias = (draw_uniform(getattr(self, name), generator) for name in _RANGES)
        offsets = torch.randn(4, generator=generator, dtype=torch.float64, device=generator.device) * bias * unit
        return {
            "prnu": prnu,
            "hot_fraction": hot_fraction,
            "hot_level": self.hot_level,
            "row_std": row_std * unit,
            "offsets": offsets.tolist(),
            "bits": self.bits,
            "black": self.black,
            "seed": draw_seed(generator),
        }


@accepts_numpy
def vary_sensitivity(light: Tensor, prnu: float, generator: torch.Generator) -> Tensor:
    """Step 1: ``x (1 + prnu * n)`` with a standard normal n for each pixel, none below 0.

    Args:
        light: any shape, linear.
        prnu: relative deviation of the sensitivity.
        generator: its device is where the numbers are drawn.
    """
    if prnu == 0:
        return light
    return light * (1.0 + prnu * _normal(light.shape, light, generator)).clamp_(min=0.0)


@accepts_numpy
def add_hot_pixels(raw: Tensor, fraction: float, level: float, generator: torch.Generator) -> Tensor:
    """Step 3: a random ``fraction`` of all pixels gains an exponentially distributed excess of mean ``level``.

    Args:
        raw: any shape, linear, white 1.
        fraction: of the pixels, in [0, 1].
        level: mean excess.
        generator: its device is where the numbers are drawn.
    """
    if fraction == 0:
        return raw
    # One number makes both: given u < fraction, u / fraction is uniform, and its logarithm exponential.
    u = torch.rand(raw.shape, generator=generator, dtype=torch.float64, device=generator.device)
    excess = torch.where(u < fraction, (u / fraction).clamp_(min=2.0**-54).log_().mul_(-level), 0.0)
    return raw + excess.to(raw.device, raw.dtype)


@accepts_numpy
def row_noise(raw: Tensor, std: float, generator: torch.Generator, pattern: CFAPattern) -> Tensor:
    """Step 4: one ``N(0, std^2)`` for each row of the *mosaic*, which its two colours share.

    Args:
        raw: (..., 4, H/2, W/2), planes R Gr Gb B.
        std: in the units of ``raw``.
        generator: its device is where the numbers are drawn.
        pattern: says which planes share a row: R and Gr always do, in even rows or in odd ones.
    """
    if std == 0:
        return raw
    *batch, _, height, _ = raw.shape
    rows = _normal((*batch, height, 2), raw, generator)
    offsets = torch.stack([rows[..., site[0]] for site in plane_sites(pattern)], dim=-2)
    return raw + std * offsets[..., None]


@accepts_numpy
def digitise(raw: Tensor, black: int, white: int, *, rounded: bool = True) -> Tensor:
    """Steps 5 to 7: pedestal, rounding to whole DN, clipping to [0, ``white``], and back to black 0, white 1.

    Args:
        raw: any shape, linear, black 0, white 1.
        black: pedestal in DN.
        white: highest DN.
        rounded: False clips only.

    Returns:
        The same shape, from ``-black / (white - black)`` to 1.
    """
    numbers = raw * (white - black) + black
    if rounded:
        numbers = numbers.round_()
    return numbers.clamp_(0, white).sub_(black).div_(white - black)


def read_out(raw: Tensor, sensor: Parameters, generator: torch.Generator, pattern: CFAPattern) -> Tensor:
    """Steps 3 to 7 for what ``SensorEffects.draw`` returned.

    Args:
        raw: (..., 4, H/2, W/2) with shot and read noise, black 0, white 1.
        sensor: the drawn values.
        generator: at the sensor's ``seed``, after ``vary_sensitivity`` has used it.
        pattern: the CFA pattern.
    """
    raw = add_hot_pixels(raw, sensor["hot_fraction"], sensor["hot_level"], generator)
    raw = row_noise(raw, sensor["row_std"], generator, pattern)
    if any(sensor["offsets"]):
        raw = raw + torch.tensor(sensor["offsets"], dtype=raw.dtype, device=raw.device)[:, None, None]
    if sensor["bits"] is not None:
        raw = digitise(raw, sensor["black"], 2 ** sensor["bits"] - 1)
    return raw


def _normal(size: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(size, generator=generator, dtype=like.dtype, device=generator.device).to(like.device)
