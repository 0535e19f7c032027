"""Noise from pairs of flat-field files: the most exact way, which takes two exposures of one even field."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.data.images import read_image, read_raw_file, to_float, without_alpha
from pipeline.data.paths import shown
from pipeline.errors import UserError
from pipeline.evaluation.survey import channels_json, line_json, raw_facts

if TYPE_CHECKING:
    from noise.raw_planes import RawPlanes
    from raw.raw_file import RawFile

_GREY, _RGB = ("grey",), ("R", "G", "B")


def flat_pairs(files: Sequence[Path]) -> dict[str, Any]:
    """Measure the noise line from pairs of files of an even field, first and second, third and fourth and so on.

    Args:
        files: raw files, or linear images without a tone curve; all of one kind and size.

    Returns:
        path (of all, joined), raw (facts of the first file, or None), noise (shot, read and their intervals, and
        under ``channels`` those of each channel), notes.

    Raises:
        UserError: an odd number of files, files that differ in kind or size, or fields that are all black or white.
        ImageError: a file cannot be read.
    """
    from noise.masked_border import measure_border
    from noise.noise_line import line_through
    from noise.photon_transfer import photon_transfer_of_pairs
    from noise.raw_noise import with_border

    if len(files) < 2 or len(files) % 2:
        raise UserError(f"--flat-pair: expected two files of one flat field (or four, six, ...), found {len(files)}")
    found = [_planes(path) for path in files]
    first, raw = found[0]
    for path, (planes, _) in zip(files, found, strict=True):
        if planes.names != first.names or planes.planes.shape != first.planes.shape:
            raise UserError(
                f"{shown(path)}: expected {_size(first)}, as in {shown(files[0].name)}, found {_size(planes)}"
            )
    lines = []
    for channel in range(len(first.names)):
        pairs = [(a.planes[channel], b.planes[channel]) for (a, _), (b, _) in zip(found[::2], found[1::2], strict=True)]
        try:
            lines.append(photon_transfer_of_pairs(pairs, clip=first.clips[channel]))
        except ValueError as error:
            raise UserError(f"{shown(files[0])}: channel {first.names[channel]}: {error}") from error
    pooled = line_through([point for line in lines for point in line.curve], method="flat pair")
    notes = list(first.notes)
    if raw is None:
        notes.append("display image: the line is that of the sensor only if no tone curve was applied")
    border = None if first.border is None else measure_border(first.border)
    if border is not None:
        pooled, note = with_border(pooled, border)
        notes += [note] if note else []
    return {
        "path": " + ".join(str(path) for path in files),
        "raw": None if raw is None else raw_facts(raw),
        "noise": line_json(pooled) | {"channels": channels_json(first.names, lines)},
        "notes": notes,
    }


def _planes(path: Path) -> tuple[RawPlanes, RawFile | None]:
    from noise.raw_planes import RawPlanes, raw_planes
    from raw.files import RAW_SUFFIXES

    if path.suffix.lower() in RAW_SUFFIXES:
        raw = read_raw_file(path)
        split = raw_planes(raw)
        if split is None or not split.white:
            raise UserError(f"{shown(path)}: expected a mosaic of at least 64x64 pixels, found {raw.kind}")
        return split, raw
    colours = without_alpha(to_float(read_image(path).pixels))
    count = colours.shape[2]
    planes = RawPlanes(
        names=_GREY if count == 1 else _RGB,
        planes=np.ascontiguousarray(colours.transpose(2, 0, 1)),
        clips=((0.0, 1.0),) * count,
        step=1 / 255,
        border=None,
        white=True,
        notes=(),
    )
    return planes, None


def _size(planes: RawPlanes) -> str:
    count, height, width = planes.planes.shape
    return f"{count} planes of {width}x{height}"
