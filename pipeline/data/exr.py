"""OpenEXR pictures of renderers: colours out, and the same file back with other colours; an optional extra.

All pixels are decoded in a child process (`pipeline.data.exr_decoder`): the format has a dozen codecs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.data.image_types import MAX_PIXELS, CodecError, ImageError, Pixels, check_pixels
from pipeline.data.paths import shown
from pipeline.data.reasons import refusal
from pipeline.errors import UserError
from raw.child_process import ChildProcess

T = TypeVar("T")

DECODER = ChildProcess("pipeline.data.exr_decoder")
"""The child of this process; it starts with the first EXR and serves all."""

SIGNATURE: Final = b"\x76\x2f\x31\x01"
HALF_MAX: Final = 65504.0

_BEAUTY = ("combined", "beauty", "rgba", "rgb", "image", "color", "colour")
"""Last words of the names of layers that hold the picture, where no channel is simply called R."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExrContent:
    """All channels of all parts, one entry each, as the child sends them."""

    parts: tuple[int, ...]
    names: tuple[str, ...]
    samplings: tuple[tuple[int, int], ...]
    perceptual: tuple[bool, ...]
    pixels: tuple[Pixels, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExrLayers:
    """An EXR file whose colours were taken out: everything else travels with the picture."""

    headers: tuple[dict[str, Any], ...]
    """Attributes of each part, as the library has them."""

    content: ExrContent
    """All channels; those of the colours have no pixels any more."""

    colours: tuple[int, ...]
    """Which of them are R, G and B, or Y, in this order."""

    half: bool
    """Whether the colours are stored as 16-bit floats."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the channels that are the colours."""
        return tuple(self.content.names[index] for index in self.colours)

    def alpha(self) -> NDArray[np.float32] | None:
        """Return (H, W, 1), the alpha that belongs to the colours, or None."""
        name = self.names[0][:-1] + "A"
        part = self.content.parts[self.colours[0]]
        for index, found in enumerate(self.content.names):
            if found == name and self.content.parts[index] == part:
                return self.content.pixels[index].astype(np.float32)[..., None]
        return None


def read_exr_layers(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[NDArray[np.float32], ExrLayers]:
    """Read the colours of an EXR file as they are, linear and unbounded, and what lies beside them.

    Returns:
        (H, W, 1 or 3) float32: R, G and B, or Y; of the first part that has them, or else of a layer such as
        ``ViewLayer.Combined``. NaN and infinity included.

    Raises:
        UserError: the package ``OpenEXR`` is not installed.
        CodecError: damaged, too large, without colours, deep, or the decoder crashed or took too long.
    """
    from raw.isolated import ask_about, checked

    try:
        import OpenEXR  # noqa: F401
    except ImportError:
        raise UserError(
            f"{shown(path)}: EXR files need the package OpenEXR; install it with pip install 'unveil-denoise[exr]'"
        ) from None
    if not path.is_file():
        raise CodecError("expected an EXR file, found nothing there")
    try:
        answer = ask_about(DECODER, path, "picture", max_pixels=max_pixels, timeout=None, memory=None)
        content = checked(path, ExrContent, answer)
    except ValueError as error:
        raise refusal(error, path) from error
    # After the child: what it has read to the end does not harm us.
    with open_exr(path, header_only=True) as file:
        headers = tuple(dict(part.header) for part in file.parts)
    chosen = _colours(content)
    planes = [content.pixels[index] for index in chosen]
    if len({plane.shape for plane in planes}) != 1 or any(content.samplings[index] != (1, 1) for index in chosen):
        raise CodecError("expected R, G and B of one size, found subsampled channels")
    if any(plane.dtype.kind != "f" for plane in planes):
        raise CodecError("expected R, G and B as floats, found whole numbers")
    colours = np.stack([plane.astype(np.float32) for plane in planes], axis=-1)
    nothing = np.empty((0, 0), np.float32)
    kept = tuple(nothing if index in chosen else plane for index, plane in enumerate(content.pixels))
    content = ExrContent(
        parts=content.parts,
        names=content.names,
        samplings=content.samplings,
        perceptual=content.perceptual,
        pixels=kept,
    )
    half = all(plane.dtype == np.float16 for plane in planes)
    return colours, ExrLayers(headers=headers, content=content, colours=chosen, half=half)


def read_exr(path: Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.float32]:
    """Read the colours of an EXR file as they are: linear, unbounded, NaN and infinity included.

    Returns:
        (H, W, 3) float32; a luminance file (Y) is repeated, alpha and other channels are left out.

    Raises:
        UserError: the package ``OpenEXR`` is not installed.
        ImageError: no EXR, damaged, too large, or without colours.
    """
    try:
        colours, _ = read_exr_layers(path, max_pixels)
    except CodecError as error:
        raise ImageError(f"{shown(path)}: {error}") from None
    return np.repeat(colours, 3, axis=-1) if colours.shape[2] == 1 else colours


def write_exr_layers(path: Path, colours: NDArray[np.float32], layers: ExrLayers, *, half: bool) -> str | None:
    """Write the file that ``layers`` came from with other colours, in the same compression with the same attributes.

    Args:
        path: where to.
        colours: (H, W, 1 or 3) float32, linear.
        layers: of `read_exr_layers`.
        half: store the colours as 16-bit floats, which end at 65504.

    Returns:
        What could not stay as it was, or None.
    """
    stored = _stored(colours, half)
    planes = {index: np.ascontiguousarray(stored[..., at]) for at, index in enumerate(layers.colours)}
    remarks = []
    headers = [dict(header) for header in layers.headers]
    for header in headers:
        # Both are written anew from what there is.
        header.pop("channels", None)
        header.pop("chunkCount", None)
        if _single_level(header):
            remarks.append("smaller copies for textures (mipmaps) are left out")
    _write(path, headers, layers.content, planes)
    if not _same(path, layers.content, planes):
        # A lossy codec changes again what it has changed before: the other channels are to stay.
        import OpenEXR

        changed = {str(header["compression"]).rpartition(".")[2].partition("_")[0].split(":")[0] for header in headers}
        for header in headers:
            header["compression"] = OpenEXR.ZIP_COMPRESSION
        _write(path, headers, layers.content, planes)
        remarks.append(f"written with ZIP, as {', '.join(sorted(changed))} would have changed other channels again")
    return "; ".join(dict.fromkeys(remarks)) or None


def write_exr(path: Path, pixels: NDArray[np.float32], *, half: bool) -> None:
    """Write a picture that came from another format.

    Args:
        path: where to.
        pixels: (H, W, C), C in 1..4, linear; alpha, the last of 2 or 4, multiplied in.
        half: store 16-bit floats.
    """
    import OpenEXR

    names = {1: "Y", 2: "YA", 3: "RGB", 4: "RGBA"}[pixels.shape[2]]
    stored = _stored(pixels, half)
    channels = {name: np.ascontiguousarray(stored[..., at]) for at, name in enumerate(names)}
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, channels).write(str(path))


def open_exr(path: Path, *, header_only: bool = False) -> Any:
    """Open an EXR file with the library, each channel for itself."""
    import OpenEXR

    return OpenEXR.File(str(path), separate_channels=True, header_only=header_only)


def check_parts(headers: list[dict[str, Any]], max_pixels: int) -> int:
    """Return the bytes that all channels take.

    Raises:
        CodecError: no parts, deep ones, or more pixels than ``max_pixels`` in one.
    """
    size = 0
    for header in headers:
        low, high = header["dataWindow"]
        width, height = (int(high[axis]) - int(low[axis]) + 1 for axis in (0, 1))
        check_pixels(height, width, max_pixels)
        if "deep" in str(header.get("type")):
            raise CodecError("expected a flat EXR picture, found a deep one")
        size += 4 * height * width * len(header["channels"])
    if not headers:
        raise CodecError("expected an EXR picture, found none in the file")
    if size > 16 * max_pixels:
        raise CodecError(f"expected at most {16 * max_pixels} bytes in all channels, found {size} in the header")
    return size


def _stored(pixels: NDArray[np.float32], half: bool) -> Pixels:
    # Beyond the range of a half lies infinity.
    return np.clip(pixels, -HALF_MAX, HALF_MAX).astype(np.float16) if half else pixels


def _colours(content: ExrContent) -> tuple[int, ...]:
    """Return where R, G and B, or Y, are: of no layer, or else of the one that is named as the picture."""
    layers: dict[tuple[int, str], dict[str, int]] = {}
    for index, name in enumerate(content.names):
        layer, _, last = name.rpartition(".")
        layers.setdefault((content.parts[index], layer), {})[last] = index
    named = [key for key in layers if key[1].rpartition(".")[2].lower() in _BEAUTY]
    for key in [key for key in layers if not key[1]] + (named if len(named) == 1 else []):
        for wanted in ("RGB", "Y"):
            if all(letter in layers[key] for letter in wanted):
                return tuple(layers[key][letter] for letter in wanted)
    raise CodecError(f"expected the channels R, G and B, found {_listed(content.names)}")


def _listed(names: tuple[str, ...]) -> str:
    some = [shown(name[:40]) for name in names[:8]]
    return ", ".join(some) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "none"


def _single_level(header: dict[str, Any]) -> bool:
    """Make the header one of a picture without smaller copies; say whether it had them."""
    import OpenEXR

    tiles = header.get("tiles")
    if tiles is None or tiles.mode == OpenEXR.ONE_LEVEL:
        return False
    single = OpenEXR.TileDescription()
    single.xSize, single.ySize, single.mode = tiles.xSize, tiles.ySize, OpenEXR.ONE_LEVEL
    header["tiles"] = single
    return True


def _write(path: Path, headers: list[dict[str, Any]], content: ExrContent, planes: dict[int, Any]) -> None:
    import OpenEXR

    parts = []
    for number, header in enumerate(headers):
        channels = {}
        for index, name in enumerate(content.names):
            if content.parts[index] == number:
                pixels = planes[index] if index in planes else content.pixels[index]
                channels[name] = OpenEXR.Channel(name, pixels, *content.samplings[index], content.perceptual[index])
        parts.append(OpenEXR.Part(dict(header), channels, header.get("name", "")))
    file = OpenEXR.File(parts[0].header, parts[0].channels) if len(parts) == 1 else OpenEXR.File(parts)
    file.write(str(path))


def _same(path: Path, content: ExrContent, planes: dict[int, Any]) -> bool:
    """Say whether the channels that are not the colours read back as they were, where the codec may change them."""
    with open_exr(path, header_only=True) as file:
        lossy = any(name in str(part.header["compression"]) for part in file.parts for name in ("DWA", "B44", "PXR24"))
    if not lossy:
        return True
    with open_exr(path) as file:
        for index, name in enumerate(content.names):
            written = file.parts[content.parts[index]].channels[name].pixels
            if index not in planes and written.tobytes() != content.pixels[index].tobytes():
                return False
    return True
