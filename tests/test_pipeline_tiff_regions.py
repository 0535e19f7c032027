"""Large TIFF files read and written some rows at a time: the same pixels and the same bytes as at once."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import tifffile

from pipeline.data import tiff_regions
from pipeline.data.images import Image, ImageError, Metadata, read_image, write_image
from pipeline.data.rows import ArrayRows, Window, in_strips
from pipeline.data.tiff_encoding import encode_tiff
from pipeline.data.tiff_regions import TiffRows, large_tiff, write_tiff_rows
from raw.dng import write_dng


def noisy_photo(height: int, width: int, channels: int, dtype: str, photo: np.ndarray) -> np.ndarray:
    """A photograph with noise, (H, W, C)."""
    rng = np.random.default_rng(0)
    tiled = np.tile(photo, (-(-height // 256), -(-width // 256), 2))[:height, :width, :channels]
    noisy = np.clip(tiled / np.float32(255) + rng.normal(0, 0.04, tiled.shape), 0, 1).astype(np.float32)
    return noisy if dtype == "float32" else np.rint(noisy * np.iinfo(dtype).max).astype(dtype)


EXIF_SOURCE = {"make": "Nikon", "model": "Z 5"}


LAYOUTS = {
    "plain": {},
    "one strip": {"rowsperstrip": 1000},
    "planes": {"planarconfig": "separate"},
    "planes in strips": {"planarconfig": "separate", "compression": "zlib", "rowsperstrip": 7},
    "big endian": {"byteorder": ">"},
    "bigtiff": {"bigtiff": True, "rowsperstrip": 10},
    "deflate": {"compression": "zlib", "predictor": True, "rowsperstrip": 13},
    "lzw": {"compression": "lzw", "predictor": True, "rowsperstrip": 16},
    "tiles": {"tile": (32, 48), "compression": "zlib"},
    "plain tiles": {"tile": (16, 16)},
    "zstd": {"compression": "zstd", "rowsperstrip": 5},
}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_of_any_layout_are_those_of_the_picture_read_whole(tmp_path, photo, layout, dtype) -> None:
    pixels = noisy_photo(101, 67, 3, dtype, photo)
    options = {"photometric": "rgb", "planarconfig": "contig", **LAYOUTS[layout]}
    data = pixels.transpose(2, 0, 1) if options["planarconfig"] == "separate" else pixels
    tifffile.imwrite(tmp_path / "a.tif", data, **options)
    rows = TiffRows(tmp_path / "a.tif")
    assert (rows.height, rows.width, rows.channels, rows.dtype) == (101, 67, 3, np.dtype(dtype))
    for start, stop in ((0, 1), (100, 101), (0, 101), (31, 33), (40, 90)):
        assert np.array_equal(rows.read(start, stop), pixels[start:stop])
    assert np.array_equal(read_image(tmp_path / "a.tif").pixels, pixels)


@pytest.mark.parametrize("tile", [None, (64, 64)])
def test_jpeg_palettes_and_inverted_greys_are_read_by_region_too(tmp_path, photo, tile) -> None:
    grey = noisy_photo(150, 90, 1, "uint8", photo)[..., 0]
    table = np.random.default_rng(0).integers(0, 2**16, (3, 256), np.uint16)
    segments = {"tile": tile} if tile else {"rowsperstrip": 16}
    for name, data, options in (
        ("jpeg", noisy_photo(150, 90, 3, "uint8", photo), {"photometric": "ycbcr", "compression": "jpeg"}),
        ("palette", grey, {"photometric": "palette", "colormap": table, "compression": "zlib"}),
        ("inverted", grey, {"photometric": "miniswhite", "compression": "zlib"}),
        ("plain inverted", grey, {"photometric": "miniswhite"}),
    ):
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, data, **options, **segments)
        whole, rows = read_image(path).pixels, TiffRows(path)
        assert np.array_equal(rows.read(0, 150), whole), name
        assert np.array_equal(rows.read(77, 131), whole[77:131]), name


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_file_written_row_by_row_is_the_file_written_at_once(tmp_path, photo, channels, dtype) -> None:
    write_dng(tmp_path / "a.dng", np.zeros((64, 64), np.uint16), white_level=1023, **EXIF_SOURCE)
    exif = read_image(tmp_path / "a.dng").metadata.exif
    assert exif is not None
    metadata = Metadata(icc=b"profile" * 9, xmp=b"<x/>", dpi=(300.0, 200.0), exif=exif)
    pixels = noisy_photo(700, 301, channels, dtype, photo)
    parts = (pixels[start : start + 83] for start in range(0, 700, 83))
    write_tiff_rows(tmp_path / "b.tif", parts, pixels.shape, metadata)
    assert (tmp_path / "b.tif").read_bytes() == encode_tiff(pixels, metadata)
    again = read_image(tmp_path / "b.tif")
    assert np.array_equal(again.pixels, pixels)
    assert again.metadata.exif is not None
    assert b"Nikon" in again.metadata.exif


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_big_endian_file_stays_one(tmp_path, photo, dtype) -> None:
    pixels = noisy_photo(90, 70, 3, dtype, photo)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", byteorder=">", description="words", metadata=None)
    rows = TiffRows(tmp_path / "a.tif")
    assert rows.metadata.exif is not None
    assert rows.metadata.exif[:2] == b"MM"
    write_tiff_rows(tmp_path / "b.tif", iter([rows.read(0, 90)]), pixels.shape, rows.metadata)
    assert (tmp_path / "b.tif").read_bytes() == encode_tiff(pixels, rows.metadata)
    assert np.array_equal(tifffile.imread(tmp_path / "b.tif"), pixels)


def test_damaged_exif_does_not_cost_the_picture(tmp_path, photo) -> None:
    pixels = noisy_photo(90, 70, 3, "uint8", photo)
    metadata = Metadata(exif=b"II*\0\xff\xff\xff\xff")
    write_tiff_rows(tmp_path / "a.tif", iter([pixels]), pixels.shape, metadata)
    assert np.array_equal(read_image(tmp_path / "a.tif").pixels, pixels)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_floats_that_are_not_finite_are_refused_where_they_are(tmp_path, photo) -> None:
    pixels = noisy_photo(60, 50, 3, "float32", photo)
    pixels[40, 3, 1] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    rows = TiffRows(tmp_path / "a.tif")
    assert rows.read(0, 40).shape == (40, 50, 3)
    with pytest.raises(ImageError, match="finite"):
        rows.read(40, 60)


def test_what_can_only_be_read_whole_is_left_to_that_and_refused_above_its_limit(tmp_path, photo, monkeypatch) -> None:
    pixels = noisy_photo(60, 50, 3, "uint8", photo)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", compression="zlib", rowsperstrip=60)
    monkeypatch.setattr(tiff_regions, "SMALLEST", 0)
    assert large_tiff(tmp_path / "a.tif") is not None
    monkeypatch.setattr(tiff_regions, "SMALLEST", 3001)
    assert large_tiff(tmp_path / "a.tif") is None
    (tmp_path / "b.tif").write_bytes(b"II*\0junk")
    assert large_tiff(tmp_path / "b.tif") is None
    write_image(tmp_path / "c.png", Image(pixels=pixels))
    assert large_tiff(tmp_path / "c.png") is None


def test_one_strip_of_a_giant_picture_is_refused_in_one_line(tmp_path) -> None:
    # 400 megapixels of zeros in one compressed strip: 2 MB.
    height = width = 20_000
    tifffile.imwrite(
        tmp_path / "a.tif",
        iter([zeros(height * width)]),
        shape=(height, width),
        dtype=np.uint8,
        compression="zlib",
        rowsperstrip=height,
    )
    with pytest.raises(ImageError, match=r"expected strips or tiles that can be read one by one, found .* 20000 rows"):
        large_tiff(tmp_path / "a.tif")


def zeros(count: int) -> bytes:
    packer = zlib.compressobj(1)
    parts = [packer.compress(bytes(2**20)) for _ in range(count // 2**20)]
    return b"".join([*parts, packer.compress(bytes(count % 2**20)), packer.flush()])


def test_each_row_is_read_once_and_forgotten(photo) -> None:
    pixels = noisy_photo(300, 40, 3, "uint8", photo)
    asked: list[tuple[int, int]] = []

    class Watched(ArrayRows):
        step = 16

        def read(self, start: int, stop: int) -> np.ndarray:
            asked.append((start, stop))
            return super().read(start, stop)

    window = Window(Watched(pixels))
    for top in range(0, 300, 50):
        window.forget(max(0, top - 10))
        area = window.area(max(0, top - 10), min(300, top + 60), 3, 30)
        assert np.array_equal(area, pixels[max(0, top - 10) : top + 60, 3:30])
    assert [start for start, _ in asked] == [0, *(stop for _, stop in asked[:-1])]
    assert all(stop % 16 == 0 for _, stop in asked[:-1])
    assert sum(len(piece) for _, piece in window._pieces) <= 100


def test_strips_have_the_rows_asked_for() -> None:
    parts = np.split(np.arange(100)[:, None, None], [1, 2, 40, 90])
    strips = list(in_strips(iter(parts), 7))
    assert [len(strip) for strip in strips] == [7] * 14 + [2]
    assert np.array_equal(np.concatenate(strips), np.arange(100)[:, None, None])
