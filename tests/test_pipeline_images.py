import io
import os
import struct
import threading
import time
import tracemalloc
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from pipeline.data.exif import exif_from_tiff
from pipeline.data.image_types import CodecError
from pipeline.data.images import (
    NOTES,
    Image,
    ImageError,
    Metadata,
    from_float,
    read_header,
    read_image,
    read_size,
    to_float,
    write_image,
)
from pipeline.data.reasons import reason
from pipeline.data.tiff import decode_tiff
from raw.child_process import ChildProcess
from raw.dng import write_dng

ICC = b"not a real profile, but kept as it is" * 20
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


def noise(shape, dtype, seed=0):
    generator = np.random.default_rng(seed)
    if dtype == np.float32:
        return generator.random(shape, dtype=np.float32)
    return generator.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def exif_block():
    exif = Pillow.Exif()
    exif[271], exif[272], exif[274], exif[33432] = "Nikon", "D800", 6, "A. Author"
    exif.get_ifd(0x8769).update({33434: (1, 100), 34855: 3200, 36867: "2020:02:02 20:20:20", 42036: "50 mm f/1.8"})
    exif.get_ifd(0x8825).update({1: "N", 2: (59.0, 20.0, 1.5)})
    return exif.tobytes().removeprefix(b"Exif\0\0")


def read_tags(block):
    exif = Pillow.Exif()
    exif.load(b"Exif\0\0" + block)
    main = {tag: exif[tag] for tag in (271, 272, 274, 33432)}
    return main | exif.get_ifd(0x8769) | {-tag: value for tag, value in exif.get_ifd(0x8825).items()}


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("a.png", np.uint8),
        ("a.png", np.uint16),
        ("a.tif", np.uint8),
        ("a.TIFF", np.uint16),
        ("a.tif", np.float32),
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (7, 13), (64, 3)])
def test_lossless_formats_keep_every_bit(tmp_path, channels, name, dtype, size):
    pixels = noise((*size, channels), dtype)
    write_image(tmp_path / name, Image(pixels=pixels))
    image = read_image(tmp_path / name)
    assert image.pixels.dtype == dtype
    assert np.array_equal(image.pixels, pixels)
    header = read_header(tmp_path / name)
    assert (header.height, header.width, header.channels) == (*size, channels)
    assert header.bits == pixels.dtype.itemsize * 8
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_16_bit_png_is_read_by_an_independent_decoder(tmp_path):
    pixels = noise((9, 11, 3), np.uint16)
    write_image(
        tmp_path / "a.png",
        Image(pixels=pixels, metadata=Metadata(icc=ICC, exif=exif_block(), dpi=(300, 300))),
    )
    data = (tmp_path / "a.png").read_bytes()
    at, kinds, body = 8, [], b""
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        (crc,) = struct.unpack_from(">I", data, at + 8 + length)
        assert crc == zlib.crc32(data[at + 4 : at + 8 + length])
        kinds.append(kind)
        body += data[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += 12 + length
    assert kinds[0] == b"IHDR"
    assert kinds[-1] == b"IEND"
    assert max(kinds.index(kind) for kind in (b"iCCP", b"eXIf", b"pHYs")) < kinds.index(b"IDAT")
    assert len(zlib.decompress(body)) == 9 * (1 + 11 * 6)


def test_jpeg_is_near_lossless_and_not_subsampled(tmp_path):
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, ::2] = (200, 30, 30)
    pixels[:, 1::2] = (30, 30, 200)
    write_image(tmp_path / "a.jpg", Image(pixels=pixels))
    error = np.abs(read_image(tmp_path / "a.jpg").pixels.astype(int) - pixels)
    # With 4:2:0 subsampling the alternating columns would merge and be wrong by up to 85.
    assert error.max() <= 6


