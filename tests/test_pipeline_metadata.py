"""What of a file's metadata survives, tag by tag and format by format; docs/files.md has the table."""

import functools
import io
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import ImageCms

from pipeline.data.exif import byte_order
from pipeline.data.folders import scan
from pipeline.data.images import read_image
from pipeline.inference.files import denoise_files
from pipeline.inference.outputs import OutputOptions
from raw.dng import write_dng
from raw.raw_file import Shot

MAIN = {
    270: "a scene",
    271: "Nikon",
    272: "D800",
    274: 6,
    305: "firmware 1",
    306: "2020:02:02 20:20:20",
    315: "A. Author",
    33432: "C. Holder",
    18246: 4,
    40091: tuple("title\0".encode("utf-16-le")),
}
EXIF = {
    33434: 0.01,
    33437: 1.8,
    34855: 3200,
    36867: "2020:02:02 20:20:20",
    36881: "+01:00",
    37386: 50.0,
    42033: "serial 7",
    42034: (24.0, 70.0, 2.8, 4.0),
    42035: "Nikkor",
    42036: "50 mm f/1.8",
    37521: "12",
}
GPS = {1: "N", 2: (59.0, 20.0, 1.5), 3: "E", 4: (18.0, 3.0, 2.25), 5: b"\0", 6: 12.5, 29: "2020:02:02"}
INTEROP = {1: "R98"}
NOTE_TEXT = b"the maker's own words"
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rating>4</rating></x:xmpmeta>'
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
CAPTION = b"\x1c\x02\x78\x00\x07caption"
RESOURCES = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(CAPTION)) + CAPTION
DPI = (240.0, 120.0)

PAIRS = [
    ("png", "png"),
    ("jpg", "jpg"),
    ("tif", "tif"),
    ("jpg", "tif"),
    ("tif", "png"),
    ("tif", "jpg"),
    ("webp", "png"),
    ("png", "tif"),
    ("png", "jpg"),
]


def exif_block():
    exif = Pillow.Exif()
    for tag, value in MAIN.items():
        exif[tag] = bytes(value) if tag == 40091 else value
    # A maker note that points, from the start of the structure, to words within itself.
    exif.get_ifd(0x8769).update(EXIF | {37500: bytes(4) + NOTE_TEXT, 0xA005: INTEROP})
    exif.get_ifd(0x8825).update(GPS)
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    at = block.index(NOTE_TEXT)
    return block[: at - 4] + struct.pack(byte_order(block) + "I", at) + block[at:]


