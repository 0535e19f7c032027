"""Where noise levels come from: specs that say how an exposure's (shot, read) pair is drawn.

All draw ln shot uniformly and then ln read around a curve; they differ in the curve. Logarithms are natural. Each
consumes one uniform and one normal number (a sensor drawn at random one number more), so that two specs with one
seed see the same exposure through different sensors.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal, get_args

import numpy as np
import torch

from noise.by_kind import ByKind
from noise.ranges import check_range, draw_uniform
from noise.sensors import CAMERAS, PHONES, CameraName, PhoneName
from noise.shot_read import READ_INTERCEPT, READ_SLOPE, READ_STD, SHOT_RANGE, NoiseLevel, sample_noise_level

SensorName = Literal[PhoneName, CameraName, "random_phone", "random_camera"]

TRUSTED_PHONES: Final = ("pixel", "nexus_6", "galaxy_s6", "lg_g4")
"""Phones whose metadata follows the ISO, which ``random_phone`` draws from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelLine:
    """A line from ln shot to ln read; by default that of the Darmstadt Noise Dataset (Brooks et al., CVPR 2019)."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["line"] = "line"
    """Tag of this spec."""

    shot: tuple[float, float] = SHOT_RANGE
    """(lowest, highest) shot coefficient, drawn log-uniformly."""

    slope: float = READ_SLOPE
    """Slope of the line."""

    intercept: float = READ_INTERCEPT
    """ln read at shot 1."""

    std: float = READ_STD
    """Standard deviation of ln read around the line."""

    def __post_init__(self) -> None:
        check_range("shot", self.shot, highest=1.0, above_zero=True)
        _check_std(self.std)
        for end in self.shot:
            log_read = self.slope * math.log(end) + self.intercept
            if not log_read <= 0:  # also catches NaN
                raise ValueError(
                    f"slope {self.slope} and intercept {self.intercept} put ln read at {log_read:g} for shot {end:g}; "
                    "it must be at most 0 (read 1)"
                )

    def draw(self, generator: torch.Generator) -> NoiseLevel:
        """Draw one exposure's noise level."""
        return sample_noise_level(generator, shot=self.shot, slope=self.slope, intercept=self.intercept, std=self.std)


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelTable:
    """Measured pairs, one for each ISO; between them ln read is linear in ln shot."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["table"] = "table"
    """Tag of this spec."""

    points: tuple[tuple[float, float], ...]
    """(shot, read) pairs by rising shot. Shot is drawn log-uniformly between the first and the last."""

    std: float = 0.0
    """Standard deviation of ln read around the table."""

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError("points must hold at least one (shot, read) pair, got none")
        for shot, read in self.points:
            if not (0 < shot <= 1 and 0 < read <= 1):
                raise ValueError(f"points must have shot and read above 0 and at most 1, got ({shot}, {read})")
        shots = [shot for shot, _ in self.points]
        if any(here >= there for here, there in itertools.pairwise(shots)):
            raise ValueError(f"points must be in order of rising shot, got shots {shots}")
        _check_std(self.std)

    def draw(self, generator: torch.Generator) -> NoiseLevel:
        """Draw one exposure's noise level."""
        shots = [math.log(shot) for shot, _ in self.points]
        reads = [math.log(read) for _, read in self.points]
        log_shot = draw_uniform((shots[0], shots[-1]), generator)
        log_read = float(np.interp(log_shot, shots, reads)) + self.std * _normal(generator)
        return NoiseLevel(shot=math.exp(log_shot), read=math.exp(log_read))


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorLevels:
    """The levels of a real sensor (``noise.sensors``): a phone's noise profiles, or a camera's calibration."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["sensor"] = "sensor"
    """Tag of this spec."""

    name: SensorName = "pixel"
    """Which sensor; ``random_phone`` and ``random_camera`` draw one for each image. ``iphone_7`` is one constant pair,
    because its metadata does not follow the ISO; ``random_phone`` leaves it out."""

    def __post_init__(self) -> None:
        names = get_args(SensorName)
        if self.name not in names:
            raise ValueError(f"name must be one of {', '.join(names)}, got {self.name!r}")

    def draw(self, generator: torch.Generator) -> NoiseLevel:
        """Draw one exposure's noise level."""
        return self._levels(generator).draw(generator)

    def _levels(self, generator: torch.Generator) -> LevelLine | LevelTable:
        name: str = self.name
        if name == "random_phone":
            name = TRUSTED_PHONES[_choice(generator, len(TRUSTED_PHONES))]
        elif name == "random_camera":
            name = tuple(CAMERAS)[_choice(generator, len(CAMERAS))]
        if name in CAMERAS:
            shot, slope, intercept, std = CAMERAS[name].variance_line()
            return LevelLine(shot=shot, slope=slope, intercept=intercept, std=std)
        return LevelTable(points=PHONES[name])


Levels = Annotated[LevelLine | LevelTable | SensorLevels, ByKind()]
"""How noise levels are drawn; told apart by ``kind``."""


def _normal(generator: torch.Generator) -> float:
    return torch.randn((), generator=generator, dtype=torch.float64, device=generator.device).item()


def _choice(generator: torch.Generator, count: int) -> int:
    return int(torch.randint(count, (), generator=generator, device=generator.device).item())


def _check_std(std: float) -> None:
    if not 0 <= std < math.inf:
        raise ValueError(f"std must be finite and >= 0, got {std}")