@pytest.mark.parametrize("target", ["b.jpg", "b.png", "b.tif"])
@pytest.mark.parametrize("source", ["a.jpg", "a.png", "a.tif"])
def test_metadata_survives_every_conversion(tmp_path, source, target):
    metadata = Metadata(exif=exif_block(), icc=ICC, xmp=XMP, dpi=(240.0, 120.0))
    write_image(tmp_path / source, Image(pixels=noise((8, 8, 3), np.uint8), metadata=metadata))
    write_image(tmp_path / target, read_image(tmp_path / source))
    kept = read_image(tmp_path / target).metadata
    assert kept.icc == ICC
    assert kept.xmp.rstrip(b"\0") == XMP
    assert kept.dpi == pytest.approx((240.0, 120.0), rel=1e-3)
    assert read_tags(kept.exif) == read_tags(exif_block())


def test_jpeg_to_jpeg_keeps_exif_byte_for_byte(tmp_path):
    write_image(tmp_path / "a.jpg", Image(pixels=noise((8, 8, 3), np.uint8), metadata=Metadata(exif=exif_block())))
    assert read_image(tmp_path / "a.jpg").metadata.exif == exif_block()


def test_tiff_with_exif_is_read_by_pillow(tmp_path):
    pixels = noise((8, 9, 3), np.uint8)
    write_image(tmp_path / "a.tif", Image(pixels=pixels, metadata=Metadata(exif=exif_block())))
    with Pillow.open(tmp_path / "a.tif") as picture:
        exif = picture.getexif()
        assert exif[271] == "Nikon"
        assert exif.get_ifd(0x8769)[34855] == 3200
        # Pillow turns the picture by the orientation tag on loading, as a viewer does.
        assert np.asarray(picture).shape in {(8, 9, 3), (9, 8, 3)}


def test_orientation_is_kept_as_a_tag_and_pixels_are_not_turned(tmp_path):
    pixels = noise((10, 20, 3), np.uint8)
    write_image(tmp_path / "a.jpg", Image(pixels=pixels, metadata=Metadata(exif=exif_block())))
    image = read_image(tmp_path / "a.jpg")
    assert image.pixels.shape == (10, 20, 3)
    assert read_tags(image.metadata.exif)[274] == 6


@pytest.mark.parametrize("damaged", [b"II*\0", b"MM\0*\0\0\xff\xff", b"junk", b"II*\0\x08\0\0\0\xff\xff"])
def test_damaged_exif_does_not_cost_the_picture(tmp_path, damaged):
    write_image(tmp_path / "a.tif", Image(pixels=noise((4, 4, 3), np.uint8), metadata=Metadata(exif=damaged)))
    assert read_image(tmp_path / "a.tif").pixels.shape == (4, 4, 3)


def test_png_colour_and_text_chunks_are_kept(tmp_path):
    chunks = ((b"gAMA", struct.pack(">I", 45455)), (b"tEXt", b"Title\0hello"))
    write_image(tmp_path / "a.png", Image(pixels=noise((4, 4, 3), np.uint8), metadata=Metadata(png_chunks=chunks)))
    assert read_image(tmp_path / "a.png").metadata.png_chunks == chunks


def test_floats_round_to_nearest_and_clip():
    values = np.array([-1.0, 0.0, 0.49 / 255, 0.51 / 255, 254.49 / 255, 254.51 / 255, 1.0, 7.0])
    assert from_float(values, np.uint8).tolist() == [0, 0, 0, 1, 254, 255, 255, 255]
    assert from_float(values[-2:], np.uint16).tolist() == [65535, 65535]
    assert from_float(values, np.float32)[-1] == 7.0
    with pytest.raises(ValueError, match="dtype"):
        from_float(values, np.int32)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_integer_survives_the_way_through_floats(dtype):
    every = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)
    assert np.array_equal(from_float(to_float(every), dtype), every)


