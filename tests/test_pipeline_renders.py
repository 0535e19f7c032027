"""Monte-Carlo renderings as test pairs: which file belongs to which, tone mapping with one exposure, broken pixels."""

import builtins
import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from noise.tone_mapping import ToneMapping
from pipeline.data.exr import read_exr
from pipeline.data.images import Image, ImageError, read_image, write_image
from pipeline.data.renders import find_renderings, read_rendering, samples_of
from pipeline.data.synth_files import find_rendered, synthesise
from pipeline.errors import UserError

RENDERS = Path(__file__).parents[2] / "shared" / "data" / "dev" / "monte_carlo"


@pytest.fixture
def write_exr():
    library = pytest.importorskip("OpenEXR")

    def write(path, array, channels="RGB"):
        path.parent.mkdir(parents=True, exist_ok=True)
        header = {"compression": library.ZIP_COMPRESSION, "type": library.scanlineimage}
        planes = {name: np.ascontiguousarray(array[..., index]) for index, name in enumerate(channels)}
        library.File(header, planes).write(str(path))

    return write


def radiance(seed=0, side=32):
    return np.exp(np.random.default_rng(seed).normal(0, 1, (side, side, 3))).astype(np.float32)


def png(path, value=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, Image(pixels=np.full((16, 16, 3), value, np.uint8)))


def test_renderings_are_found_with_the_reference_of_their_folder(tmp_path):
    for name in ("noisy_0004spp.exr", "noisy_0016spp_seedB.exr", "reference_0384spp.exr", "albedo_0064spp.exr"):
        (tmp_path / "scene").mkdir(exist_ok=True)
        (tmp_path / "scene" / name).touch()
    for name in ("spp1.png", "spp16.png", "reference.png", "normal.png"):
        png(tmp_path / "other" / name)
    (tmp_path / "lonely").mkdir()
    (tmp_path / "lonely" / "noisy_0001spp.exr").touch()
    found = find_renderings(tmp_path)
    assert [(one.relative.as_posix(), one.reference.name, one.samples) for one in found] == [
        ("other/spp1.png", "reference.png", 1),
        ("other/spp16.png", "reference.png", 16),
        ("scene/noisy_0004spp.exr", "reference_0384spp.exr", 4),
        ("scene/noisy_0016spp_seedB.exr", "reference_0384spp.exr", 16),
    ]
    assert [one.samples for one in find_renderings(tmp_path, samples=(2, 16))] == [16, 4, 16]
    with pytest.raises(UserError, match="expected renderings of 3 to 3 samples per pixel"):
        find_renderings(tmp_path, samples=(3, 3))
    png(tmp_path / "other" / "reference_2.png")
    with pytest.raises(UserError, match=r"expected one reference, found reference\.png, reference_2\.png"):
        find_renderings(tmp_path)


@pytest.mark.parametrize(
    ("name", "samples"), [("noisy_0064spp", 64), ("spp8", 8), ("noisy_0004spp_seedB", 4), ("noisy", None)]
)
def test_samples_per_pixel_are_in_the_name(name, samples):
    assert samples_of(Path(f"{name}.exr")) == samples


def test_both_get_the_exposure_of_the_reference(tmp_path, write_exr):
    reference = radiance()
    write_exr(tmp_path / "reference.exr", reference)
    write_exr(tmp_path / "noisy_4spp.exr", 2 * reference)
    mapping = ToneMapping(operator="clip", transfer="gamma")
    noisy, clean, done = read_rendering(tmp_path / "noisy_4spp.exr", tmp_path / "reference.exr", mapping)
    luminance = reference @ np.array([0.2126, 0.7152, 0.0722])
    exposure = 0.18 / math.exp(np.log(luminance).mean())
    assert done["exposure"] == pytest.approx(exposure, rel=1e-5)
    for image, factor in ((clean, 1), (noisy, 2)):
        expected = np.rint(255 * np.clip(factor * exposure * reference, 1e-8, 1) ** (1 / 2.2))
        assert np.abs(image - expected).max() <= 1


def test_broken_pixels_are_replaced_and_counted_in_the_manifest(tmp_path, write_exr):
    reference, noisy = radiance(), radiance(1)
    noisy[0, 0, 1] = math.nan
    noisy[3, 4] = math.inf
    write_exr(tmp_path / "in" / "reference.exr", reference)
    write_exr(tmp_path / "in" / "noisy_0001spp.exr", noisy)
    tasks = find_rendered(tmp_path / "in", tmp_path / "out", None)
    result = synthesise(tasks, tmp_path / "out", ToneMapping(), 0)
    (row,) = result["files"]
    assert row["parameters"]["non_finite"] == {"noisy": 2, "clean": 0}
    assert row["parameters"]["samples"] == 1
    stored = read_image(tmp_path / "out" / "noisy" / "noisy_0001spp.png").pixels
    assert stored[0, 0, 1] == 0
    assert np.all(stored[3, 4] == 255)


