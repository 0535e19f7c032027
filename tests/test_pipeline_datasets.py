import json

import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from pipeline.commands import evaluate as command
from pipeline.data.images import Image, from_float, to_float, write_image
from pipeline.errors import UserError
from pipeline.evaluation import contenders
from pipeline.evaluation.datasets import find_pairs, holds_pairs, spread
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.metrics import psnr_rgb_u8, ssim_gauss11_rgb
from pipeline.evaluation.summary import mean_of


def put(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, Image(pixels=pixels))


def scene(seed, shape=(24, 32, 3), noise=12):
    generator = np.random.default_rng(seed)
    ramp = np.linspace(60, 180, shape[1])[None, :, None] * np.ones(shape)
    noisy = ramp + generator.normal(0, noise, shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8), ramp.astype(np.uint8)


def make_pairs(folder, count=3, **kwargs):
    for index in range(count):
        noisy, clean = scene(index, **kwargs)
        put(folder / "noisy" / f"s{index}.png", noisy)
        put(folder / "clean" / f"s{index}.tif", clean)


def mean_of_rows(image):
    return np.broadcast_to(image.mean(axis=0, keepdims=True), image.shape).copy()


def test_pairs_match_by_stem_in_sub_folders_and_whatever_the_suffix(tmp_path):
    noisy, clean = scene(0)
    put(tmp_path / "noisy" / "a.png", noisy)
    put(tmp_path / "noisy" / "deep" / "b.c.png", noisy)
    put(tmp_path / "clean" / "a.tif", clean)
    put(tmp_path / "clean" / "deep" / "b.c.jpg", clean)
    found = find_pairs(tmp_path)
    assert found.layout == "pairs"
    assert [pair.name for pair in found.pairs] == ["a", "deep/b.c"]
    assert found.unpaired == []


@pytest.mark.parametrize(
    ("real", "mean"),
    [("x_real.JPG", "x_mean.JPG"), ("x_Real.jpg", "x_mean.JPG"), ("x_REAL.png", "x_Mean.png")],
)
def test_polyu_names_match_in_any_letter_case(tmp_path, real, mean):
    noisy, clean = scene(0)
    put(tmp_path / "crops" / real, noisy)
    put(tmp_path / "crops" / mean, clean)
    found = find_pairs(tmp_path)
    assert found.layout == "polyu"
    (pair,) = found.pairs
    assert (pair.name, pair.noisy.name, pair.clean.name) == ("crops/x", real, mean)


def test_sidd_trees_match_by_scene_and_shot(tmp_path):
    noisy, clean = scene(0)
    for name in (
        "0001_001_S6_00100_00060_3200_L/0001_{}_SRGB_010.PNG",
        "0002_001_S6_00100_00020_3200_N/{}_SRGB_011.PNG",
    ):
        put(tmp_path / "Data" / name.format("NOISY"), noisy)
        put(tmp_path / "Data" / name.format("GT"), clean)
    put(tmp_path / "Data" / "0003_x" / "0003_NOISY_SRGB_010.PNG", noisy)
    found = find_pairs(tmp_path)
    assert found.layout == "sidd"
    assert [(pair.name, pair.noisy.name, pair.clean.name) for pair in found.pairs] == [
        ("Data/0001_001_S6_00100_00060_3200_L/0001_010", "0001_NOISY_SRGB_010.PNG", "0001_GT_SRGB_010.PNG"),
        ("Data/0002_001_S6_00100_00020_3200_N/011", "NOISY_SRGB_011.PNG", "GT_SRGB_011.PNG"),
    ]
    assert [path.name for path in found.unpaired] == ["0003_NOISY_SRGB_010.PNG"]


def test_nind_pairs_each_noisy_iso_with_the_lowest_of_its_scene(tmp_path):
    noisy, clean = scene(0)
    for name in ("NIND_droid_ISO200", "NIND_droid_ISO200-1", "NIND_MuseeL-RGB_ISO250"):
        put(tmp_path / f"{name}.png", clean)
    for name in ("NIND_droid_ISO3200", "NIND_droid_ISO3200-2", "NIND_droid_ISOH1", "NIND_MuseeL-RGB_ISO1000"):
        put(tmp_path / f"{name}.jpg", noisy)
    found = find_pairs(tmp_path)
    assert found.layout == "nind"
    assert {pair.name: pair.clean.name for pair in found.pairs} == {
        "NIND_MuseeL-RGB_ISO1000": "NIND_MuseeL-RGB_ISO250.png",
        "NIND_droid_ISO3200": "NIND_droid_ISO200.png",
        "NIND_droid_ISO3200-2": "NIND_droid_ISO200.png",
        "NIND_droid_ISOH1": "NIND_droid_ISO200.png",
    }
    assert [path.name for path in found.unpaired] == ["NIND_droid_ISO200-1.png"]