def test_palette_one_bit_and_transparency_are_expanded(tmp_path):
    colour = Pillow.fromarray(noise((6, 5, 3), np.uint8)).quantize(16)
    colour.save(tmp_path / "palette.png")
    colour.save(tmp_path / "palette.tif")
    colour.save(tmp_path / "palette.bmp")
    want = np.asarray(colour.convert("RGB"))
    for name in ("palette.png", "palette.tif", "palette.bmp"):
        assert np.array_equal(read_image(tmp_path / name).pixels, want), name
        assert read_header(tmp_path / name).channels == 3
    colour.save(tmp_path / "trns.png", transparency=0)
    assert read_image(tmp_path / "trns.png").pixels.shape == (6, 5, 4)
    bits = noise((6, 5), np.uint8) > 127
    for name in ("bits.png", "bits.tif", "bits.bmp"):
        Pillow.fromarray(bits).save(tmp_path / name)
        assert np.array_equal(read_image(tmp_path / name).pixels[..., 0], bits * 255), name


@pytest.mark.parametrize("name", ["a.bmp", "a.webp"])
def test_bmp_and_webp_are_read(tmp_path, name):
    pixels = noise((6, 5, 3), np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / name, lossless=True)
    assert np.array_equal(read_image(tmp_path / name).pixels, pixels)
    grey = Pillow.fromarray(pixels[..., 0])
    grey.save(tmp_path / "grey.bmp")
    assert np.array_equal(read_image(tmp_path / "grey.bmp").pixels, pixels[..., :1])


def test_planar_min_is_white_and_half_float_tiffs_are_read(tmp_path):
    pixels = noise((6, 5, 3), np.uint16)
    planes = np.moveaxis(pixels, -1, 0)
    tifffile.imwrite(tmp_path / "planar.tif", planes, photometric="rgb", planarconfig="separate")
    assert np.array_equal(read_image(tmp_path / "planar.tif").pixels, pixels)
    tifffile.imwrite(tmp_path / "white.tif", pixels[..., 0], photometric="miniswhite")
    assert np.array_equal(read_image(tmp_path / "white.tif").pixels[..., 0], 65535 - pixels[..., 0])
    half = noise((6, 5), np.float32).astype(np.float16)
    tifffile.imwrite(tmp_path / "half.tif", half)
    assert np.array_equal(read_image(tmp_path / "half.tif").pixels[..., 0], half.astype(np.float32))
    tifffile.imwrite(tmp_path / "lzw.tif", pixels, photometric="rgb", compression="lzw", tile=(16, 16))
    assert np.array_equal(read_image(tmp_path / "lzw.tif").pixels, pixels)


