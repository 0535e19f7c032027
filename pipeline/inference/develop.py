"""Raw files to pictures, or to plain DNGs: what training and denoising see of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.data.folders import SourceFile
from pipeline.data.images import (
    Image,
    from_float,
    metadata_of_raw,
    read_image,
    read_raw_file,
    replacing,
    write_image,
)
from pipeline.data.paths import shown
from pipeline.errors import UserError
from pipeline.inference.files import convert_files
from pipeline.inference.outputs import DEFAULT, OutputOptions
from pipeline.inference.results import FileResult, FilesSummary, Made
from raw.files import RAW_SUFFIXES

FORMATS = {"tiff": ".tif", "png": ".png", "jpeg": ".jpg", "dng": ".dng"}
"""Values of ``--format`` and the suffix that each one gives."""

CONVERTERS = ("libraw", "unveil")
"""Values of ``--converter``."""


def only_raw(sources: Sequence[SourceFile]) -> list[SourceFile]:
    """Leave out what is not named as a raw file.

    Raises:
        UserError: nothing is left.
    """
    chosen = [source for source in sources if source.relative.suffix.lower() in RAW_SUFFIXES]
    if not chosen:
        raise UserError(f"{shown(sources[0].path)}: expected camera raw files (such as .dng, .nef, .cr2), found none")
    return chosen


def develop_files(
    sources: Sequence[SourceFile],
    outputs: Sequence[Path],
    options: OutputOptions = DEFAULT,
    *,
    converter: str = "libraw",
    on_progress: Callable[[FileResult], None] | None = None,
) -> FilesSummary:
    """Develop every raw file into the picture, or the DNG, that its output is named for.

    Args:
        sources: raw files.
        outputs: of `plan_outputs`, with ``FORMATS``.
        options: what is done about outputs that exist.
        converter: ``libraw``, as training and denoising read raws, or ``unveil``, as synthetic noise is developed.
        on_progress: called after each file.

    Raises:
        UserError: no such converter.
    """
    if converter not in CONVERTERS:
        raise UserError(f"--converter: expected one of {', '.join(CONVERTERS)}, found {converter!r}")
    convert = partial(_develop_file, converter)
    return convert_files(sources, outputs, convert, options, on_progress=on_progress)


def _develop_file(converter: str, source: Path, output: Path) -> Made:
    if output.suffix == ".dng":
        return Made(note=_write_dng(source, output))
    image = read_image(source) if converter == "libraw" else _developed_here(source)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_image(output, image)
    return Made(note=image.note)


def _developed_here(source: Path) -> Image:
    from raw.develop import develop

    raw = read_raw_file(source)
    pixels = from_float(develop(raw), np.uint16)
    metadata = metadata_of_raw(source.read_bytes())
    return Image(pixels=pixels, metadata=metadata, format="raw", note="; ".join(raw.notes) or None)


def _write_dng(source: Path, output: Path) -> str | None:
    from raw.dng import dng_like

    raw = read_raw_file(source)
    pixels = raw.mosaic if raw.mosaic is not None else raw.linear
    if pixels is None:
        raise UserError(
            f"{shown(source)}: expected a mosaic or linear colours, found {'; '.join(raw.notes) or raw.kind}"
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as temporary:
        dng_like(raw, pixels, temporary)
    return "; ".join(raw.notes) or None
