import os
import struct
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.exr import open_exr
from pipeline.data.folders import scan
from pipeline.data.images import DENOISED_SUFFIXES, Image, read_image, write_image
from pipeline.data.light import decode_light
from pipeline.errors import UserError
from pipeline.inference.files import denoise_files
from pipeline.inference.manifest import MANIFEST_NAME
from pipeline.inference.outputs import OutputOptions, plan_outputs
from pipeline.inference.picture import read_picture
from raw.child_process import ChildProcess

OpenEXR = pytest.importorskip("OpenEXR")
HEIGHT, WIDTH = 24, 30
DAMAGED = "expected a whole EXR file, found a damaged one"


def light(seed=0, shape=(HEIGHT, WIDTH)):
    """Radiance from below black to far above white."""
    generator = np.random.default_rng(seed)
    return (generator.lognormal(-1.5, 1.5, shape) - 0.01).astype(np.float32)


def planes(kind=np.float16):
    generator = np.random.default_rng(1)
    depth = light(5)
    depth[0, 0], depth[3, 3] = np.inf, np.nan
    return {
        "R": light(1).astype(kind),
        "G": light(2).astype(kind),
        "B": light(3).astype(kind),
        "A": generator.random((HEIGHT, WIDTH)).astype(kind),
        "Z": depth,
        "id": generator.integers(0, 2**32 - 1, (HEIGHT, WIDTH), dtype=np.uint32),
        "diffuse.R": light(6).astype(np.float16),
    }


def write_exr(path, channels, compression="ZIP", **attributes):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"compression": getattr(OpenEXR, f"{compression}_COMPRESSION"), "type": OpenEXR.scanlineimage}
    OpenEXR.File(header | attributes, dict(channels)).write(str(path))
    return path


def read_exr_file(path):
    with open_exr(path) as file:
        header = {key: str(value) for key, value in file.header().items()}
        return {name: np.array(channel.pixels) for name, channel in file.channels().items()}, header


def colours_of(channels):
    return np.stack([channels[name] for name in "RGB"], axis=-1).astype(np.float32)


def same(image):
    return image


def halve(image):
    return image * np.float32(0.5)


def denoise(folder, out, denoiser=same, **options):
    sources = scan([folder], suffixes=DENOISED_SUFFIXES)
    return denoise_files(sources, denoiser, out, OutputOptions(**options))


@pytest.mark.parametrize("compression", ["NO", "ZIP", "PIZ", "PXR24", "B44", "DWAA"])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_other_channels_and_attributes_come_back_bit_for_bit(tmp_path, compression, kind):
    window = (np.array([5, 7], np.int32), np.array([5 + WIDTH - 1, 7 + HEIGHT - 1], np.int32))
    view = np.arange(16, dtype=np.float32).reshape(4, 4)
    path = write_exr(
        tmp_path / "in" / "a.exr", planes(kind), compression, owner="me", worldToCamera=view, dataWindow=window
    )
    before, header = read_exr_file(path)
    summary = denoise(tmp_path / "in", tmp_path / "out", halve)
    assert summary.count("ok") == 1, summary.files
    after, written = read_exr_file(tmp_path / "out" / "a.exr")
    for name in ("A", "Z", "id", "diffuse.R"):
        assert after[name].tobytes() == before[name].tobytes(), name
    assert {name: plane.dtype for name, plane in after.items()} == {name: p.dtype for name, p in before.items()}
    if compression == "DWAA":
        # It would have lost some of diffuse.R once more.
        assert "ZIP_COMPRESSION" in written.pop("compression")
        assert "written with ZIP, as DWAA" in summary.files[0].note
        del header["compression"]
    assert written == header
    assert np.median(np.abs(after["R"][before["R"] > 0.1])) < 0.5 * np.median(before["R"][before["R"] > 0.1])


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_values_above_white_and_below_black_survive_the_view_and_back(tmp_path, kind):
    path = write_exr(tmp_path / "a.exr", planes(kind))
    before = colours_of(read_exr_file(path)[0])
    assert before.max() > 10
    assert before.min() < 0
    assert denoise(path, tmp_path / "out").count("ok") == 1
    after = colours_of(read_exr_file(tmp_path / "out" / "a.exr")[0])
    np.testing.assert_allclose(after, before, rtol=2e-5, atol=1e-7)