def test_content_decides_the_format_not_the_name(tmp_path):
    write_image(tmp_path / "a.jpg", Image(pixels=noise((4, 4, 3), np.uint8)))
    (tmp_path / "a.jpg").rename(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").format == "jpeg"


def make_bad_files(folder):
    pixels = noise((40, 40, 3), np.uint8)
    picture = Pillow.fromarray(pixels)
    (folder / "text.png").write_text("hello world, this is no picture\n")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "folder.png").mkdir()
    (folder / "unknown.tif").write_bytes(bytes(range(128, 192)))
    for name in ("a.png", "a.jpg", "a.tif", "a.bmp", "a.webp"):
        picture.save(folder / name)
        whole = (folder / name).read_bytes()
        (folder / name).unlink()
        for part in (20, len(whole) // 3, len(whole) - 25):
            (folder / f"cut{part}{name}").write_bytes(whole[:part])
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.convert("CMYK").save(folder / "cmyk.tif")
    picture.save(folder / "many.tif", save_all=True, append_images=[picture])
    picture.save(folder / "moving.png", save_all=True, append_images=[Pillow.fromarray(255 - pixels)])
    picture.save(folder / "moving.webp", save_all=True, append_images=[Pillow.fromarray(255 - pixels)])
    tifffile.imwrite(folder / "int32.tif", pixels[..., 0].astype(np.int32))
    tifffile.imwrite(folder / "five.tif", noise((8, 8, 5), np.uint8), photometric="minisblack", planarconfig="contig")
    tifffile.imwrite(folder / "nan.tif", np.full((4, 4), np.nan, np.float32))
    tifffile.imwrite(folder / "volume.tif", np.zeros((16, 32, 32), np.uint8), volumetric=True, tile=(16, 16, 16))


def test_every_bad_file_is_one_line_that_starts_with_its_path(tmp_path):
    make_bad_files(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(ImageError) as caught:
            read_image(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: expected "), message
        assert "found" in message, message
        assert "\n" not in message
    with pytest.raises(ImageError, match="nothing there"):
        read_image(tmp_path / "missing.png")


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    outcome = []

    def attempt():
        try:
            read_image(tmp_path / "pipe.png")
        except ImageError as error:
            outcome.append(str(error))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(5)
    assert outcome
    assert "pipe" in outcome[0]


def png_bomb(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")):
        body += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return body


def claim(data, name, width, height):
    """The same file with another size in its header."""
    data = bytearray(data)
    if name.endswith(".png"):
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif name.endswith(".jpg"):
        at = data.find(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    elif name.endswith(".bmp"):
        data[18:26] = struct.pack("<II", width, height)
    else:
        (start,) = struct.unpack_from("<I", data, 4)
        for tag, value in ((256, width), (257, height), (278, height)):
            at = next(at for at in range(start + 2, len(data), 12) if data[at : at + 2] == struct.pack("<H", tag))
            data[at + 2 : at + 12] = struct.pack("<HII", 4, 1, value)
    return bytes(data)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "lzw.tif"])
def test_a_size_that_the_file_cannot_hold_is_refused_before_memory_is_taken(tmp_path, name):
    options = {"compression": "tiff_lzw"} if name == "lzw.tif" else {}
    Pillow.fromarray(noise((20, 30, 3), np.uint8)).save(tmp_path / name, **options)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(claim(whole, name, 30, 20))
    assert read_image(tmp_path / name).pixels.shape == (20, 30, 3)
    (tmp_path / name).write_bytes(claim(whole, name, 17_000, 17_000))
    with pytest.raises(ImageError, match=r"expected a whole image, found \d+ bytes for 17000x17000 pixels"):
        read_image(tmp_path / name)


@pytest.mark.parametrize(("name", "options"), [("a.png", {}), ("a.tif", {"compression": "zlib"}), ("a.bmp", {})])
def test_a_large_picture_of_one_colour_is_believed(tmp_path, name, options):
    pixels = np.zeros((3000, 4000), np.uint8)
    if name.endswith("tif"):
        tifffile.imwrite(tmp_path / name, pixels, **options)
    else:
        Pillow.fromarray(pixels).save(tmp_path / name, **options)
    assert read_image(tmp_path / name).pixels.shape == (3000, 4000, 1)


def tiff_with(folder, tag, value, **options):
    """A striped TIFF in which one entry of the directory is another number."""
    tifffile.imwrite(folder / "a.tif", noise((64, 48, 3), np.uint8), rowsperstrip=16, metadata=None, **options)
    with tifffile.TiffFile(folder / "a.tif", mode="r+") as file:
        file.pages[0].tags[tag].overwrite(value)
    return folder / "a.tif"


@pytest.mark.parametrize(("tag", "values"), [(273, (8, 0, 8, 8)), (279, (2304, 0, 2304, 2304)), (273, (8, 8))])
def test_missing_strips_are_not_read_as_black(tmp_path, tag, values):
    path = tiff_with(tmp_path, tag, values, compression="zlib")
    with pytest.raises(ImageError, match="expected 4 strips or tiles, found fewer"):
        read_image(path)


def test_directories_that_lead_back_into_themselves_end(tmp_path):
    Pillow.fromarray(noise((6, 5, 3), np.uint8)).save(tmp_path / "a.tif")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    struct.pack_into("<I", data, start + 2 + 12 * count, start)
    (tmp_path / "a.tif").write_bytes(data)
    for reader in (read_header, read_image):
        with pytest.raises(ImageError, match="found one without an end"):
            reader(tmp_path / "a.tif")


def test_values_that_share_their_bytes_do_not_add_up_to_the_square_of_the_file(tmp_path):
    count, size = 4000, 2**20
    entries = b"".join(struct.pack("<HHII", 1000 + index, 7, size, 0) for index in range(count))
    exif = struct.pack("<HHII", 0x8769, 4, 1, 26)
    block = b"II*\0" + struct.pack("<IH", 8, 1) + exif + bytes(4) + struct.pack("<H", count) + entries
    tracemalloc.start()
    assert exif_from_tiff(block.ljust(size, b"\0")) is None
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


def test_a_second_colour_profile_is_not_inflated(tmp_path):
    pixels = noise((4, 4, 3), np.uint8)
    write_image(tmp_path / "a.png", Image(pixels=pixels, metadata=Metadata(icc=ICC)))
    whole = (tmp_path / "a.png").read_bytes()
    body = b"ICC profile\0\0" + zlib.compress(bytes(2**25), 9)
    bomb = struct.pack(">I", len(body)) + b"iCCP" + body + struct.pack(">I", zlib.crc32(b"iCCP" + body))
    at = whole.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(whole[:at] + bomb * 2000 + whole[at:])
    start = time.process_time()
    assert read_header(tmp_path / "a.png").channels == 3
    assert read_image(tmp_path / "a.png").metadata.icc == ICC
    assert time.process_time() - start < 5


def test_a_tiff_is_decoded_in_the_child_as_it_is_here(tmp_path):
    pixels = noise((20, 30, 4), np.uint16)
    metadata = Metadata(exif=exif_block(), icc=ICC, xmp=XMP, dpi=(240.0, 120.0))
    write_image(tmp_path / "a.tif", Image(pixels=pixels, metadata=metadata))
    image = read_image(tmp_path / "a.tif")
    here, found = decode_tiff((tmp_path / "a.tif").read_bytes(), 600)
    assert np.array_equal(image.pixels, here)
    assert image.metadata == found
    assert image.metadata.icc == ICC


CRASH = "import os\nfrom raw.serving import serve_files\ndef main(): serve_files(lambda task: os.abort())\n"
BROKEN = "def main(): raise ImportError('no such library')\n"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (CRASH, r"expected a whole image, found a damaged one \(the decoder crashed \(SIGABRT\)\)$"),
        (BROKEN, r"expected a decoder to read it with, found none \(.*no such library\)$"),
    ],
)
@pytest.mark.parametrize("name", ["a.tif", "a.dng"])
def test_a_decoder_that_crashes_is_one_line_about_the_file(tmp_path, monkeypatch, name, body, told):
    (tmp_path / "fragile.py").write_text(body)
    monkeypatch.syspath_prepend(str(tmp_path))
    child = ChildProcess("fragile")
    monkeypatch.setattr("raw.isolated.DECODER", child)
    monkeypatch.setattr("pipeline.data.tiff_isolated.DECODER", child)
    (tmp_path / name).write_bytes(b"II*\0" + bytes(60))
    for reader in (read_image, read_header):
        with pytest.raises(ImageError, match=f"^{tmp_path / name}: {told}"):
            reader(tmp_path / name)


def test_a_reason_is_in_words_not_in_code(tmp_path):
    path = tmp_path / "a.tif"
    damaged = "expected a whole image, found a damaged one"
    for error in (TypeError("int() argument must be 'x'"), struct.error("unpack requires 4 bytes"), KeyError(3)):
        assert reason(error, path) == damaged
    assert reason(imagecodecs.DelayedImportError("lzw_decode"), path) == damaged
    assert reason(tifffile.TiffFileError("corrupted strip cannot be reshaped from (4,)"), path).endswith("strip)")
    assert reason(OSError("image file is truncated (9 bytes not processed)"), path).startswith(f"{damaged} (image")
    assert reason(CodecError("expected x, found y"), path) == "expected x, found y"


XTRANS = np.array(
    [[int(color) for color in row] for row in ("110112", "112110", "201021", "112110", "110112", "021201")]
)


@pytest.mark.parametrize(
    ("kind", "pattern", "channels"),
    [("bayer", "RGGB", ()), ("xtrans", XTRANS.astype(np.uint8), ()), ("mono", None, ()), ("linear", None, (3,))],
)
def test_a_picture_from_a_raw_tells_what_its_mosaic_was(tmp_path, kind, pattern, channels):
    write_dng(tmp_path / "a.dng", noise((48, 66, *channels), np.uint16), pattern=pattern, flip=5)
    image = read_image(tmp_path / "a.dng")
    assert image.note == NOTES.get(kind)
    assert (image.note is None) == (kind == "bayer")
    header = read_header(tmp_path / "a.dng")
    assert (header.height, header.width, header.channels) == image.pixels.shape == (66, 48, 3)
    assert header.bits == 16


def test_a_header_beyond_the_limit_is_refused_by_its_numbers(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_bomb(100_000, 100_000))
    for reader in (read_image, read_size, read_header):
        with pytest.raises(ImageError, match="expected at most 300000000 pixels, found 100000x100000"):
            reader(tmp_path / "bomb.png")
    pixels = noise((20, 30, 3), np.uint8)
    for name in ("a.png", "a.jpg", "a.tif", "a.bmp", "a.webp"):
        Pillow.fromarray(pixels).save(tmp_path / name)
        assert read_size(tmp_path / name, max_pixels=600) == (20, 30)
        for reader in (read_image, read_size):
            with pytest.raises(ImageError, match="at most 599 pixels, found 30x20 = 600"):
                reader(tmp_path / name, max_pixels=599)


def test_a_large_picture_is_not_refused_by_pillows_own_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 100)
    Pillow.fromarray(noise((30, 30, 3), np.uint8)).save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").pixels.shape == (30, 30, 3)


