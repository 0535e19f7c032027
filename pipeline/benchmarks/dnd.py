"""The Darmstadt Noise Dataset (DND), sRGB: 50 photographs with 20 boxes each, in MATLAB 7.3 files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.folders import SourceFile
from pipeline.data.mat import is_hdf5, opened_hdf5
from pipeline.data.paths import shown
from pipeline.errors import UserError

IMAGES, BOXES = 50, 20
"""What is published, and what the server takes."""

_VARIABLE = "InoisySRGB"
_FROM_ZERO = np.array([1, 1, 0, 0], np.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dnd:
    """Where the photographs are and which parts of them count."""

    images: tuple[SourceFile, ...]
    """``images_srgb/0001.mat`` and so on."""

    boxes: tuple[NDArray[np.int64], ...]
    """For each image (boxes, 4): first row, first column, end row, end column; 0-based, ends not included."""


def open_dnd(folder: Path) -> Dnd:
    """Read the boxes of ``info.mat`` and find the images.

    Raises:
        UserError: no such files, another structure, another number of images or boxes than published, or h5py is
            not installed.
    """
    info = folder / "info.mat"
    if not info.is_file():
        raise UserError(
            f"{shown(info)}: expected the info.mat of DND (with images_srgb/ beside it), found nothing there"
        )
    images = tuple(SourceFile(path, Path(path.name)) for path in _image_paths(folder))
    with _opened(info) as file:
        try:
            references = np.asarray(file["info"]["boundingboxes"][()]).ravel()
            # MATLAB's (20, 4): first row, first column, last row, last column, from 1 and inclusive.
            boxes = tuple(np.asarray(file[reference][()], np.int64).T - _FROM_ZERO for reference in references)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"{shown(info)}: expected info/boundingboxes as DND has it, found another structure"
            ) from error
    if len(boxes) != IMAGES or any(box.shape != (BOXES, 4) for box in boxes):
        found = ", ".join(sorted({"x".join(map(str, box.shape)) for box in boxes})) or "none"
        raise UserError(
            f"{shown(info)}: expected {IMAGES} images with boxes of {BOXES}x4, found {len(boxes)} with {found}"
        )
    return Dnd(images=images, boxes=boxes)


def read_crops(path: Path, boxes: NDArray[np.int64]) -> list[NDArray[np.float32]]:
    """Cut the boxes out of a photograph; the rest of it is not read.

    Returns:
        One (H, W, 3) float32 in [0, 1] a box.

    Raises:
        UserError: damaged, another structure, or a box that leaves the photograph.
    """
    with _opened(path) as file:
        if _VARIABLE not in file or file[_VARIABLE].ndim != 3 or file[_VARIABLE].dtype.kind != "f":
            raise UserError(f"{shown(path)}: expected {_VARIABLE} as (height, width, 3) of floats, found none")
        photo = file[_VARIABLE]  # (3, width, height): HDF5 counts axes the other way round
        colours, width, height = photo.shape
        if colours != 3:
            raise UserError(f"{shown(path)}: expected {_VARIABLE} of 3 colours, found {colours}")
        crops = []
        for top, left, bottom, right in boxes.tolist():
            if not (0 <= top < bottom <= height and 0 <= left < right <= width):
                raise UserError(
                    f"{shown(path)}: expected boxes inside {width}x{height}, found rows {top + 1} to {bottom}, "
                    f"columns {left + 1} to {right}"
                )
            crop = np.ascontiguousarray(photo[:, left:right, top:bottom].T, dtype=np.float32)
            if not np.isfinite(crop).all():
                raise UserError(f"{shown(path)}: expected finite values, found NaN or infinite ones")
            crops.append(crop)
    return crops


def _image_paths(folder: Path) -> list[Path]:
    paths = [folder / "images_srgb" / f"{index:04d}.mat" for index in range(1, IMAGES + 1)]
    if not (folder / "images_srgb").is_dir():
        raw = (folder / "images_raw").is_dir()
        found = "images_raw/ alone (the raw track is not built)" if raw else "no such folder"
        raise UserError(f"{shown(folder)}: expected images_srgb/0001.mat to {IMAGES:04d}.mat, found {found}")
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise UserError(
            f"{shown(folder / 'images_srgb')}: expected 0001.mat to {IMAGES:04d}.mat, found {len(missing)} missing, "
            f"the first {missing[0]}"
        )
    return paths


def _opened(path: Path) -> Any:
    if not is_hdf5(path):
        raise UserError(f"{shown(path)}: expected a MATLAB 7.3 (HDF5) file as DND publishes it, found another format")
    return opened_hdf5(path)
