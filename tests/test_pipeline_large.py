"""Pictures denoised band by band: the same pixels whichever way they take, and never a picture in floats."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from models import InferenceSpec, UNetSpec, build, save
from pipeline.data import tiff_regions
from pipeline.data.images import Image, ImageError, Metadata, read_image, to_float, write_image
from pipeline.data.rows import ArrayRows
from pipeline.data.tiff_regions import large_tiff
from pipeline.inference import large, tile_plan
from pipeline.inference.denoiser import NetworkDenoiser
from pipeline.inference.large import Finished, denoise_large, denoise_pixels, denoised_rows
from pipeline.inference.offset import denoise_measured
from pipeline.inference.outputs import OutputOptions
from pipeline.inference.picture import picture_of
from pipeline.inference.residual import residual_of
from pipeline.inference.written import write_denoised
from raw.dng import write_dng


def denoiser(folder: Path, *, channels: int = 3, spec: InferenceSpec | None = None) -> NetworkDenoiser:
    shape = UNetSpec(channels=channels, width=6, depth=1, convolutions=1)
    network = build(shape).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    save(folder, network, spec=shape, inference=spec or InferenceSpec(), card={})
    return NetworkDenoiser(folder, "cpu")


def noisy_photo(height: int, width: int, channels: int, dtype: str, photo: np.ndarray) -> np.ndarray:
    """A photograph with noise, (H, W, C)."""
    rng = np.random.default_rng(0)
    tiled = np.tile(photo, (-(-height // 256), -(-width // 256), 2))[:height, :width, :channels]
    noisy = np.clip(0.2 + 0.6 / 255 * tiled + rng.normal(0, 0.04, tiled.shape), 0, 1).astype(np.float32)
    return noisy if dtype == "float32" else np.rint(noisy * np.iinfo(dtype).max).astype(dtype)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for tiles of some 150 pixels, and every TIFF is a large one."""
    monkeypatch.setattr(tile_plan, "MOST_BYTES", 8_000_000)
    monkeypatch.setattr(tiff_regions, "SMALLEST", 0)
    monkeypatch.setattr(large, "_AT_ONCE", 5000)
    monkeypatch.setattr("pipeline.data.rows.PIECE_BYTES", 20_000)
    monkeypatch.setattr("models.level_offset._SAMPLED_PIXELS", 210 * 64 * 3)


def test_bands_of_a_picture_are_the_picture_denoised_at_once(tmp_path, photo, small_tiles) -> None:
    one = denoiser(tmp_path / "rgb")
    for channels, dtype in ((3, "uint8"), (4, "uint16"), (1, "uint16"), (2, "uint8"), (3, "float32")):
        pixels = noisy_photo(301, 257, channels, dtype, photo)
        done, finished = denoise_pixels(one, pixels)
        assert finished.plan.tile is not None
        assert finished.plan.tile[0] < 301
        # Each written value is within half a step of what one tile gives, and 1e-5 of it for the tiles.
        whole = one(to_float(pixels)).clip(0, 1) if dtype != "float32" else one(pixels)
        step = 1.0 if dtype == "float32" else np.iinfo(dtype).max
        error = np.abs(done.astype(np.float64) / step - whole)
        assert error.max() < 0.5 / step * (dtype != "float32") + 1e-5
        if channels in (2, 4):
            assert np.array_equal(done[..., -1], pixels[..., -1])
        assert done.dtype == pixels.dtype


def test_the_file_of_a_small_picture_is_that_of_the_old_way(tmp_path, photo) -> None:
    one = denoiser(tmp_path / "w", spec=InferenceSpec(offset="level"))
    image = Image(pixels=noisy_photo(200, 150, 4, "uint16", photo))
    picture = picture_of(image)
    every = (OutputOptions(), OutputOptions(strength=0.3), *(OutputOptions(bit_depth=bits) for bits in ("8", "float")))
    for options in every:
        denoised, offset = denoise_measured(one, picture.seen)
        write_denoised(tmp_path / "old.tif", picture, denoised, options)
        pixels, finished = denoise_pixels(one, image.pixels, options)
        old = read_image(tmp_path / "old.tif").pixels
        assert old.dtype == pixels.dtype
        assert np.array_equal(old, pixels)
        assert finished.offset == offset
        assert finished.residual == residual_of(picture.seen, denoised)


def test_colour_goes_through_a_grey_network_as_before(tmp_path, photo) -> None:
    one = denoiser(tmp_path / "grey", channels=1)
    pixels = noisy_photo(90, 70, 3, "uint8", photo)
    done, _ = denoise_pixels(one, pixels)
    assert np.array_equal(done, np.rint(one(to_float(pixels)).clip(0, 1).astype(np.float64) * 255).astype(np.uint8))