def test_a_denoiser_is_shown_display_values_of_a_usual_exposure(tmp_path):
    dark, bright = (
        {name: plane * np.float32(f) for name, plane in planes(np.float32).items() if name in "RGB"}
        for f in (2**-9, 2**9)
    )
    seen = [read_picture(write_exr(tmp_path / f"{i}.exr", part)).seen for i, part in enumerate((dark, bright))]
    # The exposure is a power of two: pictures that differ by one are seen as the same.
    np.testing.assert_array_equal(seen[0], seen[1])
    assert 0.3 < np.median(seen[0]) < 0.6
    assert np.mean((seen[0] > -0.2) & (seen[0] < 1)) > 0.8
    assert seen[0].max() < 2


def test_light_from_black_to_white_is_seen_by_the_srgb_curve(tmp_path):
    values = np.linspace(0, 1, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    picture = read_picture(write_exr(tmp_path / "a.exr", dict.fromkeys("RGB", values)))
    exposed = values * picture.view.exposure
    wanted = np.where(exposed <= 0.0031308, 12.92 * exposed, 1.055 * np.maximum(exposed, 1e-9) ** (1 / 2.4) - 0.055)
    inside = exposed <= 1
    np.testing.assert_allclose(picture.seen[..., 0][inside], wanted[inside], atol=1e-6)


def test_pixels_that_are_no_numbers_are_replaced_by_their_neighbours_and_counted(tmp_path):
    channels = planes(np.float16)
    for name in "RGB":
        channels[name][:] = 0.25
    channels["R"][4, 4] = np.nan
    channels["G"][4, 4] = channels["G"][10, 12] = np.inf
    channels["B"][0:6, 20:30] = -np.inf
    channels["A"][2, 2] = np.nan
    path = write_exr(tmp_path / "a.exr", channels)
    summary = denoise(path, tmp_path / "out")
    assert summary.files[0].note.startswith(
        "62 pixels that were NaN or infinite, replaced by the median of those around"
    )
    after, _ = read_exr_file(tmp_path / "out" / "a.exr")
    for name in "RGB":
        np.testing.assert_allclose(after[name].astype(np.float32), 0.25, rtol=1e-3)
    assert after["A"].tobytes() == channels["A"].tobytes()
    assert after["Z"].tobytes() == channels["Z"].tobytes()


def test_notes_that_differ_from_file_to_file_do_not_flood_the_summary(tmp_path):
    for index in range(15):
        broken = light(index)
        broken.ravel()[: index + 1] = np.nan
        write_exr(tmp_path / f"{index}.exr", {"Y": broken})
    lines = denoise(tmp_path, tmp_path / "out").told("out")
    assert lines[0] == "15 written to out"
    assert len(lines) == 14
    assert lines[13] == "3 more notes, which --json has"


def test_a_picture_without_one_finite_value_is_written_black(tmp_path):
    path = write_exr(tmp_path / "a.exr", {"Y": np.full((HEIGHT, WIDTH), np.nan, np.float32)})
    assert denoise(path, tmp_path / "out").count("ok") == 1
    assert not read_exr_file(tmp_path / "out" / "a.exr")[0]["Y"].any()


def test_a_result_beyond_a_half_does_not_become_infinite_and_errors_beyond_white_stay_small(tmp_path):
    channels = {name: np.full((HEIGHT, WIDTH), 0.2, np.float16) for name in "RGB"}
    channels["R"][5, 5] = 65504
    path = write_exr(tmp_path / "a.exr", channels)
    assert denoise(path, tmp_path / "out", lambda image: image + np.float32(100)).count("ok") == 1
    after = colours_of(read_exr_file(tmp_path / "out" / "a.exr")[0])
    assert after.max() == 65504
    channels = {name: plane.astype(np.float32) for name, plane in channels.items()}
    channels["R"][5, 5] = 5000
    path = write_exr(tmp_path / "b.exr", channels)
    assert denoise(path, tmp_path / "out", lambda image: image * np.float32(1.1)).count("ok") == 1
    # Nothing averaged is brighter than the brightest; without the limit this error of a tenth would be one of half.
    assert colours_of(read_exr_file(tmp_path / "out" / "b.exr")[0]).max() == pytest.approx(5000, rel=1e-4)


def test_parts_layers_and_grey_are_found_and_tiles_stay(tmp_path):
    tiles = OpenEXR.TileDescription()
    tiles.xSize = tiles.ySize = 16
    colours = {f"ViewLayer.Combined.{name}": light(i).astype(np.float16) for i, name in enumerate("RGBA")}
    other = {f"ViewLayer.Diffuse.{name}": light(9).astype(np.float16) for name in "RGB"}
    OpenEXR.File({"type": OpenEXR.tiledimage, "tiles": tiles}, colours | other).write(str(tmp_path / "layers.exr"))
    parts = [
        OpenEXR.Part({"type": OpenEXR.scanlineimage}, {"Z": light(4)}, "depth"),
        OpenEXR.Part({"type": OpenEXR.scanlineimage}, {name: light(5) for name in "RGB"}, "beauty"),
    ]
    OpenEXR.File(parts).write(str(tmp_path / "parts.exr"))
    write_exr(tmp_path / "grey.exr", {"Y": light(7), "A": light(8)})
    assert denoise(tmp_path, tmp_path / "out", halve).count("ok") == 3
    after, header = read_exr_file(tmp_path / "out" / "layers.exr")
    assert "tiled" in header["type"]
    assert not np.array_equal(after["ViewLayer.Combined.R"], light(0).astype(np.float16))
    np.testing.assert_array_equal(after["ViewLayer.Diffuse.R"], light(9).astype(np.float16))
    np.testing.assert_array_equal(after["ViewLayer.Combined.A"], light(3).astype(np.float16))
    with open_exr(tmp_path / "out" / "parts.exr") as file:
        assert [part.name() for part in file.parts] == ["depth", "beauty"]
        np.testing.assert_array_equal(file.parts[0].channels["Z"].pixels, light(4))
        assert not np.array_equal(file.parts[1].channels["R"].pixels, light(5))
    after, _ = read_exr_file(tmp_path / "out" / "grey.exr")
    assert set(after) == {"Y", "A"}
    np.testing.assert_array_equal(after["A"], light(8))


def test_an_exr_becomes_a_picture_and_a_picture_an_exr_by_the_srgb_curve(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 4), dtype=np.uint8)
    pixels[..., 3] = np.maximum(pixels[..., 3], 1)
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "a.png", Image(pixels=pixels))
    assert denoise(tmp_path / "in", tmp_path / "exr", format="exr", bit_depth="float").count("ok") == 1
    stored, _ = read_exr_file(tmp_path / "exr" / "a.exr")
    alpha = pixels[..., 3] / 255
    np.testing.assert_allclose(stored["R"], decode_light(pixels[..., 0] / 255) * alpha, atol=1e-6)
    assert denoise(tmp_path / "exr", tmp_path / "png", format="png", bit_depth="8").count("ok") == 1
    assert np.array_equal(read_image(tmp_path / "png" / "a.png").pixels, pixels)
    assert denoise(tmp_path / "in", tmp_path / "half", format="exr").count("ok") == 1
    assert read_exr_file(tmp_path / "half" / "a.exr")[0]["R"].dtype == np.float16
    assert denoise(tmp_path / "exr", tmp_path / "to_half", bit_depth="16").count("ok") == 1
    assert read_exr_file(tmp_path / "to_half" / "a.exr")[0]["R"].dtype == np.float16


