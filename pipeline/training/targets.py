"""Targets for a student: the training photographs as their teacher denoises them, and the noise that it took off.

Photographs that are larger than the budget allows are represented by patches, evenly spread over each. Every target is
finished or absent, so an interrupted run goes on where it was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.data.failures import failure_line
from pipeline.data.held_out import Area
from pipeline.errors import RunError

if TYPE_CHECKING:
    from noise.measured import MeasuredNoise
    from pipeline.inference.denoiser import NetworkDenoiser
    from pipeline.schema import StudentConfig

_PATCH = 512
"""Side of a patch of a photograph: room for a crop that is shrunk to a third."""


class Part(NamedTuple):
    """A rectangle of a training photograph that becomes one target."""

    source: Path
    target: Path
    top: int
    left: int
    height: int
    width: int


def plan_targets(
    files: Sequence[tuple[Path, int, int]],
    folder: Path,
    *,
    megapixels: float,
    least: int,
    held_out: Sequence[Area] = (),
) -> list[Part]:
    """Say which parts of the photographs become targets.

    Args:
        files: (path, height, width) of each photograph.
        folder: where the targets go.
        megapixels: of all targets together, about; each photograph has an equal share.
        least: side of the training crop, below which no target may be.
        held_out: a rectangle at most of each photograph that is not trained on; a part without room for a crop beside
            it is left out.
    """
    share = 1e6 * megapixels / len(files)
    digits = len(str(len(files)))
    parts = []
    for index, (path, height, width) in enumerate(files):
        name = f"{index:0{digits}d}_{path.stem}"
        if height * width <= max(share, _PATCH * _PATCH):
            parts.append(Part(path, folder / f"{name}.png", 0, 0, height, width))
            continue
        side = max(_PATCH, least)
        rows, columns = min(side, height), min(side, width)
        count = max(1, round(share / (rows * columns)))
        across = max(1, min(math.ceil(math.sqrt(count * width / height)), width // columns))
        down = max(1, min(round(count / across), height // rows))
        for row in range(down):
            for column in range(across):
                top, left = _middle_of(row, down, height, rows), _middle_of(column, across, width, columns)
                parts.append(Part(path, folder / f"{name}_{top}_{left}.png", top, left, rows, columns))
    return [part for part in parts if _has_room(part, areas_in(part, held_out), least)]


def areas_in(part: Part, areas: Sequence[Area]) -> list[Area]:
    """Return what a part holds of areas of its photograph, as areas of the target."""
    return [
        Area(str(part.target), area.top - part.top, area.left - part.left, area.height, area.width)
        for area in areas
        if area.file == str(part.source)
    ]


def _has_room(part: Part, areas: Sequence[Area], side: int) -> bool:
    """Say whether a square fits beside one rectangle: if it does anywhere, then in a corner."""
    corners = [(top, left) for top in (0, part.height - side) for left in (0, part.width - side)]
    return any(not any(area.touches(*corner, side) for area in areas) for corner in corners)


def make_targets(
    parts: Sequence[Part],
    denoiser: NetworkDenoiser,
    student: StudentConfig,
    *,
    max_pixels: int,
    on_progress: Callable[[int, int, float], None] = lambda *_: None,
) -> list[Part]:
    """Denoise every part that has no target yet, measure its noise, and return the parts that have one.

    Args:
        parts: of `plan_targets`.
        denoiser: the teacher.
        student: how its targets are made.
        max_pixels: photographs with more are refused.
        on_progress: called as (done, total, seconds left) after each.

    Raises:
        RunError: not one of the photographs could be read.
    """
    from pipeline.data.images import (
        Image,
        ImageError,
        from_float,
        read_image,
        to_float,
        without_alpha,
        write_image,
    )
    from pipeline.data.target_source import origin_path, write_origin

    made: list[Part] = []
    problem = ""
    read: tuple[Path | None, np.ndarray] = (None, np.zeros(0))
    start, new = time.monotonic(), 0
    for index, part in enumerate(parts):
        if not (part.target.is_file() and origin_path(part.target).is_file()):
            try:
                if read[0] != part.source:
                    read = (part.source, without_alpha(read_image(part.source, max_pixels=max_pixels).pixels))
            except ImageError as error:
                problem = failure_line(error, part.source, part.target)
                continue
            part.target.parent.mkdir(parents=True, exist_ok=True)
            area = read[1][part.top : part.top + part.height, part.left : part.left + part.width]
            denoised, noise = _denoised(to_float(area), denoiser, student)
            # The origin first: a target is there when both are.
            write_origin(origin_path(part.target), area, noise)
            write_image(part.target, Image(pixels=from_float(denoised, np.uint16)))
            new += 1
        made.append(part)
        left = (time.monotonic() - start) / max(new, 1) * (len(parts) - index - 1)
        on_progress(index + 1, len(parts), left)
    if not made:
        raise RunError(f"targets: none of the photographs could be read; last: {problem}")
    return made


def _denoised(noisy: np.ndarray, denoiser: NetworkDenoiser, student: StudentConfig) -> tuple[np.ndarray, MeasuredNoise]:
    """Return the target of a photograph and the noise that it is without."""
    from pipeline.inference.averaged import average_strides, brightened, noise_of

    def denoise_at(stride: int) -> np.ndarray:
        return denoiser.using(replace(denoiser.inference, pd_stride=stride))(noisy)

    strides = student.strides or (denoiser.inference.pd_stride,)
    result = average_strides(noisy, denoise_at, strides=strides, margin=student.recharge, strength=student.wiener)
    noise = noise_of(noisy, result)
    return brightened(noisy, result, tone=student.method.tone, noise=noise), noise


def _middle_of(index: int, count: int, length: int, side: int) -> int:
    """Start of part ``index`` of ``count`` that are spread evenly over ``length``."""
    return round((index + 0.5) * length / count - side / 2) if count * side < length else index * (length - side)
