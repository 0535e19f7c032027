import json

import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from noise.levels import Levels, LevelTable
from noise.spec_json import spec_from_dict
from pipeline.commands.inspect import inspect
from pipeline.data.folders import scan
from pipeline.data.images import Image, read_image, write_image
from pipeline.errors import UserError
from pipeline.evaluation.survey import camera_name, survey
from raw.dng import write_dng
from raw.raw_file import Shot

SHOT, READ = 2e-3, 2e-5


def write(path, sigma=8.0, shape=(160, 200, 3), dtype=np.uint8, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    white = np.iinfo(dtype).max
    values = 0.5 + generator.normal(0, sigma / 255, shape)
    write_image(path, Image(pixels=np.rint(np.clip(values, 0, 1) * white).astype(dtype)))


def invoke(*args):
    app = Typer()
    app.command()(inspect)
    return CliRunner().invoke(app, [str(arg) for arg in args])


def invoke_raising(*args):
    result = invoke(*args)
    assert result.exception is not None
    raise result.exception


def test_files_are_described_and_white_noise_is_measured(tmp_path):
    write(tmp_path / "a.png", sigma=8.0)
    write(tmp_path / "b.tif", sigma=12.0, dtype=np.uint16, shape=(150, 160, 1))
    first, second = survey(scan([tmp_path]))["files"]
    assert (first["width"], first["height"], first["channels"], first["bits"], first["format"]) == (
        200,
        160,
        3,
        8,
        "png",
    )
    assert (second["channels"], second["bits"], second["format"]) == (1, 16, "tiff")
    assert first["noise"]["sigma"] == pytest.approx([8.0] * 3, rel=0.1)
    assert second["noise"]["sigma"] == pytest.approx([12.0], rel=0.1)


def test_the_pooled_suggestion_for_white_noise_needs_no_stride(tmp_path):
    for index in range(3):
        write(tmp_path / f"{index}.png", sigma=10, seed=index)
    pooled = survey(scan([tmp_path]))["pooled"]
    assert pooled["sigma"] == pytest.approx(10, rel=0.1)
    assert abs(pooled["correlation"]) < 0.1
    assert (pooled["measured"], pooled["pd_stride"], pooled["mask_ratio"]) == (3, 1, 0.2)


def test_only_some_files_are_measured_and_small_ones_are_not(tmp_path):
    for index in range(6):
        write(tmp_path / f"{index}.png")
    result = survey(scan([tmp_path]), limit=2)
    assert [row["noise"] is not None for row in result["files"]] == [True, False, False, True, False, False]
    assert all(row["width"] == 200 for row in result["files"])
    write(tmp_path / "small" / "s.png", shape=(20, 20, 3))
    assert survey(scan([tmp_path / "small"]))["pooled"] is None


def test_the_command_prints_json_and_tells_some_from_all_failed(tmp_path):
    write(tmp_path / "a.png")
    assert invoke(tmp_path, "--json").exit_code == 0
    (tmp_path / "text.png").write_text("no picture")
    result = invoke(tmp_path, "--json")
    assert result.exit_code == 3
    answer = json.loads(result.stdout)
    assert (answer["n"], answer["failed"]) == (2, 1)
    assert "text" in answer["files"][1]["error"]
    assert invoke(tmp_path / "text.png", "--json").exit_code == 1


def test_the_table_goes_to_stderr_and_survives_markup_in_names(tmp_path):
    write(tmp_path / "[bold]a[/].png")
    result = invoke(tmp_path)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "suggested" in result.stderr


def clean_raw(side=384):
    """Linear levels of a sensor, in 16 even patches from near black to near white."""
    levels = np.linspace(0.005, 0.8, 16).reshape(4, 4)
    return np.repeat(np.repeat(levels, side // 4, 0), side // 4, 1)


def write_raw(path, clean=None, *, shot=SHOT, read=READ, iso=400.0, seed=0, **fields):
    """A 14-bit Bayer DNG with the noise of a sensor."""
    clean = clean_raw() if clean is None else clean
    noise = np.sqrt(shot * clean + read) * np.random.default_rng(seed).standard_normal(clean.shape)
    mosaic = np.rint((clean + noise) * (16383 - 1024) + 1024).clip(0, 16383).astype(np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    named = {"make": "Test", "model": "Test One"} | fields
    write_dng(path, mosaic, black_levels=(1024,) * 4, white_level=16383, shot=Shot(iso=iso), **named)


def test_a_raw_file_is_described_and_its_noise_line_found(tmp_path):
    write_raw(tmp_path / "a.dng", noise=((SHOT, READ),) * 3)
    result = survey(scan([tmp_path]))
    (row,) = result["files"]
    assert row["error"] is None
    assert row["format"] == "raw"
    facts = row["raw"]
    assert (facts["kind"], facts["cfa"], facts["bits"], facts["iso"]) == ("bayer", "RGGB", 14, 400)
    assert (facts["width"], facts["height"], facts["black"], facts["white"]) == (384, 384, [1024] * 4, 16383)
    assert facts["camera"] == "Test One"
    np.testing.assert_allclose(facts["noise_profile"], [[SHOT, READ]] * 3)
    noise = row["noise"]
    assert noise["shot"] == pytest.approx(SHOT, rel=0.05)
    assert noise["read"] == pytest.approx(READ, rel=0.2)
    assert noise["shot_interval"][0] < SHOT < noise["shot_interval"][1]
    assert [channel["name"] for channel in noise["channels"]] == ["R", "Gr", "Gb", "B"]
    assert {"shot", "read", "shot_interval", "read_interval", "method", "curve"} <= set(noise["channels"][0])
    # Demosaicing has spread the noise of the picture that a training sees; that of the sensor is white.
    assert row["correlation"]["horizontal"][0] > 0.2
    assert max(map(abs, facts["correlation"]["horizontal"])) < 0.1
    assert row["suggested"]["pd_stride"] >= 2
    pooled = result["pooled"]
    assert pooled["suggested"] == row["suggested"]
    assert pooled["noise"]["shot"] == noise["shot"]
    assert pooled["noise"]["read_told"] == 1


def test_display_images_keep_their_keys_and_gain_a_line(tmp_path):
    write(tmp_path / "a.png", sigma=8.0)
    (row,) = survey(scan([tmp_path]))["files"]
    assert row["raw"] is None
    assert row["noise"]["pd_stride"] == row["suggested"]["pd_stride"] == 1
    assert row["noise"]["horizontal"] == row["correlation"]["horizontal"]
    assert np.shape(row["correlation"]["channels"]) == (3, 3)
    assert [channel["name"] for channel in row["noise"]["channels"]] == ["R", "G", "B"]
    assert row["noise"]["shot"] is None  # one level only


def test_raw_files_tell_the_same_in_json_and_in_words(tmp_path):
    write_raw(tmp_path / "a.dng")
    answer = json.loads(invoke(tmp_path, "--json").stdout)
    text = invoke(tmp_path).stderr
    assert f"{answer['files'][0]['noise']['shot']:.2e}" in text
    assert "Bayer RGGB, 14 bits, Test One, ISO 400" in text
    assert "black 1024, white 16383" in text
    assert "suggested: method.pd_stride=" in text


def test_the_table_fits_eighty_columns_and_the_details_almost(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    names = [f"a_file_with_a_rather_long_name_{index}.dng" for index in range(4)]
    for name in names:
        write_raw(tmp_path / name, clean_raw(160))
    lines = invoke(tmp_path).stderr.splitlines()
    assert sum("DNG" in line or "dng" in line for line in lines) >= 4
    assert max(len(line) for line in lines if " measured, " not in line) <= 80
    alone = invoke(tmp_path / names[0]).stderr.splitlines()
    assert max(len(line) for line in alone if " measured, " not in line) <= 100


def test_an_undecodable_raw_is_one_line(tmp_path):
    write_raw(tmp_path / "good.dng")
    whole = (tmp_path / "good.dng").read_bytes()
    (tmp_path / "torn.dng").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "text.nef").write_text("no raw")
    result = invoke(tmp_path, "--json")
    assert result.exit_code == 3
    answer = json.loads(result.stdout)
    assert answer["failed"] == 2
    errors = [row["error"] for row in answer["files"] if row["error"]]
    assert len(errors) == 2
    assert all("\n" not in error for error in errors)


def test_the_picture_of_the_curves_is_drawn(tmp_path):
    write_raw(tmp_path / "in" / "a.dng")
    write(tmp_path / "in" / "b.png")
    result = invoke(tmp_path / "in", "--picture", tmp_path / "curves.png")
    assert result.exit_code == 0
    assert "noise curves of 2 files" in result.stderr
    pixels = read_image(tmp_path / "curves.png").pixels
    assert pixels.shape[0] > 300
    assert (pixels[..., :3] > 200).all(axis=2).mean() > 0.6  # light background
    coloured = np.ptp(pixels[..., :3].astype(int), axis=2) > 80
    assert coloured.sum() > 500


def test_levels_of_one_camera_are_saved_for_synth(tmp_path):
    for index, gain in enumerate((1, 2, 4)):
        write_raw(tmp_path / "in" / f"{index}.dng", shot=SHOT * gain, read=READ * gain**2, iso=100.0 * gain, seed=index)
    saved = tmp_path / "levels.json"
    result = invoke(tmp_path / "in", "--save-levels", saved)
    assert result.exit_code == 0
    assert "a table of 3 gains" in result.stderr
    levels = spec_from_dict(Levels, json.loads(saved.read_text()))
    assert isinstance(levels, LevelTable)
    expected = [(SHOT * gain, READ * gain**2) for gain in (1, 2, 4)]
    np.testing.assert_allclose(levels.points, expected, rtol=0.25)


def test_levels_need_raw_files_of_one_camera(tmp_path):
    write(tmp_path / "png" / "a.png")
    with pytest.raises(UserError, match="expected raw files of one camera, found none"):
        invoke_raising(tmp_path / "png", "--save-levels", tmp_path / "x.json")
    write_raw(tmp_path / "two" / "a.dng")
    write_raw(tmp_path / "two" / "b.dng", model="Test Two")
    with pytest.raises(UserError, match="expected one camera, found Test One, Test Two"):
        invoke_raising(tmp_path / "two", "--save-levels", tmp_path / "x.json")
    assert not (tmp_path / "x.json").exists()


def test_a_flat_pair_tells_the_line_of_every_channel(tmp_path):
    clean = np.broadcast_to(np.linspace(0.002, 0.9, 640), (480, 640))
    for index in range(2):
        write_raw(tmp_path / f"{index}.dng", clean, seed=index)
    result = invoke(tmp_path / "0.dng", tmp_path / "1.dng", "--flat-pair", "--json", "--picture", tmp_path / "p.png")
    assert result.exit_code == 0
    noise = json.loads(result.stdout)["noise"]
    assert noise["method"] == "flat pair"
    assert noise["shot"] == pytest.approx(SHOT, rel=0.03)
    low, high = noise["read_interval"]
    assert low - (high - low) / 2 < READ < high + (high - low) / 2  # one seed, half of the width to spare
    assert [channel["name"] for channel in noise["channels"]] == ["R", "Gr", "Gb", "B"]
    assert (tmp_path / "p.png").exists()


@pytest.mark.parametrize("names", [["0.dng"], ["0.dng", "wide.dng"], ["0.dng", "a.png"]])
def test_flat_pairs_that_do_not_fit_are_refused(tmp_path, names):
    write_raw(tmp_path / "0.dng")
    write_raw(tmp_path / "wide.dng", np.full((384, 400), 0.5))
    write(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"expected two files|expected 4 planes"):
        invoke_raising(*(tmp_path / name for name in names), "--flat-pair")


def test_a_camera_is_named_once():
    assert camera_name("Canon", "Canon EOS 6D") == "Canon EOS 6D"
    assert camera_name("LG Mobile", "LG-H815") == "LG-H815"
    assert camera_name("Nikon", "D850") == "Nikon D850"
    assert camera_name("", "D850") == "D850"
    assert camera_name("", "") == ""


def test_of_a_data_set_the_noisy_side_is_measured_and_clean_images_where_they_are_named(tmp_path):
    for index in range(2):
        write(tmp_path / "noisy" / f"{index}.png", sigma=10, seed=index)
        write(tmp_path / "clean" / f"{index}.png", sigma=0.1)
    result = invoke(tmp_path, "--json")
    answer = json.loads(result.stdout)
    assert answer["n"] == 2
    assert answer["pooled"]["sigma"] == pytest.approx(10, rel=0.1)
    assert "2 clean images beside 2 noisy ones: left out" in result.stderr
    assert json.loads(invoke(tmp_path / "clean", "--json").stdout)["n"] == 2
    one_by_one = invoke(tmp_path / "clean" / "0.png", tmp_path / "noisy" / "0.png", "--json")
    assert json.loads(one_by_one.stdout)["n"] == 2
