"""Write DNG files (DNG specification 1.4): a mosaic, or one or three colours at every pixel, as 16-bit integers.

Uncompressed and in one strip, so that the pixels go from memory to the file without a copy. Levels, colour matrix,
white balance and noise profile travel beside them; the pixels are not touched.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raw.cfa import CFAPattern, plane_sites
from raw.primaries import RGB_TO_XYZ
from raw.raw_file import RawFile, Shot
from raw.tiff_writer import ASCII, BYTE, DOUBLE, LONG, RATIONAL, SHORT, SRATIONAL, Field, tiff_header

_CFA: Final = 32803
_LINEAR_RAW: Final = 34892
_D65: Final = 21
_ORIENTATIONS: Final = {0: 1, 1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}
"""TIFF orientation of each of LibRaw's flips."""

MAX_SIDE: Final = 65535
"""LibRaw counts rows and columns in 16 bits."""


def write_dng(
    path: Path,
    pixels: NDArray[np.uint16],
    *,
    pattern: CFAPattern | NDArray[np.uint8] | None = "RGGB",
    black_levels: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
    white_level: int = 65535,
    white_balance: Sequence[float] = (1.0, 1.0, 1.0),
    rgb_cam: ArrayLike | None = None,
    xyz2cam: ArrayLike | None = None,
    noise: Sequence[tuple[float, float]] | None = None,
    make: str = "",
    model: str = "",
    flip: int = 0,
    pixel_aspect: float = 1.0,
    shot: Shot | None = None,
    software: str = "unveil",
) -> None:
    """Write pixels as a DNG.

    Args:
        path: the file; an old one is overwritten.
        pixels: (H, W) mosaic or grey, or (H, W, 3) linear camera colours without white balance.
        pattern: Bayer pattern at (0, 0), or (n, m) colours of another repeated cell (0 R 1 G 2 B); None for grey
            and for three colours.
        black_levels: of R, Gr, Gb, B. Fractions are kept, but LibRaw reads integers. Bayer apart, one level holds
            for red, one for both greens (their mean) and one for blue.
        white_level: level that stands for white, 1..65535.
        white_balance: gains of red, green and blue.
        rgb_cam: (3, 3) white-balanced camera colours to linear sRGB; the light of the shot is taken for daylight.
        xyz2cam: (3, 3) XYZ to camera colours in daylight (D65), instead of ``rgb_cam``. Without both the camera's
            colours are taken for linear sRGB.
        noise: (shot, read) for all colours, or of red, green and blue; Var = shot x + read at black 0, white 1.
        make: maker of the camera.
        model: model of the camera.
        flip: as ``RawFile.flip``.
        pixel_aspect: width of a pixel over its height.
        shot: how it was taken.
        software: the program that writes.

    Raises:
        ValueError: shape, dtype, levels, gains, noise or flip are not of these kinds.
        OSError: the file cannot be written.
    """
    cell = _cell(pixels, pattern)
    samples = 1 if pixels.ndim == 2 else 3
    gains = np.asarray(white_balance, dtype=np.float64)
    if gains.shape != (3,) or not np.isfinite(gains).all() or gains.min() <= 0:
        raise ValueError(f"white balance must be three gains above 0, got {tuple(white_balance)}")
    if not 1 <= white_level <= 65535 or len(black_levels) != 4 or not 0 <= min(black_levels) <= max(black_levels):
        raise ValueError(f"levels must lie in 0..65535, got black {tuple(black_levels)} and white {white_level}")
    if max(black_levels) >= white_level:
        raise ValueError(f"black levels must be below the white level {white_level}, got {tuple(black_levels)}")
    if flip not in _ORIENTATIONS:
        raise ValueError(f"flip must be one of 0 to 7, got {flip}")
    data = np.ascontiguousarray(pixels, dtype="<u2")
    height, width = data.shape[:2]
    name = f"{make} {model}".strip() if not model.startswith(make) else model
    fields = [
        Field(254, LONG, (0,)),
        Field(256, LONG, (width,)),
        Field(257, LONG, (height,)),
        Field(258, SHORT, (16,) * samples),
        Field(259, SHORT, (1,)),
        Field(262, SHORT, (_LINEAR_RAW if cell is None else _CFA,)),
        *([Field(271, ASCII, make)] if make else []),
        *([Field(272, ASCII, model)] if model else []),
        Field(274, SHORT, (_ORIENTATIONS[flip],)),
        Field(277, SHORT, (samples,)),
        Field(278, LONG, (height,)),
        Field(279, LONG, (data.nbytes,)),
        Field(284, SHORT, (1,)),
        Field(305, ASCII, software),
        Field(50706, BYTE, (1, 4, 0, 0)),
        Field(50707, BYTE, (1, 1, 0, 0)),
        Field(50708, ASCII, name or "Unknown"),
        Field(50717, LONG, (white_level,) * samples),
        Field(50718, RATIONAL, (max(1.0, pixel_aspect), max(1.0, 1.0 / pixel_aspect))),
        Field(50719, LONG, (0, 0)),
        Field(50720, LONG, (width, height)),
        Field(50829, LONG, (0, 0, height, width)),
        *_black_fields(black_levels, cell, pattern, samples),
        *_cfa_fields(cell),
        *_noise_fields(noise),
        *(_color_fields(gains, rgb_cam, xyz2cam) if cell is not None or samples == 3 else []),
    ]
    header = tiff_header(fields, exif=_exif_fields(shot or Shot()), strip_bytes=data.nbytes)
    with Path(path).open("wb") as file:
        file.write(header)
        file.write(data.data)