def test_a_raw_file_is_no_tiff_and_floats_are_shown_to_a_network_as_a_whole(tmp_path, photo, monkeypatch) -> None:
    monkeypatch.setattr(tiff_regions, "SMALLEST", 0)
    write_dng(tmp_path / "a.dng", np.zeros((64, 64), np.uint16), white_level=1023)
    assert large_tiff(tmp_path / "a.dng") is None
    tifffile.imwrite(tmp_path / "f.tif", noisy_photo(60, 50, 3, "float32", photo), photometric="rgb")
    assert large_tiff(tmp_path / "f.tif") is None
    monkeypatch.setattr(tiff_regions, "MAX_PIXELS", 2000)
    with pytest.raises(ImageError, match="expected 8 or 16 bits above 2000 pixels, found floats of 3000"):
        large_tiff(tmp_path / "f.tif")


def test_large_and_small_files_go_their_ways_through_the_command(unveil, tmp_path, photo, monkeypatch) -> None:
    one = denoiser(tmp_path / "w")
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "a.tif", Image(pixels=noisy_photo(80, 70, 3, "uint8", photo)))
    write_image(tmp_path / "in" / "b.png", Image(pixels=noisy_photo(80, 70, 3, "uint16", photo)))
    outputs = []
    for name, limit in (("small", 10**9), ("large", 0)):
        monkeypatch.setattr(tiff_regions, "SMALLEST", limit)
        monkeypatch.setattr(large, "LARGE", limit)
        code, value, _ = unveil("denoise", tmp_path / "in", "--model", one.folder, "--out", tmp_path / name, "--json")
        assert code == 0
        files = [{key: file[key] for key in ("status", "note", "offset", "residual")} for file in value["files"]]
        outputs.append((files, [(tmp_path / name / file).read_bytes() for file in ("a.tif", "b.png")]))
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("offset", ["keep", "level"])
def test_a_large_tiff_gets_the_file_that_it_would_get_whole(tmp_path, photo, small_tiles, offset) -> None:
    one = denoiser(tmp_path / "w", spec=InferenceSpec(offset=offset))
    for channels, dtype in ((3, "uint8"), (4, "uint16")):
        pixels = noisy_photo(400, 210, channels, dtype, photo)
        write_image(tmp_path / "a.tif", Image(pixels=pixels, metadata=Metadata(icc=b"profile" * 9)))
        finished = denoise_large(one, tmp_path / "a.tif", tmp_path / "out" / "a.tif")
        assert finished is not None
        whole, expected = denoise_pixels(one, pixels)
        output = read_image(tmp_path / "out" / "a.tif")
        assert np.array_equal(output.pixels, whole)
        assert output.metadata.icc == b"profile" * 9
        assert finished.offset == expected.offset
        assert finished.residual == expected.residual is not None
        assert finished.offset is not None
        assert finished.offset["corrected"] == (offset == "level")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.tif"]


def test_damage_in_the_middle_leaves_nothing_behind(tmp_path, photo, small_tiles) -> None:
    pixels = noisy_photo(400, 210, 3, "uint8", photo)
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric="rgb", compression="zlib", rowsperstrip=10)
    data = bytearray(file.getvalue())
    middle = tifffile.TiffFile(io.BytesIO(bytes(data))).pages[0].dataoffsets[25]
    data[middle : middle + 40] = b"x" * 40
    (tmp_path / "a.tif").write_bytes(bytes(data))
    with pytest.raises(ImageError, match=r"a\.tif: expected a whole image"):
        denoise_large(denoiser(tmp_path / "w"), tmp_path / "a.tif", tmp_path / "out" / "a.tif")
    assert list((tmp_path / "out").iterdir()) == []


def test_memory_that_a_control_group_leaves_is_what_counts(tmp_path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 300\n")
    assert tile_plan._left_in_group(tmp_path) == 600
    (tmp_path / "memory.max").write_text("max\n")
    assert tile_plan._left_in_group(tmp_path) == 2**63


def test_less_memory_gives_smaller_tiles_and_the_same_picture(tmp_path, photo, monkeypatch) -> None:
    one = denoiser(tmp_path / "w")
    pixels = noisy_photo(500, 480, 3, "uint16", photo)
    seen = []
    for free in (2**40, 20_000_000, 4_000_000):
        monkeypatch.setattr(tile_plan, "free_bytes", lambda _, free=free: free)
        done, finished = denoise_pixels(one, pixels)
        seen.append((finished.plan.tile, done))
    sizes = [tile[0] * tile[1] for tile, _ in seen]
    assert sizes[0] > sizes[1] > sizes[2]
    for _, done in seen[1:]:
        # Equal bytes, but for values within 1e-7 of the middle of two steps.
        assert np.abs(done.astype(int) - seen[0][1]).max() <= 1
        assert np.mean(done != seen[0][1]) < 1e-2
    one.tile = 64
    assert denoise_pixels(one, pixels)[1].plan.tile == 64


def test_a_model_that_returns_nonsense_is_told(tmp_path, photo) -> None:
    one = denoiser(tmp_path / "w")
    with torch.no_grad():
        next(one.network.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN or infinite"):
        list(denoised_rows(one, ArrayRows(noisy_photo(20, 20, 3, "uint8", photo)), Finished()))
