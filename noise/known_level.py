"""One (shot, read) pair for a raw file, from whatever the file lets be known, or the reason why there is none.

A DNG's NoiseProfile comes first: it was measured by the maker, without the scene. Where the picture itself shows
clearly other noise, the picture is believed (phones are known whose profile does not follow the ISO speed). Without a
profile the measurement decides (`noise.raw_noise`: the picture, and its masked border for read noise). What the
measurement only bounds is taken at the bound where texture hides the noise, and in the middle where the picture shows
no light or no shadow, as no pixel of it depends on that coefficient then.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

from noise.noise_line import Interval, NoiseLine
from noise.raw_noise import COMPANDED, RawNoise, measure_raw_file, profile_line, tone_curve
from noise.raw_planes import raw_planes
from noise.shot_read import NoiseLevel
from raw.raw_file import RawFile

LARGEST_RATIO: Final = 2.0
"""Measured and stated variance may differ by this factor; beyond it the picture is believed."""

_MIDDLE: Final = 0.18


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownLevel:
    """The noise of one raw file, in normalised units."""

    level: NoiseLevel
    """Var = shot x + read, black 0, white 1."""

    source: Literal["noise profile", "single image", "masked border", "bound"]
    """Where it comes from; ``bound``: the noise is at most this."""

    note: str = ""
    """What to beware of, in words."""


def known_level(raw: RawFile) -> KnownLevel:
    """Decide on the noise level of a raw file.

    Raises:
        ValueError: no pixels of ours, or nothing that tells the noise; says why, without the file's name.
    """
    if (reason := unknown_at_sight(raw)) is not None:
        raise ValueError(reason)
    measured = measure_raw_file(raw)
    line = None if measured is None else measured.pooled
    told = None if line is None else _told(line)
    if raw.noise_profile:
        stated = profile_line(raw.noise_profile)
        assert stated.shot is not None
        assert stated.read is not None
        ratio = _ratio(stated, line) if line is not None and told is not None else 1.0
        if told is None or 1 / LARGEST_RATIO <= ratio <= LARGEST_RATIO:
            return KnownLevel(level=NoiseLevel(shot=stated.shot, read=stated.read), source="noise profile")
        note = f"the picture's noise is believed: the file's NoiseProfile states {ratio:.2g} times its variance"
        return KnownLevel(level=told, source=_source(line), note=note)
    assert line is not None, "of a Bayer mosaic large enough, as was seen"
    assert measured is not None
    if told is not None:
        return KnownLevel(level=told, source=_source(line))
    return _bounded(line, measured)


def unknown_at_sight(raw: RawFile) -> str | None:
    """Say why `known_level` would refuse a raw file, as far as that is seen without measuring; None if it may not."""
    if raw.kind != "bayer":
        return f"expected a Bayer mosaic, found {raw.kind}"
    if raw.noise_profile:
        return None
    split = raw_planes(raw)
    if split is None:
        return "expected a NoiseProfile or a picture to measure the noise in, found fewer than 64x64 pixels"
    curve = tone_curve(raw, split)
    return _neither("; ".join((COMPANDED, *curve))) if curve else None


def _told(line: NoiseLine) -> NoiseLevel | None:
    """The level of a line of which a coefficient may be missing, where the picture has nothing that shows it."""
    shot = _or_middle(line.shot, line.shot_interval)
    read = _or_middle(line.read, line.read_interval)
    if line.shot is None and line.read is None:
        return None
    if shot is None or read is None or shot + read <= 0:
        return None
    return NoiseLevel(shot=shot, read=read)


def _or_middle(value: float | None, interval: Interval) -> float | None:
    if value is not None:
        return value
    middle = (interval[0] + interval[1]) / 2
    return middle if math.isfinite(middle) else None


def _bounded(line: NoiseLine, measured: RawNoise) -> KnownLevel:
    shot, read = line.shot_interval[1], line.read_interval[1]
    why = "; ".join(note for note in (line.note, *measured.notes) if note) or "the picture does not tell it"
    if line.note.startswith("not linear") or not (math.isfinite(shot) and math.isfinite(read) and shot + read > 0):
        raise ValueError(_neither(why))
    note = "the picture tells its noise as an upper bound only"
    return KnownLevel(level=NoiseLevel(shot=shot, read=read), source="bound", note=note)


def _neither(why: str) -> str:
    return f"expected a NoiseProfile or noise that can be measured, found neither ({why})"


def _ratio(stated: NoiseLine, line: NoiseLine) -> float:
    """Stated over measured variance at a middle level that the picture has."""
    levels = [point[0] for point in line.curve] or [_MIDDLE]
    level = min(max(_MIDDLE, min(levels)), max(levels))
    told = _told(line)
    assert told is not None
    return (stated.variance(level) or 0.0) / max(told.shot * level + told.read, 1e-30)


def _source(line: NoiseLine | None) -> Literal["single image", "masked border"]:
    return "masked border" if line is not None and line.method == "masked border" else "single image"
