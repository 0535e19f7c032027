"""--bit-depth and --strength: the same for a model, for --fit and (with the tests of raw models) for raw files."""

import json

import numpy as np
import pytest
import tifffile
from typer import Typer
from typer.testing import CliRunner

from pipeline.commands import denoise as command
from pipeline.data.folders import scan
from pipeline.data.images import Image, read_image, write_image
from pipeline.errors import UserError
from pipeline.inference import denoiser as denoisers
from pipeline.inference.files import denoise_files
from pipeline.inference.fit import FitOptions, fit_files
from pipeline.inference.outputs import OutputOptions, plan_outputs


def halve(image):
    return image * np.float32(0.5)


def write(path, shape=(20, 24, 3), dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(7)
    if dtype == np.float32:
        pixels = generator.random(shape, dtype=np.float32)
    else:
        pixels = generator.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    write_image(path, Image(pixels=pixels))
    return pixels


def denoise(path, out, **options):
    (file,) = denoise_files(scan([path]), halve, out, OutputOptions(**options)).files
    assert file.status == "ok", file.error
    return read_image(file.output).pixels


KINDS = {"8": np.uint8, "16": np.uint16, "float": np.float32}


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", KINDS)
@pytest.mark.parametrize("stored", KINDS.values())
def test_any_depth_becomes_any_other_and_alpha_with_it(tmp_path, stored, bits, channels):
    pixels = write(tmp_path / "a.tif", (6, 7, channels), stored)
    got = denoise(tmp_path / "a.tif", tmp_path / "out", bit_depth=bits)
    assert got.dtype == KINDS[bits]
    white = {np.uint8: 255, np.uint16: 65535, np.float32: 1}
    colours = channels - 1 if channels in (2, 4) else channels
    want = pixels / float(white[stored])
    want[..., :colours] /= 2
    # Half a step of the coarser of the two depths; a value from 8 bits is exact in 16.
    step = 0 if KINDS[bits] is np.float32 else 1 / white[KINDS[bits]]
    assert np.abs(got / float(white[KINDS[bits]]) - want).max() <= 0.5 * step + 1e-6
    if KINDS[bits] is stored:
        np.testing.assert_array_equal(got[..., colours:], pixels[..., colours:])


def test_eight_bits_are_not_rounded_before_they_become_sixteen(tmp_path):
    pixels = write(tmp_path / "a.png")
    got = denoise(tmp_path / "a.png", tmp_path / "out", bit_depth="16")
    np.testing.assert_allclose(got, pixels * 257.0 / 2, atol=0.51)
    assert (got % 257).any()


@pytest.mark.parametrize("dtype", KINDS.values())
def test_strength_mixes_stored_values_and_leaves_alpha(tmp_path, dtype):
    pixels = write(tmp_path / "a.tif", (6, 7, 4), dtype)
    outputs = {s: denoise(tmp_path / "a.tif", tmp_path / str(s), strength=s) for s in (0.0, 0.3, 1.0)}
    np.testing.assert_array_equal(outputs[0.0], pixels)
    atol = 1e-6 if dtype == np.float32 else 0.51
    np.testing.assert_allclose(outputs[0.3][..., :3], pixels[..., :3] * (1 - 0.3 / 2), atol=atol)
    np.testing.assert_allclose(outputs[1.0][..., :3], pixels[..., :3] / 2, atol=atol)
    for output in outputs.values():
        np.testing.assert_array_equal(output[..., 3], pixels[..., 3])


@pytest.mark.parametrize("strength", [-0.1, 1.01, 2.0, float("nan"), float("inf")])
def test_a_strength_beyond_the_two_pictures_is_refused(strength):
    with pytest.raises(UserError, match=r"--strength: expected 0 \(all noisy\) to 1 \(all denoised\), found"):
        OutputOptions(strength=strength)


@pytest.mark.parametrize(
    ("name", "format", "bits", "told"),
    [
        ("a.jpg", None, "16", "expected 8 for JPEG (a.jpg), found 16; --format has the others"),
        ("a.png", None, "float", "expected 8 or 16 for PNG (a.png), found float"),
        ("a.png", "jpeg", "float", "expected 8 for JPEG"),
        ("a.png", "exr", "8", "expected 16 or float for EXR"),
        ("a.png", None, "12", "expected one of 8, 16, float, found '12'"),
    ],
)
def test_a_depth_that_a_format_does_not_hold_is_refused_before_any_work(tmp_path, name, format, bits, told):
    write(tmp_path / name)
    with pytest.raises(UserError) as caught:
        plan_outputs(scan([tmp_path]), tmp_path / "out", OutputOptions(format=format, bit_depth=bits))
    assert str(caught.value).startswith("--bit-depth: expected")
    assert told in str(caught.value)


def test_float_tiffs_beyond_white_and_with_broken_pixels_are_denoised(tmp_path):
    pixels = write(tmp_path / "a.tif", (20, 24, 3), np.float32)
    pixels[2, 3], pixels[4, 5], pixels[6, 7] = 3.5, -0.25, 40.0
    pixels[8, 9, 1] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    seen = []

    def watch(image):
        seen.append(image)
        return image

    (file,) = denoise_files(scan([tmp_path / "a.tif"]), watch, tmp_path / "out").files
    assert file.note == "1 pixel that was NaN or infinite, replaced by the median of those around"
    got = read_image(tmp_path / "out" / "a.tif").pixels
    whole = np.isfinite(pixels)
    np.testing.assert_allclose(got[whole], pixels[whole], rtol=1e-5)
    assert 0 <= got[8, 9, 1] <= 1
    inside = whole & (pixels >= 0) & (pixels <= 1)
    np.testing.assert_array_equal(seen[0][inside], pixels[inside])
    assert 1 < seen[0].max() < 3


def test_a_float_alpha_that_is_no_number_stays(tmp_path):
    pixels = write(tmp_path / "a.tif", (6, 7, 4), np.float32)
    pixels[0, 0, 3] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    denoise_files(scan([tmp_path / "a.tif"]), halve, tmp_path / "out")
    assert tifffile.imread(tmp_path / "out" / "a.tif")[..., 3].tobytes() == pixels[..., 3].tobytes()
    assert denoise(tmp_path / "a.tif", tmp_path / "png", format="png", bit_depth="8")[0, 0, 3] == 0


def test_a_fit_mixes_and_deepens_too(tmp_path):
    pixels = write(tmp_path / "a.png", (16, 16, 1))
    made = {}
    for strength in (0.0, 0.5, 1.0):
        options = OutputOptions(bit_depth="16", strength=strength)
        summary = fit_files(scan([tmp_path / "a.png"]), tmp_path / str(strength), FitOptions(steps=1, draws=1), options)
        assert summary.files.count("ok") == 1
        made[strength] = read_image(tmp_path / str(strength) / "a.png").pixels.astype(float)
    np.testing.assert_array_equal(made[0.0], pixels * 257.0)
    # Colours outside of black and white are cut off only after the two were mixed.
    inside = (made[1.0] > 0) & (made[1.0] < 65535)
    np.testing.assert_allclose(made[0.5][inside], ((made[0.0] + made[1.0]) / 2)[inside], atol=1.0)
    assert np.abs(made[1.0] - made[0.0]).mean() > 100


def test_the_command_takes_both(tmp_path, monkeypatch):
    monkeypatch.setattr(denoisers, "load_denoiser", lambda *_: halve)
    pixels = write(tmp_path / "a.png")
    app = Typer()
    app.command()(command.denoise)
    arguments = [str(tmp_path / "a.png"), "--model", "m", "--out", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(app, [*arguments, "--bit-depth", "16", "--strength", "0.5"])
    assert json.loads(result.stdout)["ok"] == 1
    np.testing.assert_allclose(read_image(tmp_path / "out" / "a.png").pixels, pixels * 257.0 * 0.75, atol=1)
    for option, value in (("--bit-depth", "24"), ("--strength", "1.5")):
        result = CliRunner().invoke(app, [*arguments, option, value])
        assert isinstance(result.exception, UserError)
        assert str(result.exception).startswith(option)
