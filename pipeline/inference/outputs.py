"""Where outputs go and what they are: one path for each source, the tree mirrored, no input ever among them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from pipeline.data.depth import BIT_DEPTHS, BitDepth
from pipeline.data.folders import SourceFile
from pipeline.data.images import WRITABLE
from pipeline.data.paths import confined, shown
from pipeline.errors import UserError
from raw.files import RAW_SUFFIXES

OUTPUT_FORMATS = {"png": ".png", "tiff": ".tif", "tif": ".tif", "jpeg": ".jpg", "jpg": ".jpg", "exr": ".exr"}
"""Values of ``--format`` and the suffix that each one gives."""


_DEPTHS: Final[dict[str, tuple[BitDepth, ...]]] = {
    "png": ("8", "16"),
    "jpeg": ("8",),
    "tiff": ("8", "16", "float"),
    "exr": ("16", "float"),
    "dng": ("16",),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputOptions:
    """What a user decides about the files that are written."""

    suffix: str = ""
    """Put between the stem and the file suffix of every output."""

    format: str | None = None
    """``png``, ``tiff``, ``jpeg`` or ``exr``; None keeps each file's own (raw files become 16-bit TIFF, BMP and WebP
    become PNG)."""

    overwrite: bool = False
    """Replace outputs that exist; otherwise those files are skipped."""

    skip_existing: bool = False
    """Skip outputs that are up to date by the manifest, make those again that were made here and are not, and leave all
    others alone unless ``overwrite`` is set."""

    bit_depth: BitDepth | None = None
    """Depth of what is written: 8 or 16 bits, or floats (in EXR 16 and 32-bit ones); None keeps each file's own."""

    strength: float = 1.0
    """Share of the denoised picture in what is written, 0 to 1; the rest is the noisy one."""

    def __post_init__(self) -> None:
        if self.bit_depth is not None and self.bit_depth not in BIT_DEPTHS:
            raise UserError(f"--bit-depth: expected one of {', '.join(BIT_DEPTHS)}, found {self.bit_depth!r}")
        if not 0 <= self.strength <= 1:
            raise UserError(f"--strength: expected 0 (all noisy) to 1 (all denoised), found {self.strength:g}")

    def content(self) -> dict[str, Any]:
        """Return what decides the bytes of an output, as JSON values."""
        about_names = ("suffix", "overwrite", "skip_existing")
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in about_names}


DEFAULT: Final = OutputOptions()
"""Each file's own format and name, nothing replaced."""


def plan_outputs(
    sources: Sequence[SourceFile],
    out: Path,
    options: OutputOptions = DEFAULT,
    *,
    formats: Mapping[str, str] = OUTPUT_FORMATS,
) -> list[Path]:
    """Return one output path a source: the tree mirrored, no input among them, no two the same.

    Args:
        sources: what `pipeline.data.folders.scan` found.
        out: folder that all of them lie in.
        options: suffix and format.
        formats: the values that ``options.format`` may take, and the suffix that each one gives.

    Raises:
        UserError: an output would be an input, would leave ``out``, or two sources would share one; or its format
            has no such bit depth.
    """
    format, suffix = options.format, options.suffix
    if format is not None and format not in formats:
        raise UserError(f"--format: expected one of {', '.join(formats)}, found {format!r}")
    if format == "exr" and find_spec("OpenEXR") is None:
        raise UserError(
            "--format exr: EXR files need the package OpenEXR; install it with pip install 'unveil-denoise[exr]'"
        )
    given = None if format is None else formats[format]
    if "/" in suffix or os.sep in suffix or "\0" in suffix:
        raise UserError(f"--suffix: expected text without a path separator, found {suffix!r}")
    if out.exists() and not out.is_dir():
        raise UserError(f"{shown(out)}: expected a folder to write to, found a file")
    names = [_relative_output(source.relative, suffix, given) for source in sources]
    keys = [_key(name) for name in names]
    # a.png and a.jpg would meet in a.png: both then keep their whole name, as a.png.png and a.jpg.png.
    names = [
        name if keys.count(key) == 1 else _relative_output(source.relative, suffix, given, whole=True)
        for source, name, key in zip(sources, names, keys, strict=True)
    ]
    _refuse_shared(sources, names)
    _refuse_depth(names, options.bit_depth)
    outputs = [confined(out, name) for name in names]
    _refuse_inputs(sources, outputs)
    return outputs


def _relative_output(relative: Path, suffix: str, given: str | None, *, whole: bool = False) -> Path:
    own = relative.suffix
    if given is not None:
        # .JPG stays .JPG when JPEG is asked for.
        kept = own.lower() in WRITABLE and WRITABLE[own.lower()] == WRITABLE.get(given)
        ending = own if kept else given
    elif own.lower() in WRITABLE:
        ending = own
    else:
        ending = ".tif" if own.lower() in RAW_SUFFIXES else ".png"
    stem = relative.name if whole else relative.stem
    return relative.with_name(stem + suffix + ending)


def _refuse_depth(names: Sequence[Path], bit_depth: BitDepth | None) -> None:
    if bit_depth is None:
        return
    for name in names:
        kind = WRITABLE.get(name.suffix.lower(), name.suffix.lower().lstrip("."))
        held = _DEPTHS[kind]
        if bit_depth not in held:
            raise UserError(
                f"--bit-depth: expected {' or '.join(held)} for {kind.upper()} ({shown(name)}), found {bit_depth}; "
                "--format has the others"
            )


def _key(name: Path) -> str:
    # Many file systems do not tell upper from lower case.
    return name.as_posix().casefold()


def _refuse_shared(sources: Sequence[SourceFile], names: Sequence[Path]) -> None:
    taken: dict[str, Path] = {}
    for source, name in zip(sources, names, strict=True):
        other = taken.setdefault(_key(name), source.path)
        if other is not source.path:
            raise UserError(
                f"{shown(source.path)}: expected an output of its own, found that {shown(other)} has "
                f"the same one ({shown(name)}); denoise the two into different folders"
            )


def _refuse_inputs(sources: Sequence[SourceFile], outputs: Sequence[Path]) -> None:
    paths = {source.path.resolve() for source in sources}
    identities = {_identity(source.path) for source in sources} - {None}
    for output in outputs:
        if output.resolve() in paths or _identity(output) in identities:
            raise UserError(
                f"{shown(output)}: expected an output that is no input, found an input; use another --out, or --suffix"
            )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
