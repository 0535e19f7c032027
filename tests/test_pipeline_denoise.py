import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from typer import Typer
from typer.testing import CliRunner

from pipeline.commands import denoise as command
from pipeline.data.folders import scan
from pipeline.data.images import Image, Metadata, read_image, write_image
from pipeline.errors import RunError, UserError
from pipeline.inference import denoiser as denoisers
from pipeline.inference.denoiser import find_weights, load_denoiser
from pipeline.inference.files import denoise_files
from pipeline.inference.manifest import MANIFEST_NAME
from pipeline.inference.outputs import OutputOptions
from raw.dng import write_dng
from raw.files import render_srgb


def halve(image):
    return image * np.float32(0.5)


def same(image):
    return image


def raising(error):
    def denoiser(_):
        raise error

    return denoiser


def write(path, shape=(6, 5, 3), dtype=np.uint8, metadata=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(len(path.name))
    pixels = generator.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    write_image(path, Image(pixels=pixels, metadata=metadata or Metadata()))
    return pixels


def statuses(summary):
    return {Path(file.source).name: file.status for file in summary.files}


def tree(folder):
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST_NAME)
    return sorted(path.relative_to(folder).as_posix() for path in paths)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("name", "dtype"), [("a.png", np.uint8), ("a.png", np.uint16), ("a.tif", np.uint16)])
def test_size_depth_and_alpha_stay_and_values_are_rounded(tmp_path, channels, name, dtype):
    pixels = write(tmp_path / "in" / name, (7, 9, channels), dtype)
    denoise_files(scan([tmp_path / "in"]), halve, tmp_path / "out")
    output = read_image(tmp_path / "out" / name).pixels
    assert output.dtype == dtype
    colours = channels - 1 if channels in (2, 4) else channels
    want = pixels.astype(np.float64)
    want[..., :colours] /= 2
    assert np.abs(output - want).max() <= 0.5 + 1e-2
    assert np.array_equal(output[..., colours:], pixels[..., colours:])


def test_the_identity_gives_the_same_pixels_and_metadata_back(tmp_path):
    metadata = Metadata(icc=b"profile" * 9, dpi=(300.0, 300.0))
    pixels = write(tmp_path / "in" / "a.png", dtype=np.uint16, metadata=metadata)
    denoise_files(scan([tmp_path / "in"]), same, tmp_path / "out")
    output = read_image(tmp_path / "out" / "a.png")
    assert np.array_equal(output.pixels, pixels)
    assert output.metadata.icc == metadata.icc


def test_the_tree_is_mirrored_and_dots_in_names_survive(tmp_path):
    for name in ("a.b.c.png", "deep/er/x.jpg", "deep/y.JPG"):
        write(tmp_path / "in" / name)
    denoise_files(scan([tmp_path / "in"]), same, tmp_path / "out", OutputOptions(suffix="_dn"))
    assert tree(tmp_path / "out") == ["a.b.c_dn.png", "deep/er/x_dn.jpg", "deep/y_dn.JPG"]


def test_bad_files_are_listed_and_the_rest_goes_on(tmp_path):
    write(tmp_path / "in" / "good.png")
    (tmp_path / "in" / "text.png").write_text("no picture")
    (tmp_path / "in" / "empty.tif").write_bytes(b"")
    seen = []
    summary = denoise_files(scan([tmp_path / "in"]), same, tmp_path / "out", on_progress=seen.append)
    assert statuses(summary) == {"good.png": "ok", "text.png": "failed", "empty.tif": "failed"}
    assert len(seen) == 3
    assert tree(tmp_path / "out") == ["good.png"]
    result = summary.to_dict()
    assert (result["ok"], result["failed"], result["skipped"]) == (1, 2, 0)
    assert "text" in next(f["error"] for f in result["files"] if f["source"].endswith("text.png"))


@pytest.mark.parametrize(
    "broken",
    [
        lambda image: image[1:],
        lambda image: image * np.float32("nan"),
        raising(RuntimeError("CUDA out of memory\nmore")),
        raising(MemoryError()),
    ],
)
def test_a_result_that_cannot_be_right_is_never_written(tmp_path, broken):
    write(tmp_path / "in" / "a.png")
    summary = denoise_files(scan([tmp_path / "in"]), broken, tmp_path / "out")
    assert summary.files[0].status == "failed"
    assert "\n" not in summary.files[0].error
    assert not (tmp_path / "out" / "a.png").exists()


