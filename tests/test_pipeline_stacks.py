import struct

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from pipeline.data.folders import scan
from pipeline.inference.files import denoise_files
from pipeline.inference.manifest import MANIFEST_NAME
from pipeline.inference.outputs import OutputOptions

COUNT = 5


def stack(shape=(COUNT, 20, 24), dtype=np.uint16, high=4000):
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


def same(image):
    return image


def halve(image):
    return image * np.float32(0.5)


def denoise(path, out, denoiser=same, **options):
    summary = denoise_files(scan([path]), denoiser, out, OutputOptions(**options))
    assert len(summary.files) == 1
    return summary.files[0]


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize(
    ("dtype", "shape"), [(np.uint16, (5, 20, 24)), (np.uint8, (3, 9, 7, 3)), (np.float32, (4, 8, 9))]
)
def test_a_stack_comes_back_page_by_page_with_every_bit(tmp_path, byteorder, compression, dtype, shape):
    pages = stack(shape, dtype, 200)
    pages = pages / np.float32(200) if dtype == np.float32 else pages
    photometric = "rgb" if len(shape) == 4 else "minisblack"
    tifffile.imwrite(
        tmp_path / "a.tif", pages, byteorder=byteorder, compression=compression, photometric=photometric, metadata=None
    )
    result = denoise(tmp_path / "a.tif", tmp_path / "out")
    assert result.status == "ok", result.error
    assert result.note == f"{shape[0]} pages"
    with tifffile.TiffFile(tmp_path / "out" / "a.tif") as tiff:
        assert tiff.byteorder == byteorder
        assert len(tiff.pages) == shape[0]
        assert (tiff.pages[0].compression == 1) == (compression is None)
        for index, page in enumerate(tiff.pages):
            np.testing.assert_array_equal(page.asarray(), pages[index])
            assert page.dtype == dtype


def test_no_page_changes_another_and_none_is_scaled_by_what_it_holds(tmp_path):
    pages = stack()
    pages[2] = pages[2] // 100
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack")
    seen = []

    def watch(image):
        seen.append(image)
        return image * np.float32(0.5)

    assert denoise(tmp_path / "a.tif", tmp_path / "out", watch).status == "ok"
    for page, image in zip(pages, seen, strict=True):
        np.testing.assert_array_equal(image[..., 0], page.astype(np.float32) / np.float32(65535))
    np.testing.assert_allclose(tifffile.imread(tmp_path / "out" / "a.tif"), pages / 2, atol=0.51)


def test_floats_in_another_unit_are_seen_at_one_scale_on_all_pages(tmp_path):
    pages = stack().astype(np.float32)
    pages[0] /= 50
    pages[3, 4, 4], pages[1, 0, :2] = np.nan, np.inf
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack")
    scales = []

    def watch(image):
        scales.append(float(np.median(image)))
        return image

    result = denoise(tmp_path / "a.tif", tmp_path / "out", watch)
    assert "3 pixels that were NaN or infinite" in result.note
    assert "seen by the network at 0.000244141 times their value" in result.note
    np.testing.assert_allclose(scales[0] * 50, scales[1], rtol=0.1)
    assert 0.3 < scales[1] < 0.7
    got = tifffile.imread(tmp_path / "out" / "a.tif")
    whole = np.isfinite(pages)
    np.testing.assert_allclose(got[whole], pages[whole], rtol=1e-5)
    assert np.isfinite(got).all()


def test_imagej_metadata_calibration_and_labels_survive(tmp_path):
    pages = stack((2, 3, 16, 18))
    for order in "<>":
        source = tmp_path / f"order{ord(order)}.tif"
        tifffile.imwrite(
            source,
            pages,
            imagej=True,
            byteorder=order,
            resolution=(3.5, 3.5),
            metadata={
                "axes": "TZYX",
                "unit": "um",
                "spacing": 0.7,
                "Labels": [f"frame {i}" for i in range(6)],
                "Info": "x",
            },
        )
        assert denoise(source, tmp_path / "out").status == "ok"
        with tifffile.TiffFile(source) as before, tifffile.TiffFile(tmp_path / "out" / source.name) as after:
            assert after.is_imagej
            assert after.imagej_metadata == before.imagej_metadata
            assert after.imagej_metadata["Labels"][5] == "frame 5"
            assert after.series[0].axes == before.series[0].axes == "TZYX"
            for tag in (282, 283, 296):
                assert after.pages[0].tags[tag].value == before.pages[0].tags[tag].value
            np.testing.assert_array_equal(after.asarray(), pages)


