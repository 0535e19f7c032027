"""Raw files: their pixels and metadata, or a plain rendering to sRGB. The only importer of rawpy (LibRaw)."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from raw.cfa import shifted
from raw.ciff import read_make_model
from raw.decoded import pattern_of, read_levels, read_pixels
from raw.dng_tags import read_tags
from raw.primaries import RGB_TO_XYZ
from raw.raw_file import Kind, Shot
from raw.raw_file import RawFile as RawFile

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

MAX_PIXELS: Final = 300_000_000
"""Above this a header is taken for a mistake or an attack."""

_LARGEST_GAIN: Final = 1000.0
_LEAST_DIAGONAL: Final = 0.125
"""LibRaw takes a colour matrix with less red in red for an absent one."""

_OVERFLOW: Final = 65535
"""The ISO speed of Exif for this and all above, which stand elsewhere."""

_TILE: Final = 512
"""LibRaw's X-Trans demosaicing refuses smaller pictures."""


def read_raw(path: Path, *, max_pixels: int = MAX_PIXELS) -> RawFile:
    """Read the pixels and the metadata of a raw file.

    Levels are checked against the pixels: see ``raw.sensor_checks``.

    Args:
        path: the file.
        max_pixels: larger sensors are refused before memory of that size is taken.

    Raises:
        ValueError: there is no such file, LibRaw cannot read it, or it is too large; names the path.
    """
    with _opened(path, max_pixels) as raw:
        # Everything is read before pixels could be processed: LibRaw changes some of it on the way.
        raw.unpack()
        tags = read_tags(path)
        make, model = (tags.make, tags.model) if tags.make or tags.model else read_make_model(path)
        pixels = read_pixels(raw)
        levels = read_levels(raw, pixels, tags)
        pattern = pattern_of(pixels.cfa)
        shot = _shot(raw)
        return RawFile(
            kind=pixels.kind,
            mosaic=pixels.mosaic,
            linear=pixels.linear,
            pattern=pattern,
            cfa=pixels.cfa,
            black_levels=levels.black,
            white_level=levels.white,
            saturation=levels.saturation,
            masked=pixels.masked,
            masked_pattern=shifted(pattern, *pixels.masked_at) if pattern and pixels.masked is not None else None,
            white_balance=_gains(raw.camera_whitebalance) or _gains(raw.daylight_whitebalance) or (1.0, 1.0, 1.0),
            daylight_balance=_gains(raw.daylight_whitebalance),
            rgb_cam=_rgb_cam(raw),
            flip=int(raw.sizes.flip) & 7,
            iso=tags.exposure_index if shot.iso == _OVERFLOW and tags.exposure_index else shot.iso,
            bits=levels.white.bit_length(),
            make=make,
            model=model,
            pixel_aspect=_pixel_aspect(raw),
            noise_profile=tags.noise_profile,
            exposure_time=shot.exposure_time,
            aperture=shot.aperture,
            focal_length=shot.focal_length,
            taken=shot.taken,
            size=(int(raw.sizes.height), int(raw.sizes.width)),
            notes=pixels.notes + levels.notes,
        )