def dng_like(raw: RawFile, pixels: NDArray[np.uint16], path: Path, *, software: str = "unveil") -> None:
    """Write new pixels with everything else as in ``raw``; the masked border is left out.

    Args:
        raw: the file that the pixels come from.
        pixels: (H, W) for a mosaic or grey, (H, W, 3) for linear colours, of the size of the visible part.
        path: the file to write.
        software: the program that writes.

    Raises:
        ValueError: ``pixels`` does not have the shape of what ``raw`` holds, or ``raw`` holds nothing.
        OSError: the file cannot be written.
    """
    held = raw.mosaic if raw.mosaic is not None else raw.linear
    if held is None or held.shape != pixels.shape:
        raise ValueError(
            f"pixels must have the shape of the raw file {held if held is None else held.shape}, got {pixels.shape}"
        )
    write_dng(
        path,
        pixels,
        pattern=raw.pattern or (None if raw.kind in ("linear", "mono") else raw.cfa),
        black_levels=raw.black_levels,
        white_level=raw.white_level,
        white_balance=raw.white_balance,
        xyz2cam=_xyz2cam(raw.rgb_cam, raw.daylight_balance or raw.white_balance),
        noise=raw.noise_profile,
        make=raw.make,
        model=raw.model,
        flip=raw.flip,
        pixel_aspect=raw.pixel_aspect,
        shot=Shot(
            iso=raw.iso,
            exposure_time=raw.exposure_time,
            aperture=raw.aperture,
            focal_length=raw.focal_length,
            taken=raw.taken,
        ),
        software=software,
    )


