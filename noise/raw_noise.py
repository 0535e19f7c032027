"""The noise of one raw exposure: every sign that the file gives, and where they disagree.

In order of preference: the variances of the picture itself (`noise.line_fit`); for read noise the masked border
(`noise.masked_border`) where the picture tells none and does not contradict it; the NoiseProfile of a DNG, which tells
what the maker measured on another copy. The border can differ from the picture for good reasons (a camera that bins or
filters the picture, and not the border), so it never overrules it. A flat-field pair (`noise.photon_transfer`) beats
all of them, and takes two exposures.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from noise.flat_patches import FlatNoise, measure_flat
from noise.line_fit import fit_lines
from noise.masked_border import BorderNoise, measure_border
from noise.noise_line import NoiseLine, line_through
from noise.raw_planes import RawPlanes, raw_planes
from raw.cfa import PLANES
from raw.raw_file import RawFile

Array = NDArray[np.float32]
Profile = tuple[tuple[float, float], ...]

COMPANDED: Final = "not linear: companded"
"""Note of the lines of numbers that went through a tone curve."""

LAGS: Final = 5
_PATCH: Final = 16
_SIDE: Final = 1024
_GAIN_TOLERANCE: Final = 0.1
_FEW_BITS: Final = 8
_MIDDLE: Final = 0.18
_FLAT: Final = 1.5
_BLACK_OFF: Final = 1.0
"""Levels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RawNoise:
    """Noise of one raw exposure, in normalised units."""

    names: tuple[str, ...]
    """Of the planes."""

    lines: tuple[NoiseLine, ...]
    """The noise line of each plane, from the picture."""

    pooled: NoiseLine
    """One line through all planes: shot and read noise belong to the sensor, not to a colour."""

    border: BorderNoise | None
    """What the masked border tells; None without one."""

    profile: Profile | None
    """(shot, read) of R, G, B that the file states (DNG NoiseProfile); None if it states none."""

    horizontal: tuple[float, ...]
    """Autocorrelation of the noise inside a plane at lags 1..5; all near 0 on an untouched sensor."""

    vertical: tuple[float, ...]
    """The same, vertically."""

    channel_correlation: tuple[tuple[float, ...], ...]
    """(C, C) correlation of the planes' noise at one cell."""

    flat: bool
    """False if the picture has no flat areas: then the correlations are those of its texture."""

    notes: tuple[str, ...]
    """Disagreements, and what else to beware of."""


def measure_raw_file(raw: RawFile) -> RawNoise | None:
    """Measure the noise of a raw file; None if it holds no pixels of ours, or too few."""
    split = raw_planes(raw)
    if split is None:
        return None
    measured = measure_raw(
        split.planes,
        clips=split.clips,
        names=split.names,
        border=split.border,
        profile=raw.noise_profile,
        step=split.step,
        white=split.white,
    )
    curve = tone_curve(raw, split)
    notes = (*curve, *measured.notes, *_of_black(raw, measured.border))
    if curve and split.white:
        note = COMPANDED
        lines = tuple(replace(line, shot=None, read=None, note=note) for line in measured.lines)
        return replace(
            measured, lines=lines, pooled=replace(measured.pooled, shot=None, read=None, note=note), notes=notes
        )
    return replace(measured, notes=notes)


def tone_curve(raw: RawFile, split: RawPlanes) -> tuple[str, ...]:
    """Say by which signs the numbers of a raw file went through a tone curve; nothing if there are none."""
    few = raw.bits <= _FEW_BITS
    return (*split.notes, *([f"{raw.bits} bits: cameras store these after a tone curve"] if few else []))


def measure_raw(
    packed: NDArray[np.floating],
    *,
    clips: Sequence[tuple[float, float]] | None = None,
    names: Sequence[str] = PLANES,
    border: NDArray[np.floating] | None = None,
    profile: Profile | None = None,
    step: float = 1 / 16383,
    white: bool = True,
) -> RawNoise:
    """Measure the noise of one exposure.

    Args:
        packed: (C, h, w), planes R Gr Gb B or others, normalised: black 0, white 1, not clipped at 0.
        clips: (lowest, highest) level of the data of each plane; by default no end is assumed at black, and 1 at
            white.
        names: of the planes.
        border: (4, h, w) masked border, normalised as ``packed``.
        profile: (shot, read) of R, G, B from the file.
        step: quantisation step of the data.
        white: False if the planes were interpolated: then the lines come from flat patches.

    Raises:
        ValueError: fewer than 32x32 pixels in a plane, not finite, or a number of names that differs.
    """
    planes = np.asarray(packed, dtype=np.float32)
    if planes.ndim != 3 or len(planes) != len(names):
        raise ValueError(f"planes must be (C, h, w) with {len(names)} names, got shape {planes.shape}")
    ends = tuple(clips) if clips is not None else ((-1.0, 1.0),) * len(planes)
    measured = None if border is None else measure_border(border)
    notes = []
    if white:
        lines, pooled = fit_lines(planes, clips=ends)
    flat = measure_flat(_unit(planes, ends), _PATCH, step=step / _range(ends))
    if not white:
        lines = _flat_lines(flat.level, flat.variance, flat.error, ends)
        pooled = line_through([point for line in lines for point in line.curve], method="flat patches")
        notes.append("interpolated before it was stored: noise is correlated, and the lines are not the sensor's")
    if measured is not None:
        pooled, note = with_border(pooled, measured)
        notes.append(note)
    smooth = not white or _is_flat(flat, pooled, ends)
    if not smooth:
        notes.append("no flat areas: the correlations are those of texture")
    notes += [_unequal(names, lines), _of_profile(pooled, profile), _rounded(pooled, step)]
    return RawNoise(
        names=tuple(names),
        lines=lines,
        pooled=pooled,
        border=measured,
        profile=profile,
        horizontal=tuple(float(value) for value in flat.autocorrelation[0, 1 : LAGS + 1]),
        vertical=tuple(float(value) for value in flat.autocorrelation[1 : LAGS + 1, 0]),
        channel_correlation=tuple(tuple(float(value) for value in row) for row in flat.channel_correlation),
        flat=smooth,
        notes=tuple(note for note in notes if note),
    )