def test_two_layouts_in_one_folder_need_a_word_but_noisy_and_clean_at_the_top_are_pairs(tmp_path):
    noisy, clean = scene(0)
    for name, pixels in (("x_real", noisy), ("x_mean", clean), ("a/noisy/y", noisy), ("a/clean/y", clean)):
        put(tmp_path / "both" / f"{name}.png", pixels)
    with pytest.raises(UserError, match="found 1 of polyu and 1 of pairs; choose with --layout"):
        find_pairs(tmp_path / "both")
    assert [pair.name for pair in find_pairs(tmp_path / "both", "pairs").pairs] == ["a/y"]
    for name in ("x_real", "x_mean"):
        put(tmp_path / "top" / "noisy" / f"{name}.png", noisy)
        put(tmp_path / "top" / "clean" / f"{name}.png", clean)
    assert [pair.name for pair in find_pairs(tmp_path / "top").pairs] == ["x_mean", "x_real"]


def test_photos_with_names_like_polyus_are_photos_for_a_report(tmp_path):
    noisy, clean = scene(0)
    put(tmp_path / "my_mean.png", clean)
    put(tmp_path / "so_real.png", noisy)
    put(tmp_path / "beach.png", noisy)
    assert not holds_pairs(tmp_path)
    put(tmp_path / "my_real.png", noisy)
    assert holds_pairs(tmp_path)


def test_pictures_without_a_partner_are_listed(tmp_path):
    make_pairs(tmp_path, 2)
    put(tmp_path / "noisy" / "alone.png", scene(0)[0])
    put(tmp_path / "clean" / "other.png", scene(0)[1])
    assert [path.name for path in find_pairs(tmp_path).unpaired] == ["alone.png", "other.png"]


def test_sizes_that_differ_are_one_line_with_both_names_and_sizes(tmp_path):
    make_pairs(tmp_path, 1)
    put(tmp_path / "clean" / "s0.tif", scene(0, (24, 31, 3))[1])
    with pytest.raises(UserError) as caught:
        find_pairs(tmp_path)
    for part in ("noisy/s0.png", "clean/s0.tif", "31x24", "32x24"):
        assert part in str(caught.value)


def test_grey_beside_colour_is_refused(tmp_path):
    make_pairs(tmp_path, 1)
    put(tmp_path / "clean" / "s0.tif", scene(0, (24, 32, 1))[1])
    with pytest.raises(UserError, match="channels"):
        find_pairs(tmp_path)


def test_two_candidates_for_one_name_are_refused(tmp_path):
    make_pairs(tmp_path, 1)
    put(tmp_path / "noisy" / "s0.jpg", scene(0)[0])
    with pytest.raises(UserError, match="expected one picture of this name"):
        find_pairs(tmp_path)


def test_what_is_no_data_set_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match=r"expected a folder .* found nothing there"):
        find_pairs(tmp_path / "no")
    with pytest.raises(UserError, match=r"expected pictures .* found none"):
        find_pairs(tmp_path)
    put(tmp_path / "a.png", scene(0)[0])
    with pytest.raises(UserError, match="found no such two sides"):
        find_pairs(tmp_path)
    with pytest.raises(UserError, match=r"\(pairs: noisy/ and clean/ with equal stems\), found no such two sides"):
        find_pairs(tmp_path, "pairs")
    with pytest.raises(UserError, match="expected one of auto, pairs, polyu, sidd, nind, blocks, found 'zip'"):
        find_pairs(tmp_path, "zip")
    put(tmp_path / "noisy" / "a.png", scene(0)[0])
    put(tmp_path / "clean" / "b.png", scene(0)[1])
    with pytest.raises(UserError, match="found none that match"):
        find_pairs(tmp_path)


def test_a_limit_takes_evenly_spaced_pairs():
    assert spread(list(range(10)), 3) == [0, 3, 6]
    assert spread(list(range(3)), 5) == [0, 1, 2]
    assert spread(list(range(3)), None) == [0, 1, 2]
    with pytest.raises(UserError, match="--limit"):
        spread([1, 2], 0)


