"""Damaged pictures for `fuzz_reader`: small whole files of every kind, and seeded ways to break them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

SHARED = Path(__file__).parents[3] / "shared" / "data" / "raw"
SIZES = (0, 1, 2, 7, 255, 65535, 65536, 17320, 173205, 2**31 - 1, 2**31, 2**32 - 1)
"""17320 squared is just under the limit of 300 megapixels; 173205 squared are 30 gigapixels."""

_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_LAYOUT_TAGS = {256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 330, 339, 347, 34665}
_RAW_TAGS = {33421, 33422, 50706, 50711, 50713, 50714, 50717, 50721, 50728, 50829, 51008, 51041}


class Seed(NamedTuple):
    """A whole file to be damaged."""

    kind: str
    name: str
    data: bytes


def seeds(*, real: bool = True) -> list[Seed]:
    """Return whole files of every kind; ``real`` adds camera files of ../shared, if they are there."""
    made = [*_tiffs(), *_pillows(), *_pngs(), *_dngs()]
    if real and SHARED.is_dir():
        names = sorted(path for path in SHARED.iterdir() if path.suffix in (".crw", ".dng", ".kdc"))
        made += [Seed("dng" if path.suffix == ".dng" else "raw", path.name, path.read_bytes()) for path in names]
    return made


def damaged(generator: np.random.Generator, seed: Seed, others: list[Seed]) -> tuple[str, bytes]:
    """Return the name of a damage and the damaged file."""
    ways = [_truncated, _flipped_header, _flipped, _spliced, _swapped, _absurd_size]
    weights = [3, 3, 2, 2, 1, 4]
    if seed.data[:4] in (b"II*\0", b"MM\0*"):
        ways += [_absurd_tag, _absurd_layout, _looped]
        weights += [4, 6, 1]
    way = ways[int(generator.choice(len(ways), p=np.array(weights) / sum(weights)))]
    other = others[int(generator.integers(len(others)))].data
    data = bytearray(seed.data)
    for _ in range(int(generator.integers(1, 4)) if way in (_absurd_tag, _absurd_layout) else 1):
        data = way(generator, data, other)
    if seed.kind == "png" and generator.random() < 0.6:
        # Else the checksums would guard everything behind them.
        data = _with_checksums(data)
    return way.__name__.strip("_").replace("_", " "), bytes(data)


def noise(shape: tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
    """Smooth noise: compresses, but not to nothing."""
    values = np.cumsum(np.random.default_rng(len(shape)).integers(-9, 10, shape), axis=1)
    return (values * (1.0 / 512) if dtype is np.float32 else values & (2 ** (8 * np.dtype(dtype).itemsize) - 1)).astype(
        dtype
    )


def _tiffs() -> Iterator[Seed]:
    import tifffile

    def made(name: str, pixels: np.ndarray, **options: object) -> Seed:
        file = io.BytesIO()
        tifffile.imwrite(file, pixels, metadata=None, **options)
        return Seed("tiff", name, file.getvalue())

    small, large = noise((48, 64, 3)), noise((300, 200, 3))
    yield made("plain", small, photometric="rgb")
    yield made("deep", noise((48, 64, 3), np.uint16), photometric="rgb", byteorder=">")
    yield made("float", noise((48, 64), np.float32))
    yield made("big", small, photometric="rgb", bigtiff=True)
    yield made("planar", np.moveaxis(small, -1, 0), photometric="rgb", planarconfig="separate")
    yield made("palette", small[..., 0], photometric="palette", colormap=noise((3, 256), np.uint16))
    for codec in ("lzw", "zlib", "packbits", "zstd", "lzma", "jpeg", "webp", "jpeg2000", "jpegxl", "lerc", "png"):
        yield made(codec, large, photometric="rgb", compression=codec, tile=(64, 64))
    yield made("strips", large, photometric="rgb", compression="lzw", rowsperstrip=16, predictor=True)
    yield made("ycbcr", large, photometric="rgb", compression="jpeg", subsampling=(2, 2), rowsperstrip=32)
    yield made("floatz", noise((64, 64), np.float32), compression="zlib", predictor=True)


def _pillows() -> Iterator[Seed]:
    from PIL import Image

    colour = Image.fromarray(noise((60, 90, 3)))
    exif = Image.Exif()
    exif[271], exif[274] = "Maker", 6
    for kind, name, picture, options in (
        ("jpeg", "plain", colour, {"quality": 90, "exif": exif, "icc_profile": b"profile" * 40}),
        ("jpeg", "progressive", colour, {"progressive": True, "dpi": (300, 300)}),
        ("jpeg", "full", colour, {"subsampling": 0, "restart_marker_blocks": 4}),
        ("jpeg", "grey", colour.convert("L"), {}),
        ("bmp", "plain", colour, {}),
        ("bmp", "palette", colour.quantize(16), {}),
        ("bmp", "bits", colour.convert("1"), {}),
        ("webp", "lossy", colour, {"exif": exif}),
        ("webp", "lossless", colour, {"lossless": True}),
        ("webp", "alpha", colour.convert("RGBA"), {"icc_profile": b"profile" * 40}),
        ("tiff", "group4", colour.convert("1"), {"compression": "group4"}),
    ):
        file = io.BytesIO()
        picture.save(file, kind.upper(), **options)
        yield Seed(kind, name, file.getvalue())


def _pngs() -> Iterator[Seed]:
    from PIL import Image

    from pipeline.data.image_types import Metadata
    from pipeline.data.png import encode_png

    metadata = Metadata(icc=b"profile" * 40, xmp=b"<x/>", exif=b"II*\0\x08\0\0\0\0\0", dpi=(300.0, 300.0))
    yield Seed("png", "plain", encode_png(noise((60, 90, 3)), metadata))
    yield Seed("png", "deep", encode_png(noise((60, 90, 4), np.uint16), Metadata()))
    yield Seed("png", "flat", encode_png(np.zeros((400, 900, 1), np.uint8), Metadata()))
    file = io.BytesIO()
    Image.fromarray(noise((40, 50, 3))).quantize(16).save(file, "PNG", transparency=0)
    yield Seed("png", "palette", file.getvalue())


def _dngs() -> Iterator[Seed]:
    import tifffile

    ratios = [part for value in (8606, -2573, -949, -8237, 15489, 2974, -2649, 3076, 9100) for part in (value, 10000)]
    common = [(50706, 1, 4, (1, 4, 0, 0), True), (50708, 2, None, "Made Camera", True), (50717, 4, 1, 1023, True)]
    common += [(50721, 10, 9, tuple(ratios), True), (50728, 5, 3, (1, 2, 1, 1, 2, 3), True), (50778, 3, 1, 21, True)]
    common += [(51041, 12, 2, (1e-3, 1e-6), True)]
    mosaic = [(33421, 3, 2, (2, 2), True), (33422, 1, 4, b"\0\1\1\2", True), (50710, 1, 3, (0, 1, 2), True)]
    mosaic += [(50711, 3, 1, 1, True), (50713, 3, 2, (2, 2), True), (50714, 3, 4, (64,) * 4, True)]
    sensor = 64 + noise((120, 180), np.uint16) % 960
    masked = (50829, 4, 4, (8, 12, 120, 180), True)
    for name, pixels, photometric, tags in (
        ("bayer", sensor, 32803, [*common, *mosaic]),
        ("masked", sensor, 32803, [*common, *mosaic, masked]),
        ("linear", 64 + noise((120, 180, 3), np.uint16) % 960, 34892, common),
    ):
        file = io.BytesIO()
        tifffile.imwrite(
            file, pixels, photometric=photometric, extratags=tags, metadata=None, rowsperstrip=pixels.shape[0]
        )
        yield Seed("dng", name, file.getvalue())


def _truncated(generator: np.random.Generator, data: bytearray, _: bytes) -> bytearray:
    scale = generator.random()
    length = int(np.exp(generator.uniform(0, np.log(len(data) + 1)))) if scale < 0.5 else int(scale * len(data))
    return data[: min(length, len(data) - 1)]


def _flipped_header(generator: np.random.Generator, data: bytearray, _: bytes) -> bytearray:
    end = min(len(data), int(generator.choice([16, 64, 512])))
    return _with_bytes(generator, data, generator.integers(0, end, int(generator.integers(1, 12))))


def _flipped(generator: np.random.Generator, data: bytearray, _: bytes) -> bytearray:
    # Camera files keep their directories at either end.
    last = int(generator.choice([len(data), min(len(data), 2048)]))
    places = len(data) - 1 - generator.integers(0, last, int(generator.integers(1, 65)))
    return _with_bytes(generator, data, places)


def _with_bytes(generator: np.random.Generator, data: bytearray, places: np.ndarray) -> bytearray:
    for place in places:
        data[int(place)] = int(generator.choice([0, 1, 127, 128, 255, generator.integers(256)]))
    return data


def _spliced(generator: np.random.Generator, data: bytearray, other: bytes) -> bytearray:
    at, end = sorted(int(place) for place in generator.integers(0, len(data), 2))
    block = bytes(data[at:end])[: 2**20]
    way = int(generator.integers(5))
    if way == 0:
        return data[:at] + data[end:]
    if way == 1:
        return data[:end] + block + data[end:]
    if way == 2:
        return data[:at] + bytes(len(block)) + data[end:]
    start = int(generator.integers(0, len(other)))
    stranger = other[start : start + int(generator.integers(1, 4096))]
    return data[:at] + stranger + (data[at + len(stranger) :] if way == 3 else data[at:])


def _swapped(generator: np.random.Generator, data: bytearray, _: bytes) -> bytearray:
    if generator.random() < 0.5 and data[:2] in (b"II", b"MM"):
        data[:2] = b"MM" if data[:2] == b"II" else b"II"
        return data
    start = int(generator.choice([0, 2, 4, 8]))
    word = int(generator.choice([2, 4]))
    part = np.frombuffer(bytes(data[start : start + (len(data) - start) // word * word]), f"<u{word}")
    data[start : start + part.nbytes] = part.byteswap().tobytes()
    return data


def _with_checksums(data: bytearray) -> bytearray:
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return data


def _absurd_size(generator: np.random.Generator, data: bytearray, _: bytes) -> bytearray:
    wide, high = (int(size) for size in generator.choice(SIZES, 2))
    if generator.random() < 0.5:
        wide = high = int(generator.choice([17320, 173205, 65535]))
    if data[:4] in (b"II*\0", b"MM\0*"):
        for place, tag, *_ in _entries(data):
            if tag in (256, 257):
                _put(data, place, 4, 1, wide if tag == 256 else high)
    elif data[:4] == b"\x89PNG":
        data[16:24] = struct.pack(">II", wide, high)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif data[:2] == b"\xff\xd8":
        for marker in (b"\xff\xc0", b"\xff\xc2"):
            if (at := data.find(marker)) > 0:
                data[at + 5 : at + 9] = struct.pack(">HH", high & 65535, wide & 65535)
    elif data[:2] == b"BM":
        data[18:26] = struct.pack("<II", wide, high)
    elif data[:4] == b"RIFF":
        for name, at in ((b"VP8X", 12), (b"VP8L", 9), (b"VP8 ", 14)):
            if (place := data.find(name)) > 0:
                data[place + at : place + at + 6] = struct.pack("<II", wide & 0xFFFFFF, high & 0xFFFFFF)[:6]
    else:
        # Unknown structure: any word may be a size.
        at = int(generator.choice([generator.integers(0, 256), len(data) - generator.integers(4, 4096)]))
        data[at : at + 4] = struct.pack("<I", wide)
    return data


def _absurd_tag(generator: np.random.Generator, data: bytearray, _: bytes) -> bytearray:
    entries = list(_entries(data))
    if entries:
        place, _tag, kind, count, value = entries[int(generator.integers(len(entries)))]
        way = int(generator.integers(4))
        value = int(generator.choice([len(data) - 2, len(data) * 2, 2**31, 2**32 - 1, 0])) if way == 0 else value
        count = int(generator.choice([0, 1, 2**16, 2**28, 2**32 - 1])) if way == 1 else count
        kind = int(generator.integers(0, 20)) if way == 2 else kind
        _put(data, place, kind, count, int(generator.integers(2**32)) if way == 3 else value)
    return data


def _absurd_layout(generator: np.random.Generator, data: bytearray, _: bytes) -> bytearray:
    entries = [entry for entry in _entries(data) if entry[1] in _LAYOUT_TAGS | _RAW_TAGS]
    if entries:
        place, _tag, kind, count, _value = entries[int(generator.integers(len(entries)))]
        value = int(generator.choice([*SIZES, *range(9), 12, 14, 16, 32, 34712, 34892, 50000, 52546]))
        short = kind == 3 and count == 1 and value < 65536
        _put(data, place, 3 if short else 4, count if count < 3 else 1, value)
    return data


def _looped(generator: np.random.Generator, data: bytearray, _: bytes) -> bytearray:
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    if start + 2 <= len(data):
        (count,) = struct.unpack_from(order + "H", data, start)
        end = start + 2 + 12 * count
        if end + 4 <= len(data):
            target = int(generator.choice([start, end, 0, 2, len(data) - 6, 2**32 - 2]))
            data[end : end + 4] = struct.pack(order + "I", target)
    return data


def _entries(data: bytearray) -> Iterator[tuple[int, int, int, int, int]]:
    """Place, tag, type, count and value of each entry of the first directories and their children."""
    order = "<" if data[:2] == b"II" else ">"
    waiting, seen = [struct.unpack_from(order + "I", data, 4)[0]] if len(data) >= 8 else [], set()
    while waiting and len(seen) < 8:
        start = waiting.pop()
        if start in seen or start + 2 > len(data):
            continue
        seen.add(start)
        (count,) = struct.unpack_from(order + "H", data, start)
        for place in range(start + 2, min(start + 2 + 12 * count, len(data) - 11), 12):
            tag, kind, items, value = struct.unpack_from(order + "HHII", data, place)
            if tag in (330, 34665) and items == 1:
                waiting.append(value)
            yield place, tag, kind, items, value


def _put(data: bytearray, place: int, kind: int, count: int, value: int) -> None:
    order = "<" if data[:2] == b"II" else ">"
    data[place + 2 : place + 8] = struct.pack(order + "HI", kind, count)
    small = kind == 3 and value < 65536
    data[place + 8 : place + 12] = struct.pack(order + "HH", value, 0) if small else struct.pack(order + "I", value)