def test_ome_and_the_tags_of_each_page_survive(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for index, page in enumerate(stack()):
            writer.write(
                page,
                contiguous=False,
                metadata=None,
                description=f"page {index}",
                datetime=f"2026:11:22 00:00:0{index}",
                resolution=(300 + index, 300),
                resolutionunit=2,
                extratags=[(285, 2, 0, f"name {index}", False), (34118, 7, 5, b"sem\0" + bytes([index]), False)],
            )
    assert denoise(tmp_path / "a.tif", tmp_path / "out").status == "ok"
    with tifffile.TiffFile(tmp_path / "a.tif") as before, tifffile.TiffFile(tmp_path / "out" / "a.tif") as after:
        for one, other in zip(before.pages, after.pages, strict=True):
            for tag in (270, 306, 282, 283, 296, 285, 34118):
                assert other.tags[tag].value == one.tags[tag].value, tag
    tifffile.imwrite(tmp_path / "b.ome.tif", stack(), metadata={"axes": "ZYX", "PhysicalSizeX": 0.3})
    assert denoise(tmp_path / "b.ome.tif", tmp_path / "out").status == "ok"
    with (
        tifffile.TiffFile(tmp_path / "b.ome.tif") as before,
        tifffile.TiffFile(tmp_path / "out" / "b.ome.tif") as after,
    ):
        assert after.is_ome
        assert after.ome_metadata == before.ome_metadata
        assert after.series[0].axes == "ZYX"


EXIF, GPS = 34665, 34853
PLACE = {EXIF: 34660, GPS: 34661}


def with_exif(path, order, chosen):
    """A stack of which some pages have Exif and GPS directories, which tifffile does not write."""
    with tifffile.TiffWriter(path, byteorder=order) as writer:
        for index, page in enumerate(stack()):
            tags = [(PLACE[tag], 4, 1, 1 + index, False) for tag in PLACE] if index in chosen else []
            writer.write(page, contiguous=False, metadata=None, extratags=[(271, 2, 0, "Nikon", False), *tags])
    with tifffile.TiffFile(path) as tiff:
        entries = {(index, tag): tiff.pages[index].tags[PLACE[tag]].offset for index in chosen for tag in PLACE}
    with path.open("r+b") as file:
        for (index, tag), entry in entries.items():
            end = file.seek(0, 2)
            if tag == EXIF:
                file.write(struct.pack(order + "HHHIHxx", 2, 34855, 3, 1, 3200 + index))
                file.write(struct.pack(order + "HHIII", 33434, 5, 1, end + 30, 0))
                file.write(struct.pack(order + "II", 1, 100))
            else:
                file.write(struct.pack(order + "HHHI4sI", 1, 1, 2, 2, b"N\0\0\0", 0))
            file.seek(entry)
            file.write(struct.pack(order + "HHII", tag, 4, 1, end))


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_of_any_page_survives(tmp_path, order):
    with_exif(tmp_path / "a.tif", order, (1, 3, 4))
    assert denoise(tmp_path / "a.tif", tmp_path / "out").status == "ok"
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "a.tif"), stack())
    for name in ("a.tif", "out/a.tif"):
        with Pillow.open(tmp_path / name) as picture:
            for index in range(COUNT):
                picture.seek(index)
                exif = picture.getexif()
                assert exif[271] == "Nikon"
                found = (dict(exif.get_ifd(EXIF)), dict(exif.get_ifd(GPS)))
                there = ({34855: 3200 + index, 33434: 0.01}, {1: "N"})
                assert found == (there if index in (1, 3, 4) else ({}, {}))