@functools.cache
def converted(source, target):
    """A picture with all of it, denoised from one format to another; the bytes of the output."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture = Pillow.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8))
        path = folder / f"a.{source}"
        options = {"exif": b"Exif\0\0" + exif_block(), "icc_profile": ICC, "dpi": DPI}
        if source == "tif":
            exif = Pillow.Exif()
            exif.load(b"Exif\0\0" + exif_block())
            exif.get_ifd(0x8769)[0xA005] = INTEROP
            exif[700], exif[33723], exif[34377] = XMP, CAPTION, RESOURCES
            picture.save(path, exif=exif, icc_profile=ICC, dpi=DPI)
        elif source == "png":
            from PIL.PngImagePlugin import PngInfo

            info = PngInfo()
            info.add_itxt("XML:com.adobe.xmp", XMP.decode())
            info.add_text("Title", "a scene")
            picture.save(path, pnginfo=info, **options)
        elif source == "jpg":
            picture.save(path, xmp=XMP, comment=b"a comment", **options)
            data = path.read_bytes()
            body = b"Photoshop 3.0\0" + RESOURCES
            at = 4 + struct.unpack_from(">H", data, 4)[0]
            path.write_bytes(data[:at] + b"\xff\xed" + struct.pack(">H", len(body) + 2) + body + data[at:])
        else:
            picture.save(path, xmp=XMP, lossless=True, **options)
        kind = {"tif": "tiff", "jpg": "jpeg", "png": "png"}[target]
        summary = denoise_files(scan([path]), lambda image: image, folder / "out", OutputOptions(format=kind))
        assert summary.count("ok") == 1, summary.files
        return next((folder / "out").glob("*.*[!l]")).read_bytes()


def opened(source, target):
    return Pillow.open(io.BytesIO(converted(source, target)))


def near(found, wanted):
    if isinstance(wanted, str):
        return str(found).rstrip("\0") == wanted
    if isinstance(wanted, bytes | tuple) and isinstance(found, bytes):
        return found == bytes(wanted)
    return np.allclose(np.asarray(found, float), np.asarray(wanted, float))


TAGS = [
    *(("main", tag, value) for tag, value in MAIN.items()),
    *((0x8769, tag, value) for tag, value in EXIF.items()),
    *((0x8825, tag, value) for tag, value in GPS.items()),
    *((0xA005, tag, value) for tag, value in INTEROP.items()),
]


@pytest.mark.parametrize(("place", "tag", "value"), TAGS)
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_every_exif_tag_survives(source, target, place, tag, value):
    with opened(source, target) as picture:
        exif = picture.getexif()
        found = exif if place == "main" else exif.get_ifd(place)
        assert near(found[tag], value), found.get(tag)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_profile_xmp_and_resolution_survive(source, target):
    with opened(source, target) as picture:
        assert picture.info["icc_profile"] == ICC
        xmp = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp", "").encode()
        xmp = bytes(picture.tag_v2[700]) if target == "tif" else xmp
        assert xmp.rstrip(b"\0") == XMP
        if source != "webp":  # which has no resolution
            assert picture.info["dpi"] == pytest.approx(DPI, rel=1e-3)
        assert picture.size == (16, 16)


@pytest.mark.parametrize(
    ("source", "target"), [("jpg", "jpg"), ("jpg", "tif"), ("png", "png"), ("webp", "png"), ("png", "tif")]
)
def test_a_maker_note_stays_where_it_was(source, target):
    data = converted(source, target)
    block = data if target == "tif" else data[data.index(exif_block()[:12]) :]
    with opened(source, target) as picture:
        note = picture.getexif().get_ifd(0x8769)[37500]
    (at,) = struct.unpack_from(byte_order(block) + "I", note)
    assert block[at : at + len(NOTE_TEXT)] == NOTE_TEXT


@pytest.mark.parametrize(("source", "target"), [("jpg", "jpg"), ("jpg", "tif"), ("tif", "tif"), ("tif", "jpg")])
def test_iptc_survives_between_jpeg_and_tiff(source, target):
    with opened(source, target) as picture:
        if target == "jpg":
            assert picture.info["photoshop"][0x0404] == CAPTION
        else:
            assert picture.tag_v2[33723] == CAPTION
            assert bytes(picture.tag_v2[34377]) == RESOURCES


def test_words_that_one_format_has_stay_in_it():
    with opened("png", "png") as picture:
        assert picture.text["Title"] == "a scene"
    with opened("jpg", "jpg") as picture:
        assert picture.info["comment"] == b"a comment"


def test_a_deep_png_keeps_its_words(tmp_path):
    import imagecodecs

    from pipeline.data.images import Image, Metadata, write_image

    chunks = ((b"tEXt", b"Title\0deep"), (b"zTXt", b"Comment\0\0x"), (b"cHRM", bytes(32)), (b"tIME", bytes(7)))
    metadata = Metadata(exif=exif_block(), icc=ICC, xmp=XMP, dpi=DPI, png_chunks=chunks)
    pixels = np.random.default_rng(0).integers(0, 65535, (6, 7, 3), dtype=np.uint16)
    write_image(tmp_path / "a.png", Image(pixels=pixels, metadata=metadata))
    assert denoise_files(scan([tmp_path / "a.png"]), lambda image: image, tmp_path / "out").count("ok") == 1
    assert read_image(tmp_path / "out" / "a.png").metadata.png_chunks == chunks
    np.testing.assert_array_equal(imagecodecs.png_decode((tmp_path / "out" / "a.png").read_bytes()), pixels)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiffs_of_both_byte_orders_keep_pixels_and_tags(tmp_path, order):
    pixels = np.random.default_rng(0).integers(0, 65535, (16, 18, 3), dtype=np.uint16)
    extra = [(271, 2, 0, "Nikon", True), (40091, 1, 4, b"t\0\0\0", True), (34118, 7, 8, b"sem data", True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels, byteorder=order, photometric="rgb", extratags=extra, metadata=None)
    assert denoise_files(scan([tmp_path / "a.tif"]), lambda image: image, tmp_path / "out").count("ok") == 1
    with tifffile.TiffFile(tmp_path / "out" / "a.tif") as tiff:
        np.testing.assert_array_equal(tiff.asarray(), pixels)
        assert tiff.byteorder == order
        assert tiff.pages[0].tags[271].value == "Nikon"
        assert "sem data" in str(tiff.pages[0].tags[34118].value)


def test_a_raw_file_gives_its_tags_to_the_picture(tmp_path):
    shot = Shot(iso=800.0, exposure_time=0.02)
    mosaic = np.random.default_rng(0).integers(0, 65535, (48, 64), dtype=np.uint16)
    write_dng(tmp_path / "a.dng", mosaic, make="Nikon", model="D800", flip=6, shot=shot)
    assert denoise_files(scan([tmp_path / "a.dng"]), lambda image: image, tmp_path / "out").count("ok") == 1
    with Pillow.open(tmp_path / "out" / "a.tif") as picture:
        exif = picture.getexif()
        assert (exif[271], exif[272]) == ("Nikon", "D800")
        assert exif.get_ifd(0x8769)[34855] == 800
        assert float(exif.get_ifd(0x8769)[33434]) == pytest.approx(0.02)
        # The pixels were turned upright.
        assert 274 not in exif
        assert picture.size == (48, 64)


@pytest.mark.parametrize(("quality", "sampling"), [(50, "4:2:0"), (80, "4:2:2"), (92, "4:4:4")])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_is_written_with_the_settings_of_its_source(tmp_path, quality, sampling, progressive):
    from PIL.JpegImagePlugin import get_sampling
    from skimage.data import astronaut

    picture = Pillow.fromarray(astronaut()[:256, :256])
    picture.save(tmp_path / "a.jpg", quality=quality, subsampling=sampling, progressive=progressive)
    assert denoise_files(scan([tmp_path / "a.jpg"]), lambda image: image, tmp_path / "out").count("ok") == 1
    with Pillow.open(tmp_path / "a.jpg") as before, Pillow.open(tmp_path / "out" / "a.jpg") as after:
        assert after.quantization == before.quantization
        assert get_sampling(after) == get_sampling(before)
        assert bool(after.info.get("progressive")) == progressive
        difference = np.abs(np.asarray(before, int) - np.asarray(after))
    # Written anew with the same tables, a JPEG hardly changes.
    assert difference.mean() < 0.7
    sizes = [path.stat().st_size for path in (tmp_path / "a.jpg", tmp_path / "out" / "a.jpg")]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.15)


def test_a_grey_jpeg_and_one_that_becomes_another_format_do_not_mix_settings(tmp_path):
    Pillow.fromarray(np.full((16, 16), 90, np.uint8)).save(tmp_path / "a.jpg", quality=60)
    assert denoise_files(scan([tmp_path / "a.jpg"]), lambda image: image, tmp_path / "out").count("ok") == 1
    with Pillow.open(tmp_path / "a.jpg") as before, Pillow.open(tmp_path / "out" / "a.jpg") as after:
        assert after.mode == "L"
        assert after.quantization == before.quantization
