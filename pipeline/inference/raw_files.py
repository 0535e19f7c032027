"""Raw files denoised as mosaics, by a model trained on raw: a DNG for every raw file, or a developed picture."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.data.folders import SourceFile
from pipeline.data.images import metadata_of_raw, read_image, read_raw_file, replacing, write_image
from pipeline.data.paths import shown
from pipeline.errors import UserError
from pipeline.inference.denoiser import CARD_NAME, find_weights, load_denoiser
from pipeline.inference.files import HERE, convert_files, in_turn
from pipeline.inference.outputs import DEFAULT, OUTPUT_FORMATS, OutputOptions, plan_outputs
from pipeline.inference.picture import joined
from pipeline.inference.results import FileResult, FilesSummary, Made
from pipeline.inference.shipped import reference_of
from pipeline.inference.spread import Spread
from pipeline.inference.staging import Convert, UnservedError
from raw.files import RAW_SUFFIXES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from models import InferenceSpec
    from pipeline.data.depth import BitDepth
    from pipeline.inference.manifest import Manifest
    from pipeline.inference.raw_denoiser import RawDenoiser
    from raw.raw_file import RawFile

RAW_FORMATS = {**OUTPUT_FORMATS, "dng": ".dng"}
"""Values of ``--format`` with a model for raw files, and the suffix that each one gives."""


def is_for_raw(model: str) -> bool:
    """Say whether the model that a reference names was trained on raw, by its card alone."""
    try:
        document = json.loads((find_weights(model) / CARD_NAME).read_text("utf-8"))
        return bool(document["card"]["domain"] == "raw")
    except (UserError, OSError, ValueError, KeyError, TypeError):
        return False  # what is missing or damaged is said when it is loaded


def raws_among(sources: Sequence[SourceFile]) -> tuple[list[SourceFile], str | None]:
    """Leave out what is not named as a raw file, and say how many those are.

    Raises:
        UserError: nothing is left.
    """
    raws = [source for source in sources if source.relative.suffix.lower() in RAW_SUFFIXES]
    if not raws:
        raise UserError(
            f"{shown(sources[0].path)}: expected camera raw files for a model trained on raw, found none; "
            "denoise pictures with a model trained on pictures"
        )
    left_out = len(sources) - len(raws)
    return raws, f"{left_out} files that are no raw files left out: the model is for raw" if left_out else None


def plan_raw_outputs(sources: Sequence[SourceFile], out: Path, options: OutputOptions) -> list[Path]:
    """Return one output path a raw file, by default a DNG; see `pipeline.inference.outputs.plan_outputs`."""
    return plan_outputs(sources, out, replace(options, format=options.format or "dng"), formats=RAW_FORMATS)


def denoise_raw_files(
    sources: Sequence[SourceFile],
    outputs: Sequence[Path],
    denoiser: RawDenoiser,
    options: OutputOptions = DEFAULT,
    *,
    spread: Spread = HERE,
    manifest: Manifest | None = None,
    hand_on: bool = False,
    on_progress: Callable[[FileResult], None] | None = None,
) -> FilesSummary:
    """Denoise every raw file into the DNG, or the picture, that its output is named for.

    Args:
        sources: raw files.
        outputs: of `plan_raw_outputs`.
        denoiser: of a model trained on raw.
        options: what is done about outputs that exist.
        spread: whether worker processes help.
        manifest: of the output folder, if one is kept.
        hand_on: whether another model takes the files that this one cannot serve; they fail otherwise.
        on_progress: called after each file.
    """
    convert = partial(_denoise_raw_file, denoiser, options)
    identified, network = manifest is not None, denoiser.network
    work = spread.over(
        partial(in_turn, convert, identified),
        partial(_elsewhere, reference_of(network.folder), network.inference, options),
        gpu=network.device != "cpu",
        identified=identified,
    )
    return convert_files(
        sources, outputs, convert, options, work=work, manifest=manifest, hand_on=hand_on, on_progress=on_progress
    )


def unserved_at_sight(path: Path) -> str | None:
    """Say why no model for raw files can serve one, as far as that is seen without measuring its noise; or None.

    No header tells it: whether a mosaic is Bayer, LibRaw says once the pixels are there.

    Raises:
        ImageError: the file cannot be read.
    """
    from noise.known_level import unknown_at_sight

    return unknown_at_sight(read_raw_file(path))


def _elsewhere(ref: str, inference: InferenceSpec, options: OutputOptions, device: str) -> Convert:
    """Return what makes the files in another process; weights and files lie where both see them."""
    from pipeline.inference.raw_denoiser import RawDenoiser

    return partial(_denoise_raw_file, RawDenoiser(load_denoiser(ref, device).using(inference)), options)


def _denoise_raw_file(denoiser: RawDenoiser, options: OutputOptions, source: Path, output: Path) -> Made:
    from noise.known_level import known_level
    from pipeline.evaluation.survey import camera_name

    raw = read_raw_file(source)
    try:
        known = known_level(raw)
    except ValueError as error:
        raise UnservedError(str(error)) from error
    mosaic = _blended(raw, denoiser.mosaic(raw, known.level), options.strength)
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".dng":
        with replacing(output) as temporary:
            _write_dng(raw, mosaic, temporary)
    else:
        _develop(raw, mosaic, source, output, options.bit_depth)
    remarks = (known.note, denoiser.remarks(camera_name(raw.make, raw.model), known.level))
    return Made(note=joined(*remarks))


def _write_dng(raw: RawFile, mosaic: NDArray[np.uint16], path: Path) -> None:
    from raw.dng import dng_like

    # The profile tells the noise of the file as it was; a converter would take away once more what is gone.
    dng_like(replace(raw, noise_profile=None), mosaic, path)


def _blended(raw: RawFile, mosaic: NDArray[np.uint16], strength: float) -> NDArray[np.uint16]:
    """Mix the stored numbers, which are linear in light."""
    import numpy as np

    if strength == 1 or raw.mosaic is None:
        return mosaic
    noisy = raw.mosaic.astype(np.float64)
    return np.rint(noisy + strength * (mosaic - noisy)).astype(mosaic.dtype)


def _develop(raw: RawFile, mosaic: NDArray[np.uint16], source: Path, output: Path, bit_depth: BitDepth | None) -> None:
    """Develop as `unveil develop` and training on pictures do: by LibRaw, from a DNG."""
    with tempfile.TemporaryDirectory(prefix="unveil-") as folder:
        path = Path(folder) / "denoised.dng"
        _write_dng(raw, mosaic, path)
        image = read_image(path)
    write_image(output, replace(image, metadata=metadata_of_raw(source.read_bytes())), bit_depth=bit_depth)
