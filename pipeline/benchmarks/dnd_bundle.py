"""The bundle that the DND server takes: one MATLAB file an image, with its denoised boxes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.benchmarks.dnd import Dnd, read_crops
from pipeline.benchmarks.submission import claim_folder
from pipeline.data.images import replacing
from pipeline.data.paths import shown
from pipeline.errors import RunError, UserError
from pipeline.inference.denoiser import Denoiser
from pipeline.inference.files import convert_files
from pipeline.inference.outputs import OutputOptions
from pipeline.inference.results import FileResult, FilesSummary, Made

EVAL_VERSION = "1.0"


@dataclass(frozen=True, kw_only=True, slots=True)
class DndBundle:
    """A bundle that was written, or a part of it."""

    out: Path
    files: FilesSummary
    """What became of each image."""

    boxes: int
    """How many there are in all."""

    made_by: dict[str, Any]
    """Weights and mode."""

    @property
    def checked(self) -> int:
        """Files that were read again and are as the server wants them."""
        return self.files.count("ok") + self.files.count("skipped")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: the files and counts, ``boxes``, ``checked``, ``complete`` and ``made_by``."""
        return {
            "benchmark": "dnd",
            "out": str(self.out),
            **self.files.to_dict(),
            "boxes": self.boxes,
            "checked": self.checked,
            "complete": not self.files.count("failed"),
            "made_by": self.made_by,
        }


def submit_dnd(
    denoiser: Denoiser,
    dnd: Dnd,
    out: Path,
    *,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> DndBundle:
    """Denoise every box and write ``0001.mat`` to ``0050.mat``; files that are there already are left alone.

    The crops are clipped to [0, 1] and not rounded. So a submission that was cut short goes on where it stopped. In
    the end every file is read again and checked.

    Args:
        denoiser: called with each crop.
        dnd: of `pipeline.benchmarks.dnd.open_dnd`.
        out: folder to write to; created.
        overwrite: make files again that are there.
        on_progress: called as (boxes done, boxes).

    Returns:
        What became of each file, all of which passed the check but the failed ones.

    Raises:
        UserError: the folder holds another submission.
        RunError: a file is not as the server wants it, or the disk is full.
    """
    made_by = claim_folder(out, "dnd", denoiser, overwrite=overwrite)
    places = {image.path: index for index, image in enumerate(dnd.images)}
    total = sum(len(boxes) for boxes in dnd.boxes)
    done = 0

    def advance(to: int) -> None:
        nonlocal done
        done = to
        if on_progress is not None:
            on_progress(done, total)

    def convert(source: Path, output: Path) -> Made:
        crops = []
        for noisy in read_crops(source, dnd.boxes[places[source]]):
            crops.append(denoise_crop(denoiser, noisy, source))
            advance(done + 1)
        write_bundle_file(output, crops)
        return Made()

    def after(result: FileResult) -> None:
        count = places[Path(result.source)] + 1
        advance(sum(len(boxes) for boxes in dnd.boxes[:count]))

    outputs = [out / image.path.name for image in dnd.images]
    summary = convert_files(dnd.images, outputs, convert, OutputOptions(overwrite=overwrite), on_progress=after)
    if summary.stopped:
        raise KeyboardInterrupt
    for result, boxes in zip(summary.files, dnd.boxes, strict=True):
        if result.status != "failed":
            check_bundle_file(Path(result.output), boxes)
    return DndBundle(out=out, files=summary, boxes=total, made_by=made_by)


def denoise_crop(denoiser: Denoiser, noisy: NDArray[np.float32], source: Path) -> NDArray[np.float32]:
    """Return the denoised crop, (H, W, 3) float32 clipped to [0, 1]."""
    result = denoiser(noisy)
    if result.shape != noisy.shape or not np.isfinite(result).all():
        raise UserError(f"{shown(source)}: the model returned no picture of the same size with finite values")
    return np.clip(result, 0, 1).astype(np.float32)


def write_bundle_file(path: Path, crops: list[NDArray[np.float32]]) -> None:
    """Write the denoised boxes of one image: ``Idenoised`` (a cell for each), ``israw`` and ``eval_version``."""
    from scipy.io import savemat

    cells = np.empty(len(crops), dtype=object)
    for index, crop in enumerate(crops):
        cells[index] = crop
    with replacing(path) as temporary:
        values = {"Idenoised": cells, "israw": False, "eval_version": EVAL_VERSION}
        savemat(str(temporary), values, appendmat=False)


def check_bundle_file(path: Path, boxes: NDArray[np.int64], *, raw: bool = False) -> list[NDArray[np.float32]]:
    """Read a file of the bundle and check all that the server needs.

    Args:
        path: one of ``0001.mat`` to ``0050.mat``.
        boxes: (N, 4) as in `Dnd.boxes`; their sizes count.
        raw: whether it is of the raw track, whose crops have no colours.

    Returns:
        The crops, (H, W, 3) or (H, W).

    Raises:
        RunError: names the file, what was expected and what was found.
    """
    values = _values(path)
    cells = values.get("Idenoised")
    if cells is None or cells.dtype != object or cells.shape != (1, len(boxes)):
        found = "none" if cells is None else f"{cells.shape} {cells.dtype}"
        raise _wrong(path, f"Idenoised as a 1x{len(boxes)} cell array", found)
    for index, (crop, (top, left, bottom, right)) in enumerate(zip(cells[0], boxes.tolist(), strict=True)):
        shape = (bottom - top, right - left) if raw else (bottom - top, right - left, 3)
        if crop.shape != shape or crop.dtype != np.float32:
            raise _wrong(path, f"box {index + 1} as {shape} float32", f"{crop.shape} {crop.dtype}")
        if not (np.isfinite(crop).all() and crop.min() >= 0 and crop.max() <= 1):
            raise _wrong(path, f"box {index + 1} within [0, 1]", f"{crop.min()} to {crop.max()}")
    rest = {name: np.asarray(values.get(name)).tolist() for name in ("israw", "eval_version")}
    if rest != {"israw": [[int(raw)]], "eval_version": [EVAL_VERSION]}:
        raise _wrong(path, f"israw {int(raw)} and eval_version {EVAL_VERSION}", json.dumps(rest, default=str))
    return list(cells[0])


def is_raw(path: Path) -> bool:
    """Return whether a file of a bundle says that it is of the raw track.

    Raises:
        RunError: it cannot be read.
    """
    told = np.asarray(_values(path).get("israw", 0))
    return bool(told.size == 1 and told.dtype.kind in "biuf" and told.item())


def _values(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    try:
        return dict(loadmat(str(path)))
    except Exception as error:
        raise RunError(f"{shown(path)}: expected a MATLAB file, found a damaged one; make it again") from error


def _wrong(path: Path, expected: str, found: str) -> RunError:
    return RunError(f"{shown(path)}: expected {expected}, found {found}; make it again with --overwrite")