def test_an_input_is_never_overwritten(tmp_path):
    write(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    for out in (tmp_path, tmp_path / "x" / ".."):
        with pytest.raises(UserError, match="expected an output that is no input"):
            denoise_files(scan([tmp_path]), halve, out, OutputOptions(overwrite=True))
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(UserError, match="no input"):
        denoise_files(scan([tmp_path / "a.png"]), halve, tmp_path / "link", OutputOptions(overwrite=True))
    (tmp_path / "out").mkdir()
    os.link(tmp_path / "a.png", tmp_path / "out" / "a.png")
    with pytest.raises(UserError, match="no input"):
        denoise_files(scan([tmp_path / "a.png"]), halve, tmp_path / "out", OutputOptions(overwrite=True))
    assert (tmp_path / "a.png").read_bytes() == before
    denoise_files(scan([tmp_path / "a.png"]), halve, tmp_path, OutputOptions(suffix="_dn"))
    assert (tmp_path / "a_dn.png").is_file()


def test_an_output_of_one_source_is_never_the_input_of_another(tmp_path):
    write(tmp_path / "a.png")
    write(tmp_path / "a_dn.png")
    with pytest.raises(UserError, match=r"a_dn\.png: expected an output that is no input"):
        denoise_files(scan([tmp_path]), halve, tmp_path, OutputOptions(suffix="_dn", overwrite=True))


def test_existing_outputs_are_skipped_unless_overwrite_is_given(tmp_path):
    write(tmp_path / "in" / "a.png")
    sources = scan([tmp_path / "in"])
    denoise_files(sources, same, tmp_path / "out")
    before = (tmp_path / "out" / "a.png").read_bytes()
    assert statuses(denoise_files(sources, halve, tmp_path / "out")) == {"a.png": "skipped"}
    assert (tmp_path / "out" / "a.png").read_bytes() == before
    denoise_files(sources, halve, tmp_path / "out", OutputOptions(overwrite=True))
    assert (tmp_path / "out" / "a.png").read_bytes() != before


def test_an_output_link_is_replaced_not_followed(tmp_path):
    write(tmp_path / "in" / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "precious.png").write_bytes(b"precious")
    (tmp_path / "out" / "a.png").symlink_to(tmp_path / "precious.png")
    denoise_files(scan([tmp_path / "in"]), same, tmp_path / "out", OutputOptions(overwrite=True))
    assert (tmp_path / "precious.png").read_bytes() == b"precious"
    assert not (tmp_path / "out" / "a.png").is_symlink()


def test_an_output_folder_that_leads_elsewhere_is_refused(tmp_path):
    write(tmp_path / "in" / "sub" / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="expected a path inside"):
        denoise_files(scan([tmp_path / "in"]), same, tmp_path / "out")


def test_names_that_meet_after_a_format_change_both_survive(tmp_path):
    write(tmp_path / "in" / "a.png")
    write(tmp_path / "in" / "a.jpg")
    write(tmp_path / "in" / "b.tif")
    denoise_files(scan([tmp_path / "in"]), same, tmp_path / "out", OutputOptions(format="png"))
    assert tree(tmp_path / "out") == ["a.jpg.png", "a.png.png", "b.png"]


def test_two_sources_that_still_share_an_output_are_refused_before_anything_is_written(tmp_path):
    write(tmp_path / "x" / "a.png")
    write(tmp_path / "y" / "a.png")
    with pytest.raises(UserError, match="expected an output of its own"):
        denoise_files(scan([tmp_path / "x", tmp_path / "y"]), same, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "output"), [("a.bmp", "a.png"), ("a.webp", "a.png"), ("a.jpe", "a.png"), ("A.JPEG", "A.JPEG")]
)
def test_formats_that_cannot_be_written_become_png(tmp_path, name, output):
    (tmp_path / "in").mkdir()
    kind = "JPEG" if name.lower().startswith("a.jp") else name[2:].upper()
    Pillow.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "in" / name, kind)
    denoise_files(scan([tmp_path / "in"]), same, tmp_path / "out")
    assert tree(tmp_path / "out") == [output]


def test_a_full_disk_stops_the_batch(tmp_path, monkeypatch):
    write(tmp_path / "in" / "a.png")
    write(tmp_path / "in" / "b.png")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        denoise_files(scan([tmp_path / "in"]), same, tmp_path / "out")
    assert tree(tmp_path / "out") == []


def test_grey_goes_through_a_colour_network_and_colour_through_a_grey_one():
    from models import from_network, to_network

    image = np.random.default_rng(0).random((3, 4, 3), dtype=np.float32)

    def through(colours, channels):
        batch = to_network(colours, channels)
        assert batch.shape[1:] == (channels, 3, 4)
        return from_network(batch + torch.arange(channels)[:, None, None], colours.shape[2])

    assert np.allclose(through(image[..., :1], 3), image[..., :1] + 1)
    assert np.allclose(through(image, 3), image + np.arange(3))
    assert np.allclose(through(image, 1), image)
    assert to_network(image, 1).shape == (3, 1, 3, 4)
    with pytest.raises(ValueError, match="found 4"):
        to_network(image, 4)