def _cell(pixels: NDArray[np.uint16], pattern: CFAPattern | NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
    """The repeated cell of the colour filters, or None without one."""
    if pixels.dtype != np.uint16 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
        raise ValueError(f"pixels must be (H, W) or (H, W, 3) uint16, got {pixels.shape} {pixels.dtype}")
    if not all(2 <= side <= MAX_SIDE for side in pixels.shape[:2]):
        raise ValueError(f"a DNG needs 2 to {MAX_SIDE} rows and columns, got {pixels.shape[0]}x{pixels.shape[1]}")
    if pattern is None or pixels.ndim == 3:
        return None
    if isinstance(pattern, str):
        cell = np.empty((2, 2), dtype=np.uint8)
        for site, color in zip(plane_sites(pattern), (0, 1, 1, 2), strict=True):
            cell[site] = color
        return cell
    if pattern.ndim != 2 or pattern.size > 256 or pattern.max() > 2:
        raise ValueError(f"a colour filter cell must be (n, m) with colours 0 to 2, got {pattern.shape}")
    return pattern


def _black_fields(
    levels: Sequence[float],
    cell: NDArray[np.uint8] | None,
    pattern: CFAPattern | NDArray[np.uint8] | None,
    samples: int,
) -> list[Field]:
    red, green_r, green_b, blue = levels
    green = (green_r + green_b) / 2
    size: tuple[int, ...]
    values: tuple[float, ...]
    if cell is None:
        size, values = (1, 1), (red, green, blue) if samples == 3 else (green,)
    elif isinstance(pattern, str):
        at = dict(zip(plane_sites(pattern), levels, strict=True))
        size, values = (2, 2), tuple(at[row, column] for row in (0, 1) for column in (0, 1))
    elif red == green == blue:
        size, values = (1, 1), (green,)
    else:
        size, values = cell.shape, tuple((red, green, blue)[color] for color in cell.flat)
    whole = all(float(value).is_integer() for value in values)
    return [Field(50713, SHORT, size), Field(50714, LONG if whole else RATIONAL, values)]


def _cfa_fields(cell: NDArray[np.uint8] | None) -> list[Field]:
    if cell is None:
        return []
    return [
        Field(33421, SHORT, cell.shape),
        Field(33422, BYTE, tuple(cell.ravel().tolist())),
        Field(50710, BYTE, (0, 1, 2)),
        Field(50711, SHORT, (1,)),
    ]


def _noise_fields(noise: Sequence[tuple[float, float]] | None) -> list[Field]:
    if noise is None:
        return []
    if len(noise) not in (1, 3) or not all(shot > 0 and read >= 0 for shot, read in noise):
        raise ValueError(f"noise must be one or three pairs of shot above 0 and read from 0, got {noise}")
    return [Field(51041, DOUBLE, tuple(value for pair in noise for value in pair))]


def _color_fields(gains: NDArray[np.float64], rgb_cam: ArrayLike | None, xyz2cam: ArrayLike | None) -> list[Field]:
    if xyz2cam is None:
        xyz2cam = _xyz2cam(np.eye(3) if rgb_cam is None else np.asarray(rgb_cam, dtype=np.float64), gains)
    matrix = np.asarray(xyz2cam, dtype=np.float64)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        raise ValueError(f"a colour matrix must be 3x3 and finite, got {matrix.tolist()}")
    neutral = gains.min() / gains
    return [
        Field(50721, SRATIONAL, tuple(matrix.ravel().tolist())),
        Field(50728, RATIONAL, tuple(neutral.tolist())),
        Field(50778, SHORT, (_D65,)),
    ]


def _xyz2cam(rgb_cam: NDArray[np.float64], daylight: ArrayLike) -> NDArray[np.float64]:
    """XYZ to unbalanced camera colours, where daylight has the gains ``daylight``."""
    try:
        rgb2cam = np.linalg.inv(rgb_cam)
    except np.linalg.LinAlgError as error:
        raise ValueError(f"a colour matrix must have an inverse, got {np.asarray(rgb_cam).tolist()}") from error
    gains = np.asarray(daylight, dtype=np.float64)
    return np.asarray(rgb2cam / (gains / gains[1])[:, None] @ np.linalg.inv(np.asarray(RGB_TO_XYZ)))


def _exif_fields(shot: Shot) -> list[Field]:
    fields = []
    if shot.exposure_time:
        fields.append(Field(33434, RATIONAL, (shot.exposure_time,)))
    if shot.aperture:
        fields.append(Field(33437, RATIONAL, (shot.aperture,)))
    if shot.iso:
        fields.append(Field(34855, SHORT, (min(65535, round(shot.iso)),)))
        if shot.iso > 65535:  # Exif 2.3: the old field overflows, the recommended exposure index tells
            fields += [Field(34864, SHORT, (2,)), Field(34866, LONG, (round(shot.iso),))]
    if shot.taken:
        fields.append(Field(36867, ASCII, shot.taken))
    if shot.focal_length:
        fields.append(Field(37386, RATIONAL, (shot.focal_length,)))
    return fields
