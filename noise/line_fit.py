"""The noise line of one image without a clean partner, for white noise (a plane of a raw, a linear picture).

After the idea of Foi, Trimeche, Katkovnik and Egiazarian, "Practical Poissonian-Gaussian noise modeling and fitting
for single-image raw data" (IEEE Trans. Image Process. 17(10), 2008), with other means:

1. Wavelet details of an orthonormal basis are the noise samples. Smooth places are chosen by the energy of *other*
   coefficients, those around and one scale up, which for white noise is independent of the sample: the energy of pure
   noise follows a chi-squared law, so what exceeds it is edge or texture.
2. Places are grouped by the mean level *around* them, and the level of a group is the mean *at* them: two independent
   measurements, so that noise in the level neither flattens nor tilts the line (an instrumental variable).
3. The variance of a group is a truncated mean of squares, divided by the variance that the line of the round before
   expects at each place, so that a group may span levels.
4. Three choices, from strict and few to many: diagonal details at the smoothest places; diagonal details at all smooth
   places; all details there. The largest set stands that does not show more variance than the stricter ones (Lepski's
   rule).
5. A line is put through the groups (`noise.noise_line`). What share of each group is pure noise follows from the
   chi-squared law; the rest may hold texture, which widens the intervals.

Clipping at either end is modelled (`noise.clipping`): clipped levels have less variance and another mean.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from noise.clipping import Clipped, clipped
from noise.level_groups import ALL, DIAGONAL, STRICT, Choice, Floats32, Indices, first_guess, grouped, measured_point
from noise.noise_line import Fit, Floats, NoiseLine, NoLineError, conclude, line_through, points, weighted_line
from noise.wavelet import SMALLEST, Places, places

MANY_PIXELS: Final = 400_000
"""Above this one decomposition at every second pixel is enough."""

TEXTURE: Final = 0.15
"""Relative excess of variance at places that pass for smooth and are not; measured on photographs."""

FORCED_ERROR: Final = 0.5
"""Relative error of a group without smooth places: its variance is an upper bound."""

LEPSKI: Final = 3.0
_ROUNDS: Final = 8
_SETTLED: Final = 3e-3
_BENT: Final = 5.0
_BENT_POINTS: Final = 8
_PURE: Final = 0.7
LARGEST_PRNU: Final = 0.02
"""Relative deviation; a stronger bend is texture."""


@dataclass(frozen=True, slots=True)
class _Line:
    """The points of one choice, before clipping, and the line through them."""

    level: Floats
    variance: Floats
    error: Floats
    excess: Floats
    fit: Fit | None
    """None if there is one level only."""

    expected: Floats32
    """(N,) variance of the data at every place, after clipping."""


def fit_line(plane: NDArray[np.floating], *, clip: tuple[float, float] | None = (0.0, 1.0)) -> NoiseLine:
    """Measure ``Var[y | x] = shot * x + read`` in one image whose noise is white.

    Args:
        plane: (H, W) float, normalised (black 0, white 1), at least 32x32; neither resized, demosaiced nor denoised.
        clip: levels that the data are clipped at, or None: raw data below black are not clipped at 0, for instance,
            but at the level that the integer 0 has.

    Returns:
        The line, with coefficients None where the image does not tell them, such as ``read`` without dark areas.
        ``curve`` holds one point for each group of levels.

    Raises:
        ValueError: not (H, W), smaller than 32x32, not finite, or ``clip`` is no range.
    """
    return fit_lines(np.asarray(plane)[None], clips=[clip])[0][0]


def fit_lines(
    planes: NDArray[np.floating], *, clips: Sequence[tuple[float, float] | None]
) -> tuple[tuple[NoiseLine, ...], NoiseLine]:
    """Measure the noise lines of several planes of one exposure, and the one line through all of them.

    Shot noise is a matter of gain, and read noise of the readout: on a sensor all colours share both.

    Args:
        planes: (C, H, W), each as for `fit_line`.
        clips: of each plane.

    Returns:
        C lines, and that through all points.

    Raises:
        ValueError: as `fit_line`.
    """
    found = [_best(_checked(plane, clip), clip) for plane, clip in zip(planes, clips, strict=True)]
    fitted = [line for line in found if line.fit is not None]
    if len(found) == 1 or not fitted:
        lines = tuple(_concluded(line, _bent_of(line)) for line in found)
        return lines, lines[0]
    level, variance, error, excess = (
        np.concatenate([getattr(line, name) for line in fitted]) for name in ("level", "variance", "error", "excess")
    )
    joined = _Line(level, variance, error, excess, weighted_line(level, variance, error), fitted[0].expected)
    bent = _bent_of(joined)
    # The pixels' sensitivity varies alike in all colours, and all of them together tell by how much.
    return tuple(_concluded(line, bent and _with_bend(line, bent)) for line in found), _concluded(joined, bent)


def _best(image: Floats32, clip: tuple[float, float] | None) -> _Line:
    """The line of the largest choice that shows no more variance than the stricter ones."""
    found = places(image, shifts=1 if image.size > MANY_PIXELS else 4)
    groups = grouped(found.surroundings)
    guess = first_guess(found, groups)
    try:
        best = _measure(found, groups, STRICT, guess, clip, before=None, rounds=_ROUNDS)
    except NoLineError:
        level, variance, samples, _ = measured_point(found, np.concatenate(groups), STRICT, guess)
        error = math.sqrt(2 / samples)
        return _Line(np.array([level]), np.array([variance]), np.array([error]), np.zeros(1), None, guess)
    stricter = [best]
    for choice in (DIAGONAL, ALL):
        try:
            wider = _measure(found, groups, choice, best.expected, clip, before=best.fit, rounds=3)
        except NoLineError:
            break
        if any(_shows_more(wider, other) for other in stricter):
            break
        best = wider
        stricter.append(wider)
    return best


def _checked(plane: NDArray[np.floating], clip: tuple[float, float] | None) -> Floats32:
    image = np.asarray(plane, dtype=np.float32)
    if image.ndim != 2 or min(image.shape) < SMALLEST:
        raise ValueError(
            f"a noise line needs a plane (H, W) of at least {SMALLEST}x{SMALLEST}, got shape {image.shape}"
        )
    if not np.isfinite(image).all():
        raise ValueError("a noise line cannot be measured with NaN or infinite values")
    if clip is not None and not clip[0] < clip[1]:
        raise ValueError(f"clip must be (lowest, highest), got {clip}")
    return image


def _measure(
    found: Places,
    groups: list[Indices],
    choice: Choice,
    expected: Floats32,
    clip: tuple[float, float] | None,
    *,
    before: Fit | None,
    rounds: int,
) -> _Line:
    """Measure the groups' variances, put a line through them, and expect its variances in the next round."""
    line = before
    for _ in range(rounds):
        seen, measured, count, pure = np.array([measured_point(found, group, choice, expected) for group in groups]).T
        error = np.sqrt(2 / count + np.square(np.where(pure > 0, TEXTURE * (1 - pure), FORCED_ERROR)))
        level, variance = seen, measured
        usable = np.ones(len(level), dtype=bool)
        if clip is not None and line is not None:
            level, variance, doubt, usable = _table(line, clip, variance).undone(seen, measured, excess=choice.excess)
            error = np.hypot(error, doubt)
            if np.count_nonzero(usable) < 2:
                usable[:] = True
        level, variance, error, pure = (values[usable] for values in (level, variance, error, pure))
        line = weighted_line(level, variance, error)
        curve = _bent(level, variance, error) or line
        last, expected = expected, _expected(curve, found.surroundings, variance, clip)
        result = _Line(level, variance, error, TEXTURE * (1 - pure), line, expected)
        if np.abs(expected / last - 1).max() < _SETTLED:
            break
    return result