def test_a_name_that_would_break_the_line_is_escaped(tmp_path):
    path = tmp_path / "a\n\x1b[31mred\u202egnp.png"
    path.write_text("text")
    with pytest.raises(ImageError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.isprintable()
    assert r"a\n\x1b[31mred\u202egnp.png" in message


def test_writing_refuses_what_it_would_lose(tmp_path):
    four = Image(pixels=noise((4, 4, 4), np.uint8))
    with pytest.raises(ImageError, match="alpha"):
        write_image(tmp_path / "a.jpg", four)
    with pytest.raises(ImageError, match="expected a name ending in"):
        write_image(tmp_path / "a.gif", four)
    infinite = Image(pixels=np.full((2, 2, 1), np.inf, np.float32))
    with pytest.raises(ImageError, match="finite"):
        write_image(tmp_path / "a.tif", infinite)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_image(path, Image(pixels=noise((4, 4, 3), np.uint8)))
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_image(path, Image(pixels=noise((4, 4, 3), np.uint8, seed=1)))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_depth_is_rounded_when_the_format_holds_less(tmp_path):
    pixels = np.full((16, 16, 1), 257 * 100 + 200, np.uint16)
    write_image(tmp_path / "a.jpg", Image(pixels=pixels))
    assert np.all(read_image(tmp_path / "a.jpg").pixels == 101)
    write_image(tmp_path / "a.png", Image(pixels=np.full((2, 2, 1), 0.5, np.float32)))
    assert read_image(tmp_path / "a.png").pixels.tolist() == [[[32768], [32768]]] * 2


def test_random_damage_never_escapes_as_another_error(tmp_path):
    generator = np.random.default_rng(3)
    sources = []
    for name in ("a.png", "a.jpg", "a.tif", "a.bmp", "a.webp"):
        file = io.BytesIO()
        Pillow.fromarray(noise((12, 12, 3), np.uint8)).save(
            file, Path(name).suffix[1:].replace("jpg", "jpeg").replace("tif", "tiff")
        )
        sources.append((name, file.getvalue()))
    sources.append(("deep.png", bytes(imagecodecs.png_encode(noise((12, 12, 3), np.uint16)))))
    for name, whole in sources:
        for _ in range(60):
            damaged = bytearray(whole)
            for _ in range(int(generator.integers(1, 6))):
                damaged[int(generator.integers(0, len(damaged)))] = int(generator.integers(0, 256))
            (tmp_path / name).write_bytes(damaged)
            try:
                read_header(tmp_path / name, max_pixels=10**6)
                read_image(tmp_path / name, max_pixels=10**6)
            except ImageError as error:
                assert str(error).startswith(str(tmp_path / name))  # noqa: PT017 - either outcome is fine