def test_png_renderings_are_taken_as_they_are(tmp_path):
    png(tmp_path / "in" / "spp4.png", 90)
    png(tmp_path / "in" / "reference.png", 100)
    tasks = find_rendered(tmp_path / "in", tmp_path / "out", None)
    result = synthesise(tasks, tmp_path / "out", ToneMapping(), 0)
    assert result["psnr_rgb_u8"] == pytest.approx(20 * math.log10(255 / 10), abs=1e-3)
    assert np.all(read_image(tmp_path / "out" / "noisy" / "spp4.png").pixels == 90)


def test_sizes_must_agree(tmp_path, write_exr):
    write_exr(tmp_path / "in" / "reference.exr", radiance(side=16))
    write_exr(tmp_path / "in" / "noisy.exr", radiance(side=32))
    result = synthesise(find_rendered(tmp_path / "in", tmp_path / "out", None), tmp_path / "out", ToneMapping(), 0)
    assert result["failed"] == 1
    assert "expected the size of its reference (16, 16), found (32, 32)" in result["failures"][0]["error"]


def test_an_exr_is_read_as_it_is(tmp_path, write_exr):
    values = radiance()
    write_exr(tmp_path / "a.exr", values)
    assert np.array_equal(read_exr(tmp_path / "a.exr"), values)
    write_exr(tmp_path / "half.exr", values.astype(np.float16))
    assert np.array_equal(read_exr(tmp_path / "half.exr"), values.astype(np.float16).astype(np.float32))
    write_exr(tmp_path / "alpha.exr", np.concatenate([values, values[..., :1]], axis=-1), "RGBA")
    assert np.array_equal(read_exr(tmp_path / "alpha.exr"), values)
    write_exr(tmp_path / "grey.exr", values[..., :1], "Y")
    assert np.array_equal(read_exr(tmp_path / "grey.exr"), np.repeat(values[..., :1], 3, axis=-1))


def test_what_is_no_exr_of_colours_is_refused_by_name(tmp_path, write_exr):
    write_exr(tmp_path / "depth.exr", radiance()[..., :1], "Z")
    (tmp_path / "text.exr").write_text("no rendering")
    write_exr(tmp_path / "cut.exr", radiance())
    whole = (tmp_path / "cut.exr").read_bytes()
    (tmp_path / "cut.exr").write_bytes(whole[: len(whole) // 2])
    for name, message in (
        ("depth", "expected the channels R, G and B, found Z"),
        ("text", "expected a whole EXR file, found a damaged one"),
        ("cut", "expected a whole EXR file, found a damaged one"),
        ("missing", "expected an EXR file, found nothing there"),
    ):
        with pytest.raises(ImageError, match=rf"{name}.exr: {message}"):
            read_exr(tmp_path / f"{name}.exr")
    write_exr(tmp_path / "large.exr", radiance())
    with pytest.raises(ImageError, match=r"large.exr: expected at most 1000 pixels, found 32x32"):
        read_exr(tmp_path / "large.exr", max_pixels=1000)


def test_without_the_library_one_line_says_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name == "OpenEXR":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"EXR files need the package OpenEXR; install it with pip install 'unveil"):
        read_exr(tmp_path / "a.exr")


@pytest.mark.skipif(not RENDERS.is_dir(), reason="needs ../shared")
def test_real_renderings_get_cleaner_with_more_samples(tmp_path, unveil):
    pytest.importorskip("OpenEXR")
    source = RENDERS / "mitsuba_rendered" / "meshes_envmap"
    code, result, _ = unveil("synth", source, tmp_path / "out", "--recipe", "monte_carlo", "--seed", 0, "--json")
    assert code == 0
    psnr = {row["parameters"]["samples"]: row["psnr_rgb_u8"] for row in result["files"]}
    assert sorted(psnr) == [1, 4, 16, 64]
    values = [psnr[samples] for samples in sorted(psnr)]
    # Four times the samples halve the error, 6 dB, but for what the tone curve bends.
    assert all(3 < more - less < 9 for less, more in itertools.pairwise(values))