def test_a_reference_that_is_no_model_is_one_clear_line(tmp_path):
    for reference, found in ((tmp_path / "no", "nothing there"), (tmp_path, "a folder without them")):
        with pytest.raises(UserError, match=f"expected a weights folder .* found {found}"):
            find_weights(str(reference))
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(UserError, match="expected weights made by unveil"):
        load_denoiser(str(tmp_path))


def invoke(*args):
    app = Typer()
    app.command()(command.denoise)
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def fake_model(monkeypatch):
    monkeypatch.setattr(denoisers, "load_denoiser", lambda *_: halve)


@pytest.mark.parametrize(("good", "bad", "code"), [(2, 0, 0), (1, 1, 3), (0, 2, 1)])
def test_the_exit_code_tells_all_some_and_none(tmp_path, fake_model, good, bad, code):
    (tmp_path / "in").mkdir()
    for index in range(good):
        write(tmp_path / "in" / f"good{index}.png")
    for index in range(bad):
        (tmp_path / "in" / f"bad{index}.png").write_text("no picture")
    result = invoke(tmp_path / "in", "--model", "m", "--out", tmp_path / "out", "--json")
    assert result.exit_code == code
    answer = json.loads(result.stdout)
    assert (answer["ok"], answer["failed"]) == (good, bad)
    told = {"source", "output", "status", "error", "seconds", "note", "offset", "residual", "model", "fallback"}
    assert told == set(answer["files"][0])


def test_without_json_stdout_stays_empty_and_stderr_names_the_bad_file(tmp_path, fake_model):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "[red]bad.png").write_text("no picture")
    write(tmp_path / "in" / "good.png")
    result = invoke(tmp_path / "in", "--model", "m", "--out", tmp_path / "out")
    assert result.stdout == ""
    assert "[red]bad.png" in result.stderr.replace("\n", "")


def test_writing_beside_the_sources_with_a_suffix_can_be_repeated(tmp_path, fake_model):
    write(tmp_path / "a.png")
    for _ in range(2):
        arguments = (tmp_path, "--model", "m", "--out", tmp_path, "--suffix", "[dn]", "--overwrite", "--json")
        assert json.loads(invoke(*arguments).stdout)["ok"] == 1
    assert tree(tmp_path) == ["a.png", "a[dn].png"]


def test_the_output_folder_inside_the_source_is_not_denoised_again(tmp_path, fake_model):
    write(tmp_path / "in" / "a.png")
    for _ in range(2):
        result = invoke(tmp_path / "in", "--model", "m", "--out", tmp_path / "in" / "out", "--overwrite", "--json")
        assert json.loads(result.stdout)["ok"] == 1
    assert tree(tmp_path / "in") == ["a.png", "out/a.png"]


def raw_file(path, *, pattern="RGGB", shape=(48, 64), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    mosaic = np.random.default_rng(0).integers(0, 1023, shape, dtype=np.uint16)
    write_dng(path, mosaic, pattern=pattern, white_level=1023, **options)


def test_a_raw_file_is_rendered_upright_and_written_as_16_bit_tiff(tmp_path):
    raw_file(tmp_path / "in" / "a.dng", flip=6, make="Nikon")
    denoise_files(scan([tmp_path / "in"]), same, tmp_path / "out")
    output = read_image(tmp_path / "out" / "a.tif")
    assert output.pixels.shape == (64, 48, 3)
    assert np.array_equal(output.pixels, render_srgb(tmp_path / "in" / "a.dng"))
    with Pillow.open(tmp_path / "out" / "a.tif") as picture:
        assert picture.getexif()[271] == "Nikon"
        # The rendering is upright; the tag would make a viewer turn it once more.
        assert 274 not in picture.getexif()


def test_what_was_done_to_another_mosaic_is_told_once_for_all_and_for_each_file(tmp_path, fake_model):
    for name in ("a.dng", "b.dng"):
        raw_file(tmp_path / "in" / name, pattern=None)
    raw_file(tmp_path / "in" / "c.dng", pattern=None, shape=(48, 64, 3))
    raw_file(tmp_path / "in" / "d.dng")
    arguments = (tmp_path / "in", "--model", "m", "--out", tmp_path / "out", "--overwrite")
    notes = [file["note"] for file in json.loads(invoke(*arguments, "--json").stdout)["files"]]
    assert [note and note.partition(":")[0] for note in notes] == [
        "monochrome sensor",
        "monochrome sensor",
        "linear raw, demosaiced before it was written",
        None,
    ]
    told = invoke(*arguments).stderr
    assert told.count("2 files: monochrome sensor: developed by LibRaw and denoised as RGB") == 1
    assert told.count("1 file: linear raw") == 1


def test_a_raw_file_that_is_none_is_one_line(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.dng").write_bytes(b"II*\0junk" * 10)
    (result,) = denoise_files(scan([tmp_path / "in"]), same, tmp_path / "out").files
    assert result.status == "failed"
    assert result.error.count(str(tmp_path)) == 1
