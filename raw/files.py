"""Raw files: mosaic and metadata, or a plain rendering to sRGB. The only importer of rawpy (LibRaw)."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from raw.camera import RGB_TO_XYZ
from raw.cfa import CFA_PATTERNS, CFAPattern, plane_sites

if TYPE_CHECKING:
    import rawpy

# fmt: off
RAW_SUFFIXES: Final = frozenset(
    {
        ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".kdc",
        ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf",
        ".srw", ".x3f",
    }
)
# fmt: on
"""Lower-case suffixes of the raw formats that LibRaw knows."""

_COLOR_OF_INDEX = "RGBG"


@dataclass(frozen=True, kw_only=True, slots=True)
class RawFile:
    """What a raw file holds, as stored: nothing is scaled, balanced, demosaiced or rotated."""

    mosaic: NDArray[np.uint16] | None
    """(H, W) visible part of the sensor, H and W maybe odd; None if not Bayer (X-Trans, linear DNG)."""

    pattern: CFAPattern | None
    """CFA pattern at ``mosaic[0, 0]``; None without a mosaic."""

    black_levels: tuple[float, float, float, float]
    """Black level of the planes R, Gr, Gb, B, in the units of ``mosaic``."""

    white_level: int
    """Saturation in the units of ``mosaic``, as LibRaw's tables give it: real data may clip lower."""

    white_balance: tuple[float, float, float]
    """Gains of red, green and blue with green 1: the camera's, else daylight's, else ones."""

    rgb_cam: NDArray[np.float64]
    """(3, 3) white-balanced camera colours to linear sRGB (``Camera.cam2rgb``); identity if unknown."""

    flip: int
    """Turn that shows the picture upright: 0 none, 3 half, 5 quarter left, 6 quarter right."""

    iso: float | None
    """ISO speed; None if unknown."""


def read_raw(path: Path) -> RawFile:
    """Read the mosaic and the metadata of a raw file.

    Raises:
        ValueError: there is no such file, or LibRaw cannot read it; names the path.
    """
    with _opened(path) as raw:
        indices = _visible_indices(raw)
        pattern = _pattern_of(indices)
        black = [float(level) for level in raw.black_level_per_channel]
        if indices is not None and pattern is not None:
            mosaic = raw.raw_image_visible.astype(np.uint16, copy=True)
            black = [black[int(indices[site])] for site in plane_sites(pattern)]
        else:
            mosaic = None
            black = [black[index] for index in (0, 1, 3, 2)]
        iso = float(raw.other.iso_speed)
        return RawFile(
            mosaic=mosaic,
            pattern=pattern,
            black_levels=(black[0], black[1], black[2], black[3]),
            white_level=int(raw.white_level),
            white_balance=_white_balance(raw),
            rgb_cam=_rgb_cam(raw),
            flip=int(raw.sizes.flip),
            iso=iso if iso > 0 else None,
        )


def render_srgb(path: Path) -> NDArray[np.uint16]:
    """Develop a raw file through LibRaw: camera white balance, AHD demosaic, sRGB colours and curve.

    No automatic brightening, so that two exposures of one scene stay comparable.

    Returns:
        (H, W, 3), upright, 0..65535.

    Raises:
        ValueError: there is no such file, or LibRaw cannot develop it; names the path.
    """
    with _opened(path) as raw:
        return np.ascontiguousarray(
            raw.postprocess(
                use_camera_wb=True,
                no_auto_bright=True,
                adjust_maximum_thr=0.0,  # the default shifts white by content
                gamma=(2.4, 12.92),
                output_bps=16,
            )
        )


@contextlib.contextmanager
def _opened(path: Path) -> "Iterator[rawpy.RawPy]":
    import rawpy

    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with rawpy.imread(str(path)) as raw:
            yield raw
    except rawpy.LibRawIOError as error:
        raise ValueError(f"{path}: not a readable raw file (truncated or empty)") from error
    except (rawpy.LibRawError, rawpy.NotSupportedError) as error:
        reason = error.args[0] if error.args else type(error).__name__
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"{path}: not a readable raw file ({text})") from error


def _visible_indices(raw: "rawpy.RawPy") -> NDArray[np.int64] | None:
    """(2, 2) LibRaw colour indices at the visible origin; None if there is no 2x2 cell.

    LibRaw's pattern starts at the full sensor's corner: an odd margin shifts it.
    """
    pattern = raw.raw_pattern
    if pattern is None or pattern.shape != (2, 2):
        return None
    margins = (raw.sizes.top_margin, raw.sizes.left_margin)
    return np.roll(np.asarray(pattern, dtype=np.int64), (-margins[0], -margins[1]), axis=(0, 1))


def _pattern_of(indices: NDArray[np.int64] | None) -> CFAPattern | None:
    if indices is None or indices.max() >= len(_COLOR_OF_INDEX):
        return None
    name = "".join(_COLOR_OF_INDEX[index] for index in indices.flat)
    return next((pattern for pattern in CFA_PATTERNS if pattern == name), None)


def _white_balance(raw: "rawpy.RawPy") -> tuple[float, float, float]:
    for gains in (raw.camera_whitebalance, raw.daylight_whitebalance):
        red, green, blue = (float(gain) for gain in gains[:3])
        if min(red, green, blue) > 0:  # absent gains are written as -1 or 0
            return red / green, 1.0, blue / green
    return 1.0, 1.0, 1.0


def _rgb_cam(raw: "rawpy.RawPy") -> NDArray[np.float64]:
    """LibRaw fills the XYZ matrix for cameras in its table and the colour matrix for most DNGs."""
    xyz2cam = np.asarray(raw.rgb_xyz_matrix, dtype=np.float64)[:3]
    if xyz2cam.any():
        rgb2cam = xyz2cam @ np.asarray(RGB_TO_XYZ)
        return np.asarray(np.linalg.inv(rgb2cam / rgb2cam.sum(axis=1, keepdims=True)))
    cam2rgb = np.asarray(raw.color_matrix, dtype=np.float64)[:, :3]
    return cam2rgb if cam2rgb.any() else np.eye(3)


def libraw_version() -> str:
    """Return the version of the LibRaw that decodes camera files, such as "0.22.2"."""
    import rawpy

    return ".".join(str(part) for part in rawpy.libraw_version)