def profile_line(profile: Profile) -> NoiseLine:
    """The line that a file's NoiseProfile states, mean of its channels; stated without intervals."""
    shot, read = (float(np.mean(values)) for values in zip(*profile, strict=True))
    return NoiseLine(
        shot=shot, read=read, shot_interval=(shot, shot), read_interval=(read, read), method="noise profile"
    )


def _unit(planes: Array, ends: Sequence[tuple[float, float]]) -> Array:
    """(h, w, C) of the centre, mapped so that the data's ends are 0 and 1."""
    low, span = min(end[0] for end in ends), _range(ends)
    top, left = (max(length - _SIDE, 0) // 2 for length in planes.shape[1:])
    centre = planes[:, top : top + _SIDE, left : left + _SIDE].transpose(1, 2, 0)
    return np.asarray((centre - low) / span, dtype=np.float32)


def _range(ends: Sequence[tuple[float, float]]) -> float:
    return max(end[1] for end in ends) - min(end[0] for end in ends)


def _is_flat(flat: FlatNoise, line: NoiseLine, ends: Sequence[tuple[float, float]]) -> bool:
    """Whether flat patches hold about the variance that the line has; texture would add its own."""
    if not line.curve or not flat.plausible.any():
        return False
    low, span = min(end[0] for end in ends), _range(ends)
    level, variance, _ = (np.array(column) for column in zip(*sorted(line.curve), strict=True))
    expected = np.interp(flat.level * span + low, level, variance)
    ratio = (flat.variance * span * span / expected)[flat.plausible]
    return bool(np.median(ratio) < _FLAT)


def _flat_lines(
    level: Array, variance: Array, error: Array, ends: Sequence[tuple[float, float]]
) -> tuple[NoiseLine, ...]:
    low, span = min(end[0] for end in ends), _range(ends)
    return tuple(
        line_through(
            [
                (float(x) * span + low, max(float(v) * span * span, 1e-14), 1 / float(e) ** 2)
                for x, v, e in zip(level[:, channel], variance[:, channel], error, strict=True)
            ],
            method="flat patches",
        )
        for channel in range(level.shape[1])
    )


def with_border(line: NoiseLine, border: BorderNoise) -> tuple[NoiseLine, str]:
    """The line with the border's read noise where it tells none itself; and how the two agree."""
    read = float(np.mean(border.read))
    low, high = line.read_interval
    lowest, highest = (float(np.mean([interval[end] for interval in border.read_intervals])) for end in (0, 1))
    if lowest > high or highest < low:
        ratio = read / line.read if line.read else read / max(high if lowest > high else low, 1e-30)
        return line, f"masked border: {ratio:.1f} times the read noise (variance) of the picture"
    if line.read is not None or line.note.startswith("not linear"):
        return line, ""
    points = [*line.curve, *(point for part in border.lines() for point in part.curve)]
    joined = line_through(points, method="masked border", bent=line.prnu > 0)
    return joined, "read noise from the masked border"


def _unequal(names: Sequence[str], lines: Sequence[NoiseLine]) -> str:
    told = [(line.shot, line.shot_interval, name) for line, name in zip(lines, names, strict=True) if line.shot]
    if len(told) < 2:
        return ""
    least, most = min(told), max(told)
    apart = least[1][1] < most[1][0]  # intervals that do not meet
    if not apart or most[0] <= (1 + _GAIN_TOLERANCE) * least[0]:
        return ""
    return (
        f"shot differs by channel ({most[2]} {most[0] / least[0]:.2f} times {least[2]}), though it is one gain: "
        "digital white balance, or texture"
    )


def _of_profile(line: NoiseLine, profile: Profile | None) -> str:
    if not profile or not line.curve:
        return ""
    stated = profile_line(profile)
    levels = [point[0] for point in line.curve]
    level = float(np.clip(_MIDDLE, min(levels), max(levels)))
    variance = line.variance(level) or float(np.interp(level, *zip(*sorted(p[:2] for p in line.curve), strict=True)))
    ratio = (stated.variance(level) or 0.0) / max(variance, 1e-30)
    return f"the file's NoiseProfile has {ratio:.2f} times the variance measured at level {level:.2f}"


def _of_black(raw: RawFile, border: BorderNoise | None) -> tuple[str, ...]:
    if border is None:
        return ()
    black = float(np.mean(raw.black_levels))
    shown = black + float(np.mean(border.black)) * (raw.white_level - black)
    if abs(shown - black) < _BLACK_OFF:
        return ()
    return (f"black level: {black:.1f} in the file, {shown:.1f} in the masked border",)


def _rounded(line: NoiseLine, step: float) -> str:
    bound = line.read if line.read is not None else line.read_interval[1]
    if bound < (0.5 * step) ** 2:
        return "noise at black is below half a step: rounding hides it"
    return ""