def test_an_evaluation_is_the_mean_of_per_image_values(tmp_path):
    make_pairs(tmp_path)
    seen = []
    result = evaluate(mean_of_rows, tmp_path, baselines=(), on_progress=lambda *done: seen.append(done))
    rounded = [from_float(mean_of_rows(to_float(scene(i)[0])), np.uint8) for i in range(3)]
    psnr = [psnr_rgb_u8(rounded[i], scene(i)[1]) for i in range(3)]
    ssim = [ssim_gauss11_rgb(scene(i)[0], scene(i)[1]) for i in range(3)]
    assert mean_of(result, "ours", "psnr_rgb_u8") == pytest.approx(np.mean(psnr), abs=1e-6)
    assert mean_of(result, "noisy", "ssim_gauss11_rgb") == pytest.approx(np.mean(ssim), abs=1e-9)
    [one] = result["sets"]
    assert (one["layout"], one["n"], result["baselines"]) == ("pairs", 3, [])
    assert result["protocol"]["text"] == "full images, 8-bit rounding, mean of per-image values"
    assert [row["name"] for row in one["images"]] == ["s0", "s1", "s2"]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    json.dumps(result, allow_nan=False)


def test_the_result_does_not_depend_on_the_number_of_threads(tmp_path):
    make_pairs(tmp_path)

    def numbers(threads):
        result = evaluate(mean_of_rows, tmp_path, baselines=("tv",), threads=threads)
        rows = [image["methods"] for image in result["sets"][0]["images"]]
        return [
            [{key: value for key, value in row.items() if key != "seconds"} for row in methods.values()]
            for methods in rows
        ]

    assert numbers(1) == numbers(4)


def test_alpha_does_not_count_and_grey_works(tmp_path):
    noisy, clean = scene(0, (24, 32, 4))
    noisy[..., 3] = 0
    put(tmp_path / "a" / "noisy" / "x.png", noisy)
    put(tmp_path / "a" / "clean" / "x.png", clean)
    result = evaluate(mean_of_rows, tmp_path / "a", baselines=())
    assert mean_of(result, "noisy", "psnr_rgb_u8") == pytest.approx(psnr_rgb_u8(noisy[..., :3], clean[..., :3]))
    make_pairs(tmp_path / "b", 1, shape=(24, 32, 1))
    assert evaluate(mean_of_rows, tmp_path / "b", baselines=("tv",))["sets"][0]["n"] == 1


def test_a_damaged_picture_or_a_wrong_result_stops_the_evaluation(tmp_path):
    make_pairs(tmp_path, 2)
    with pytest.raises(UserError, match="no picture of the same size"):
        evaluate(lambda image: image[1:], tmp_path, baselines=())
    path = tmp_path / "noisy" / "s1.png"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"s1\.png: expected a whole image"):
        evaluate(mean_of_rows, tmp_path, baselines=())


def invoke(*args):
    app = Typer()
    app.command()(command.evaluate)
    return CliRunner().invoke(app, [str(arg) for arg in args])


def test_the_command_prints_one_json_object_and_writes_the_same(tmp_path, monkeypatch):
    make_pairs(tmp_path / "data")
    monkeypatch.setattr(contenders, "load_denoiser", lambda *_: mean_of_rows)
    out = tmp_path / "result.json"
    arguments = ("--model", "m", "--data", tmp_path / "data", "--baselines", "tv", "--limit", 2, "--out", out)
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer == json.loads(out.read_text())
    assert {"format", "protocol", "metrics", "definitions", "models", "baselines", "sets", "groups"} <= answer.keys()
    [one] = answer["sets"]
    assert (one["n"], one["available"]) == (2, 3)
    assert list(one["methods"]) == ["noisy", "tv", "m"]
    assert list(one["methods"]["m"]["metrics"]) == ["psnr_rgb_u8", "ssim_gauss11_rgb"]


def test_the_table_goes_to_stderr_and_names_the_metrics(tmp_path, monkeypatch):
    make_pairs(tmp_path)
    monkeypatch.setattr(contenders, "load_denoiser", lambda *_: mean_of_rows)
    result = invoke("--model", "m", "--data", tmp_path, "--baselines", "")
    assert result.stdout == ""
    assert "psnr_rgb_u8" in result.stderr
    assert "noisy input" in result.stderr