def _expected(line: Fit, seen: Floats32, variance: Floats, clip: tuple[float, float] | None) -> Floats32:
    floor = _floor(variance)
    if clip is None:
        return np.asarray(np.maximum(line.bent_at(seen), floor), dtype=np.float32)
    table = _table(line, clip, variance)
    expected = table.expected(seen, lambda level: np.maximum(line.bent_at(level), floor))
    return np.asarray(np.maximum(expected, floor), dtype=np.float32)


def _table(line: Fit, clip: tuple[float, float], variance: Floats) -> Clipped:
    return clipped(line.shot, line.read, clip, floor=_floor(variance))


def _floor(variance: Floats) -> float:
    return max(0.03 * float(np.median(variance)), 1e-20)


def _shows_more(wider: _Line, stricter: _Line) -> bool:
    """Whether the wider choice finds more variance than chance allows, at a low, a middle or a high level."""
    if wider.fit is None or stricter.fit is None:
        return True
    level = np.quantile(stricter.level, (0.1, 0.5, 0.9))
    design = np.stack([level, np.ones(3)], axis=1)
    errors = [np.einsum("ij,jk,ik->i", design, fit.covariance, design) for fit in (stricter.fit, wider.fit)]
    # The difference of an estimator and a more efficient one has the difference of their variances (Hausman, 1978).
    deviation = np.sqrt(np.maximum(errors[0] - errors[1], 1e-3 * errors[1]))
    return bool((wider.fit.at(level) - stricter.fit.at(level) > LEPSKI * deviation).any())


def _concluded(line: _Line, bent: Fit | None) -> NoiseLine:
    if line.fit is None:
        return line_through(points(line.level, line.variance, line.error), method="single image")
    made = conclude(bent or line.fit, line.level, line.variance, line.error, method="single image", excess=line.excess)
    if made.note or not np.all(line.excess >= TEXTURE):
        return made
    return replace(
        made,
        shot=None,
        read=None,
        shot_interval=(0.0, made.shot_interval[1]),
        read_interval=(0.0, made.read_interval[1]),
        note="texture everywhere: the noise is at most this",
    )


def _bent_of(line: _Line) -> Fit | None:
    bright = line.level >= np.median(line.level)
    if np.median(line.excess[bright]) > _PURE * TEXTURE:
        return None  # texture bends the line too
    return _bent(line.level, line.variance, line.error)


def _with_bend(line: _Line, bent: Fit) -> Fit | None:
    """The line of one plane beside the bend of another fit; None if no line is left."""
    variance = np.maximum(line.variance - bent.bend * np.square(line.level), _floor(line.variance))
    try:
        straight = weighted_line(line.level, variance, line.error * line.variance / variance)
    except NoLineError:
        return None
    return replace(straight, bend=bent.bend, bend_error=bent.bend_error)


def _bent(level: Floats, variance: Floats, error: Floats) -> Fit | None:
    """The fit with unequal sensitivity of the pixels, a variance in the square of the level; None if it shows none."""
    if len(level) < _BENT_POINTS:
        return None
    try:
        fit = weighted_line(level, variance, error, bent=True)
    except NoLineError:
        return None
    return fit if _BENT * fit.bend_error < fit.bend < LARGEST_PRNU**2 else None