def test_pages_may_differ_and_reduced_copies_are_left_out(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(stack((20, 24)), photometric="minisblack")
        writer.write(stack((10, 12)), photometric="minisblack", subfiletype=1)
        writer.write(stack((7, 9, 4), np.uint8, 255), photometric="rgb", extrasamples=["unassalpha"])
    result = denoise(tmp_path / "a.tif", tmp_path / "out", halve)
    assert result.note == "2 pages; 1 smaller copies or masks left out"
    with tifffile.TiffFile(tmp_path / "out" / "a.tif") as tiff:
        assert [page.shape for page in tiff.pages] == [(20, 24), (7, 9, 4)]
        assert [page.dtype for page in tiff.pages] == [np.uint16, np.uint8]
        np.testing.assert_array_equal(tiff.pages[1].asarray()[..., 3], stack((7, 9, 4), np.uint8, 255)[..., 3])


def test_a_page_that_fails_is_named_and_leaves_nothing(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack(), compression="zlib", photometric="minisblack", metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        at = tiff.pages[2].dataoffsets[0]
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[at : at + 40] = b"\xff" * 40
    (tmp_path / "a.tif").write_bytes(data)
    result = denoise(tmp_path / "a.tif", tmp_path / "out")
    assert result.error.startswith(f"{tmp_path / 'a.tif'}: page 3 of 5: expected a whole image, found a damaged one")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [MANIFEST_NAME]
    tifffile.imwrite(tmp_path / "b.tif", stack(), photometric="minisblack")
    calls = []

    def failing(image):
        calls.append(image)
        if len(calls) == 4:
            raise RuntimeError("out of memory")
        return image

    assert (
        denoise(tmp_path / "b.tif", tmp_path / "out", failing).error
        == f"{tmp_path / 'b.tif'}: page 4 of 5: out of memory"
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == [MANIFEST_NAME]


def test_what_a_stack_cannot_become_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack(), photometric="minisblack")
    assert (
        "expected --format tiff for a TIFF of 5 pages, found '.png'"
        in denoise(tmp_path / "a.tif", tmp_path / "out", format="png").error
    )
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        writer.write(stack((20, 24)))
        writer.write(stack((20, 24)).astype(np.int32))
    assert "page 2: expected 8 or 16-bit or float samples" in denoise(tmp_path / "b.tif", tmp_path / "out").error
    description = "ImageJ=1.53\nimages=9\nslices=9\n"
    tifffile.imwrite(tmp_path / "c.tif", stack((20, 24)), description=description, metadata=None)
    assert "expected 9 pages as ImageJ says" in denoise(tmp_path / "c.tif", tmp_path / "out").error
    tifffile.imwrite(tmp_path / "d.tif", stack(), photometric="minisblack", metadata=None)
    data = bytearray((tmp_path / "d.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "d.tif") as tiff:
        last, first = tiff.pages[-1].offset, tiff.pages[0].offset
    (count,) = struct.unpack_from("<H", data, last)
    struct.pack_into("<I", data, last + 2 + 12 * count, first)
    (tmp_path / "d.tif").write_bytes(data)
    assert "found one without an end" in denoise(tmp_path / "d.tif", tmp_path / "out").error


def test_depth_and_strength_hold_for_every_page(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack(), photometric="minisblack")
    assert denoise(tmp_path / "a.tif", tmp_path / "out", halve, bit_depth="float", strength=0.5).status == "ok"
    got = tifffile.imread(tmp_path / "out" / "a.tif")
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, stack() * 0.75 / 65535, atol=1e-7)


def test_memory_does_not_grow_with_the_number_of_pages(tmp_path):
    # 64 pages of a megabyte: written as they come, so that the file grows while pages are denoised.
    tifffile.imwrite(tmp_path / "a.tif", stack((64, 700, 750)), photometric="minisblack")
    sizes = []

    def watch(image):
        sizes.extend(path.stat().st_size for path in (tmp_path / "out").glob(".*.tmp"))
        return image

    import tracemalloc

    tracemalloc.start()
    assert denoise(tmp_path / "a.tif", tmp_path / "out", watch).status == "ok"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sizes[-1] > sizes[0] + 50 * 2**20
    assert peak < 32 * 2**20
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.tif", MANIFEST_NAME]