def raw_size(path: Path, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Height and width of the upright rendering of a raw file, from its header alone; diagonal sensors are rendered.

    Raises:
        ValueError: as for ``read_raw``; damage behind the header is not seen.
    """
    with _opened(path, max_pixels) as raw:
        height, width, aspect = int(raw.sizes.height), int(raw.sizes.width), _pixel_aspect(raw)
        if height > raw.sizes.raw_height or width > raw.sizes.raw_width:
            # The rows of the sensor run diagonally: only LibRaw knows what it makes of them.
            height, width = render_srgb(path, max_pixels=max_pixels).shape[:2]
            return height, width
        if aspect < 1:
            height = int(height / aspect + 0.5)
        elif aspect > 1:
            width = int(width * aspect + 0.5)
        return (width, height) if raw.sizes.flip & 4 else (height, width)


def render_srgb(path: Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint16]:
    """Develop a raw file through LibRaw: camera white balance, AHD demosaic, sRGB colours and curve.

    No automatic brightening or balance, so that two exposures of one scene stay comparable.

    Returns:
        (H, W, 3), upright, 0..65535.

    Raises:
        ValueError: there is no such file, LibRaw cannot develop it, or it is too large; names the path.
    """
    return render_srgb_of_kind(path, max_pixels=max_pixels)[0]


def render_srgb_of_kind(path: Path, *, max_pixels: int = MAX_PIXELS) -> tuple[NDArray[np.uint16], Kind]:
    """Develop a raw file as ``render_srgb`` does, and tell what its pixels are (``RawFile.kind``); decoded once."""
    import rawpy

    with _opened(path, max_pixels) as raw:
        raw.unpack()
        kind = read_pixels(raw).kind
        cell = raw.raw_pattern
        small = cell is not None and len(cell) == 6 and min(raw.sizes.height, raw.sizes.width) < _TILE
        image = raw.postprocess(
            demosaic_algorithm=rawpy.DemosaicAlgorithm.LINEAR if small else None,
            # Without it LibRaw would balance by the content; so it is daylight's.
            use_camera_wb=_gains(raw.camera_whitebalance) is not None,
            no_auto_bright=True,
            adjust_maximum_thr=0.0,  # the default shifts white by content
            gamma=(2.4, 12.92),
            output_bps=16,
        )
        # A sensor without colour filters gives one channel.
        return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3))), kind


def libraw_version() -> str:
    """Return the version of the LibRaw that decodes camera files, such as "0.22.2"."""
    import rawpy

    return ".".join(str(part) for part in rawpy.libraw_version)


@contextlib.contextmanager
def _opened(path: Path, max_pixels: int) -> "Iterator[rawpy.RawPy]":
    """A file with its header read; the pixels are decoded when they are asked for."""
    import rawpy

    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with rawpy.RawPy() as raw:
            try:
                raw.open_file(str(path))
            except UnicodeEncodeError:  # a name that is no text
                with path.open("rb") as file:
                    raw.open_buffer(file)
            _check_size(path, raw, max_pixels)
            if path.stat().st_size < read_tags(path).end:  # LibRaw fills in a cut JPEG without a word
                raise ValueError(f"{path}: not a readable raw file (truncated)")
            yield raw
    except rawpy.LibRawIOError as error:
        raise ValueError(f"{path}: not a readable raw file (truncated or empty)") from error
    except (rawpy.LibRawError, rawpy.NotSupportedError, OSError, RuntimeError, MemoryError, ValueError) as error:
        if str(error).startswith(f"{path}: "):
            raise
        reason = error.args[0] if error.args else type(error).__name__
        if isinstance(reason, tuple):  # rawpy hands on the number and the text of an error of the system
            reason = reason[-1]
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"{path}: not a readable raw file ({' '.join(text.split())})") from error


def _check_size(path: Path, raw: "rawpy.RawPy", max_pixels: int) -> None:
    sizes = raw.sizes
    height, width = max(sizes.raw_height, sizes.height), max(sizes.raw_width, sizes.width)
    if height * width > max_pixels:
        raise ValueError(
            f"{path}: expected at most {max_pixels} pixels, found {width}x{height} = {height * width} in the header"
        )
    if min(sizes.height, sizes.width) < 1:
        raise ValueError(f"{path}: expected pixels, found {sizes.width}x{sizes.height} of them in the header")


def _shot(raw: "rawpy.RawPy") -> Shot:
    try:
        other = raw.other
    except (ValueError, OverflowError, OSError):  # a date beyond what Python holds
        return Shot()

    def known(value: float) -> float | None:
        return float(value) if value > 0 and math.isfinite(value) else None

    # Zeros of the logarithmic Exif fields are read as a second at f/1: nothing is known.
    absent = other.shutter_speed == other.aperture == 1
    return Shot(
        iso=known(other.iso_speed),
        exposure_time=None if absent else known(other.shutter_speed),
        aperture=None if absent else known(other.aperture),
        focal_length=known(other.focal_length),
        taken=f"{other.timestamp:%Y:%m:%d %H:%M:%S}" if other.timestamp.year > 1970 else None,
    )


def _gains(values: Sequence[float]) -> tuple[float, float, float] | None:
    """Gains relative to green; None if they are absent, which is written as -1, 0 or nothing sensible."""
    red, green, blue = (float(value) for value in values[:3])
    if not (min(red, green, blue) > 0 and math.isfinite(red + green + blue)):
        return None
    gains = red / green, 1.0, blue / green
    return gains if max(gains) <= _LARGEST_GAIN and min(gains) >= 1 / _LARGEST_GAIN else None


def _rgb_cam(raw: "rawpy.RawPy") -> NDArray[np.float64]:
    """Balanced camera colours to linear sRGB, by LibRaw's own rule.

    LibRaw fills the colour matrix from DNGs and some others, and the XYZ matrix for cameras in its table. A file's
    own matrix comes first.
    """
    cam2rgb = np.asarray(raw.color_matrix, dtype=np.float64)[:, :3]
    xyz2cam = np.asarray(raw.rgb_xyz_matrix, dtype=np.float64)[:3]
    with np.errstate(all="ignore"), contextlib.suppress(np.linalg.LinAlgError):
        if cam2rgb[0, 0] <= _LEAST_DIAGONAL and xyz2cam.any():
            rgb2cam = xyz2cam @ np.asarray(RGB_TO_XYZ)
            cam2rgb = np.linalg.inv(rgb2cam / rgb2cam.sum(axis=1, keepdims=True))
    usable = np.isfinite(cam2rgb).all() and cam2rgb[0, 0] > _LEAST_DIAGONAL and np.linalg.cond(cam2rgb) < 1e6
    return cam2rgb if usable else np.eye(3)


def _pixel_aspect(raw: "rawpy.RawPy") -> float:
    aspect = float(raw.sizes.pixel_aspect)
    # Within half a per cent LibRaw does not resize either.
    return aspect if 0.1 <= aspect <= 10 and abs(aspect - 1) > 0.005 else 1.0