def test_strength_mixes_linear_light(tmp_path):
    path = write_exr(tmp_path / "a.exr", planes(np.float32))
    before = colours_of(planes(np.float32))
    for strength in (0.0, 0.25, 1.0):
        denoise(path, tmp_path / str(strength), halve, strength=strength)
    none, some, all_ = (colours_of(read_exr_file(tmp_path / s / "a.exr")[0]) for s in ("0.0", "0.25", "1.0"))
    np.testing.assert_array_equal(none, before)
    np.testing.assert_allclose(some, before + 0.25 * (all_ - before), rtol=1e-5, atol=1e-6)


def lying(data, width):
    at = data.index(b"dataWindow\0box2i\0") + 17 + 4
    return data[: at + 8] + struct.pack("<ii", width, width) + data[at + 16 :]


def bad_exrs(folder):
    write_exr(folder / "good.exr", {name: light(1) for name in "RGB"})
    whole = (folder / "good.exr").read_bytes()
    write_exr(folder / "depth.exr", {"Z": light(1)})
    write_exr(folder / "ids.exr", {name: np.ones((4, 4), np.uint32) for name in "RGB"})
    for name, data in {
        "cut.exr": whole[: len(whole) // 2],
        "header.exr": whole[:60],
        "signature.exr": whole[:4],
        "empty.exr": b"",
        "text.exr": b"no rendering",
        "huge.exr": lying(whole, 2**30),
        "large.exr": lying(whole, 16_000),
        "negative.exr": lying(whole, -5),
    }.items():
        (folder / name).write_bytes(data)
    os.mkfifo(folder / "pipe.exr")


def test_bad_files_are_one_line_each_and_the_rest_goes_on(tmp_path, capfd):
    bad_exrs(tmp_path)
    summary = denoise(tmp_path, tmp_path / "out")
    failed = {Path(file.source).name: file.error for file in summary.files if file.status == "failed"}
    assert summary.count("ok") == 1
    assert "expected the channels R, G and B, found Z" in failed.pop("depth.exr")
    assert "expected R, G and B as floats, found whole numbers" in failed.pop("ids.exr")
    assert "found an empty file" in failed.pop("empty.exr")
    assert "found text" in failed.pop("text.exr")
    assert "found a device or a pipe" in failed.pop("pipe.exr")
    assert set(failed) == {"cut.exr", "header.exr", "huge.exr", "signature.exr", "large.exr", "negative.exr"}
    for name, error in failed.items():
        assert error.startswith(f"{tmp_path / name}: expected "), error
        assert "\n" not in error
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good.exr", MANIFEST_NAME]
    assert capfd.readouterr() == ("", "")


def test_random_damage_of_an_exr_never_escapes_as_another_error(tmp_path):
    generator = np.random.default_rng(3)
    whole = write_exr(tmp_path / "a.exr", planes(), "PIZ").read_bytes()
    outcomes = {"ok": 0, "failed": 0}
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(int(generator.integers(1, 6))):
            damaged[int(generator.integers(0, min(len(damaged), 900)))] = int(generator.integers(0, 256))
        (tmp_path / "a.exr").write_bytes(damaged)
        (file,) = denoise(tmp_path / "a.exr", tmp_path / "out", overwrite=True).files
        outcomes[file.status] += 1
    assert outcomes["ok"] > 5
    assert outcomes["failed"] > 5


def test_a_decoder_that_crashes_is_one_line_about_the_file(tmp_path, monkeypatch):
    body = "import os\nfrom raw.serving import serve_files\ndef main(): serve_files(lambda task: os.abort())\n"
    (tmp_path / "fragile.py").write_text(body)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("pipeline.data.exr.DECODER", ChildProcess("fragile"))
    write_exr(tmp_path / "a.exr", {"Y": light()})
    (file,) = denoise(tmp_path / "a.exr", tmp_path / "out").files
    assert file.error.endswith(r"a.exr: expected a whole image, found a damaged one (the decoder crashed (SIGABRT))")


def test_other_commands_say_that_they_do_not_take_linear_light(tmp_path):
    write_exr(tmp_path / "a.exr", {"Y": light()})
    with pytest.raises(UserError, match=r"expected display values, found linear light \(OpenEXR\)"):
        read_image(tmp_path / "a.exr")
    with pytest.raises(UserError, match="found none"):
        scan([tmp_path])
    assert len(scan([tmp_path], suffixes=DENOISED_SUFFIXES)) == 1


def test_without_the_library_the_format_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.inference.outputs.find_spec", lambda _: None)
    write_exr(tmp_path / "a.exr", {"Y": light()})
    sources = scan([tmp_path], suffixes=DENOISED_SUFFIXES)
    with pytest.raises(UserError, match=r"--format exr: .* pip install 'unveil-denoise\[exr\]'"):
        plan_outputs(sources, tmp_path / "out", OutputOptions(format="exr"))
