import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from pipeline.commands.synth import synth
from pipeline.data.images import Image, read_image, write_image
from pipeline.data.synth_files import find_clean, synthesise
from pipeline.data.synth_pairs import pair_seed
from pipeline.data.synth_recipes import OFFERS, make_recipe
from pipeline.errors import RunError, UserError
from pipeline.evaluation.datasets import find_pairs
from pipeline.evaluation.metrics import psnr_rgb_u8

ROOT = Path(__file__).parents[1]


def write(path, shape=(48, 50, 3), dtype=np.uint8, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0.3 * np.iinfo(dtype).max, 0.6 * np.iinfo(dtype).max, shape, dtype=dtype)
    write_image(path, Image(pixels=pixels))
    return pixels


def run(source, out, recipe="gaussian", level=None, seed=0, limit=None, **options):
    return synthesise(find_clean(source, out, limit), out, make_recipe(recipe, level), seed, **options)


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_pairs_have_equal_names_and_the_noise_has_the_asked_level(tmp_path):
    pixels = write(tmp_path / "in" / "deep" / "a.b.png", (200, 200, 3))
    run(tmp_path / "in", tmp_path / "out", level="20")
    noisy = read_image(tmp_path / "out" / "noisy" / "deep" / "a.b.png").pixels.astype(float)
    clean = read_image(tmp_path / "out" / "clean" / "deep" / "a.b.png").pixels
    assert np.array_equal(clean, pixels)
    # sd of a sample standard deviation of n normals is sigma / sqrt(2 n); 5 sd, plus rounding to 8 bits
    assert np.std(noisy - clean) == pytest.approx(np.sqrt(400 + 1 / 12), rel=5 / np.sqrt(2 * noisy.size))


@pytest.mark.parametrize("recipe", [name for name in OFFERS if name not in ("monte_carlo", "sequence", "choice")])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path, recipe):
    write(tmp_path / "in" / "a.png")
    for name, seed in (("one", 7), ("two", 7), ("other", 8)):
        run(tmp_path / "in", tmp_path / name, recipe, seed=seed)
    one, two, other = (contents(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert one["noisy/a.png"] != other["noisy/a.png"]


def test_a_pair_does_not_depend_on_the_other_files(tmp_path):
    write(tmp_path / "all" / "a.png", seed=1)
    write(tmp_path / "all" / "b.png", seed=2)
    write(tmp_path / "alone" / "b.png", seed=2)
    run(tmp_path / "all", tmp_path / "out1", "camera")
    run(tmp_path / "alone", tmp_path / "out2", "camera")
    assert contents(tmp_path / "out1")["noisy/b.png"] == contents(tmp_path / "out2")["noisy/b.png"]
    assert contents(tmp_path / "out1")["noisy/a.png"] != contents(tmp_path / "out1")["noisy/b.png"]


def test_the_manifest_reproduces_every_pair(tmp_path):
    import torch

    from noise.recipe import reproduce
    from pipeline.data.images import from_float, to_float

    write(tmp_path / "in" / "a.png")
    run(tmp_path / "in", tmp_path / "out", "camera", level="0.001,0.01", seed=3)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    (row,) = manifest["files"]
    assert (manifest["seed"], manifest["recipe"]["kind"]) == (3, "camera")
    assert 0.001 <= row["parameters"]["shot"] <= 0.01
    for part in ("noisy", "clean"):
        data = (tmp_path / "out" / part / row["name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == row[f"{part}_sha256"]
    image = torch.from_numpy(to_float(read_image(tmp_path / "in" / row["source"]).pixels).transpose(2, 0, 1).copy())
    again = reproduce(image, row["parameters"]).noisy.numpy().transpose(1, 2, 0)
    stored = read_image(tmp_path / "out" / "noisy" / row["name"]).pixels
    assert np.array_equal(from_float(again, np.uint8), stored)


def test_depth_follows_the_source_and_grey_and_alpha_are_handled(tmp_path):
    write(tmp_path / "in" / "deep.tif", dtype=np.uint16)
    write(tmp_path / "in" / "grey.png", (48, 50, 1))
    write(tmp_path / "in" / "rgba.png", (48, 50, 4))
    run(tmp_path / "in", tmp_path / "camera", "camera")
    run(tmp_path / "in", tmp_path / "gaussian", "gaussian")
    assert read_image(tmp_path / "camera" / "noisy" / "deep.png").pixels.dtype == np.uint16
    shapes = {
        kind: [read_image(tmp_path / kind / "noisy" / f"{n}.png").pixels.shape[2] for n in ("grey", "rgba")]
        for kind in ("camera", "gaussian")
    }
    assert shapes == {"camera": [3, 3], "gaussian": [1, 3]}


def test_names_that_would_meet_keep_their_suffix(tmp_path):
    write(tmp_path / "in" / "a.png")
    write(tmp_path / "in" / "a.jpg")
    run(tmp_path / "in", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out" / "noisy").iterdir()) == ["a.jpg.png", "a.png.png"]


def test_a_bad_file_is_listed_and_the_rest_goes_on(tmp_path):
    write(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "text.png").write_text("no picture")
    result = run(tmp_path / "in", tmp_path / "out")
    assert (result["ok"], result["failed"]) == (1, 1)
    assert result["failures"][0]["source"] == "text.png"


def test_existing_pairs_and_a_source_inside_the_output_are_refused(tmp_path):
    write(tmp_path / "in" / "a.png")
    run(tmp_path / "in", tmp_path / "out")
    with pytest.raises(UserError, match="new or an empty folder"):
        find_clean(tmp_path / "in", tmp_path / "out", None)
    assert find_clean(tmp_path / "in", tmp_path / "out", None, overwrite=True)
    with pytest.raises(UserError, match="apart from the source"):
        find_clean(tmp_path / "in", tmp_path, None)
    # Inside the source is fine: the results are not taken for sources.
    run(tmp_path / "in", tmp_path / "in" / "out")
    assert len(find_clean(tmp_path / "in", tmp_path / "in" / "out", None, overwrite=True)) == 1


def test_seeds_differ_by_name_and_seed_and_are_stable():
    seeds = {pair_seed(seed, Path(name)) for seed in (0, 1) for name in ("a", "b", "0", "1a")}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert pair_seed(0, Path("a")) == int(hashlib.sha256(b"0\0a").hexdigest()[:16], 16) >> 1


def test_the_command_prints_one_json_object(tmp_path):
    write(tmp_path / "in" / "a.png")
    write(tmp_path / "in" / "b.png")
    app = Typer()
    app.command()(synth)
    arguments = [
        str(tmp_path / "in"),
        str(tmp_path / "out"),
        "--recipe",
        "gaussian",
        "--level",
        "5,25",
        "--seed",
        "1",
    ]
    result = CliRunner().invoke(app, [*arguments, "--limit", "1", "--json"])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert (answer["ok"], answer["failed"], len(answer["files"])) == (1, 0, 1)
    assert 5 <= answer["files"][0]["parameters"]["sigma"] <= 25


def test_the_bytes_do_not_depend_on_the_number_of_processes(tmp_path):
    for index in range(5):
        write(tmp_path / "in" / f"{index}.png", (40 + index, 50, 3), seed=index)
    (tmp_path / "in" / "bad.png").write_text("no picture")
    results = [run(tmp_path / "in", tmp_path / f"out{n}", "camera", seed=4, workers=n) for n in (1, 2, 3)]
    one, *others = (contents(tmp_path / f"out{n}") for n in (1, 2, 3))
    assert {"manifest.json", "contact_sheet.png", "noisy/0.png", "clean/4.png"} <= set(one)
    assert all(other == one for other in others)
    assert [(result["ok"], result["failed"]) for result in results] == [(5, 1)] * 3


def test_one_process_works_on_one_thread_like_many(tmp_path):
    import torch

    write(tmp_path / "in" / "a.png")
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        run(tmp_path / "in", tmp_path / "out", on_progress=lambda: seen.append(torch.get_num_threads()))
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


def test_half_a_pair_is_removed(tmp_path, monkeypatch):
    import pipeline.data.synth_pairs as module

    real = module.write_image

    def write_noisy_only(path, image):
        if "clean" in path.parts:
            raise OSError(errno.EIO, "Input/output error", str(path))
        real(path, image)

    write(tmp_path / "in" / "a.png")
    monkeypatch.setattr(module, "write_image", write_noisy_only)
    result = run(tmp_path / "in", tmp_path / "out")
    assert (result["ok"], result["failed"]) == (0, 1)
    assert "Input/output error" in result["failures"][0]["error"]
    assert set(contents(tmp_path / "out")) == {"manifest.json"}


def test_the_manifest_holds_the_input_psnr_of_every_pair_and_their_mean(tmp_path):
    write(tmp_path / "in" / "a.png", seed=1)
    write(tmp_path / "in" / "b.png", seed=2)
    result = run(tmp_path / "in", tmp_path / "out", "poisson", "1,3")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    found = []
    for row in manifest["files"]:
        noisy, clean = (read_image(tmp_path / "out" / part / row["name"]).pixels for part in ("noisy", "clean"))
        found.append(psnr_rgb_u8(noisy, clean))
        assert row["psnr_rgb_u8"] == pytest.approx(found[-1], abs=1e-4)
        assert row["source_sha256"] == hashlib.sha256((tmp_path / "in" / row["source"]).read_bytes()).hexdigest()
    assert manifest["psnr_rgb_u8"] == result["psnr_rgb_u8"] == pytest.approx(np.mean(found), abs=1e-4)
    assert set(manifest["versions"]) == {"unveil", "torch", "numpy"}


def test_equal_pairs_have_no_psnr_and_the_manifest_stays_json(tmp_path):
    write(tmp_path / "in" / "a.png")
    result = run(tmp_path / "in", tmp_path / "out", level="0")
    assert result["files"][0]["psnr_rgb_u8"] is None
    assert result["psnr_rgb_u8"] is None
    assert (tmp_path / "out" / "contact_sheet.png").is_file()


def test_what_synth_writes_is_a_set_of_pairs_to_evaluate(tmp_path):
    write(tmp_path / "in" / "a.png")
    write(tmp_path / "in" / "deep" / "b.png")
    run(tmp_path / "in", tmp_path / "out")
    found = find_pairs(tmp_path / "out")
    assert [pair.name for pair in found.pairs] == ["a", "deep/b"]
    assert found.unpaired == []


def test_the_contact_sheet_shows_noisy_clean_and_difference(tmp_path):
    for index in range(9):
        write(tmp_path / "in" / f"{index}.png", (64, 64, 3), seed=index)
    run(tmp_path / "in", tmp_path / "out", "salt_pepper", "0.3")
    sheet = read_image(tmp_path / "out" / "contact_sheet.png").pixels
    assert sheet.shape == (22 + 6 * (64 + 22 + 6) - 6, 3 * (64 + 6) - 6, 3)
    noisy, clean, difference = (sheet[44 : 44 + 64, left : left + 64] for left in (0, 70, 140))
    assert np.array_equal(noisy, read_image(tmp_path / "out" / "noisy" / "0.png").pixels)
    assert np.array_equal(clean, read_image(tmp_path / "out" / "clean" / "0.png").pixels)
    assert np.all(np.abs(difference[noisy == clean].astype(int) - 128) <= 1)
    assert np.all(difference[noisy == 255] > 128)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 40, 1), (7, 3, 4)])
@pytest.mark.parametrize("recipe", ["gaussian", "camera", "spatial"])
def test_tiny_pictures_are_fine(tmp_path, shape, recipe):
    write(tmp_path / "in" / "a.png", shape)
    assert run(tmp_path / "in", tmp_path / "out", recipe)["ok"] == 1


def test_a_process_that_dies_is_one_failed_file(tmp_path):
    import psutil

    for index in range(8):
        write(tmp_path / "in" / f"{index}.png", (600, 600, 3), seed=index)
    victims = []

    def kill_one():
        if not victims:
            children = [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
            # The one that has just answered may wait for its next task; the other is at work.
            victims.extend(children)
            for child in children:
                child.kill()

    result = run(tmp_path / "in", tmp_path / "out", "camera", workers=2, on_progress=kill_one)
    assert len(victims) == 2
    assert result["ok"] + result["failed"] == 8
    assert 1 <= result["failed"] <= 2
    assert all("the process that made it was ended by SIGKILL" in row["error"] for row in result["failures"])
    lost = {Path(row["source"]).name for row in result["failures"]}
    kept = {f"{index}.png" for index in range(8)} - lost
    for part in ("noisy", "clean"):
        assert {path.name for path in (tmp_path / "out" / part).iterdir()} == kept


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_leaves_whole_pairs_and_a_manifest_of_them(tmp_path, workers):
    for index in range(30):
        write(tmp_path / "in" / f"{index:02}.png", (500, 500, 3), seed=index)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pipeline", "synth", tmp_path / "in", out, "--recipe", "camera", "--seed", "1"]
    # Tests that run in the background of a shell ignore Ctrl-C, and so would their children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*map(str, command), "--workers", str(workers)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    signal.signal(signal.SIGINT, before)
    try:
        deadline = time.monotonic() + 120
        while len(list((out / "clean").glob("*.png"))) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    manifest = json.loads((out / "manifest.json").read_text())
    names = {row["name"] for row in manifest["files"]}
    assert 1 <= len(names) < 30
    assert manifest["unfinished"] == 30 - len(names)
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert files == {"manifest.json", *(f"{part}/{name}" for part in ("noisy", "clean") for name in names)}


def test_a_full_disk_ends_the_run_with_one_line(tmp_path, monkeypatch):
    write(tmp_path / "in" / "a.png")
    write(tmp_path / "in" / "b.png")

    def full(path, image):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("pipeline.data.synth_pairs.write_image", full)
    with pytest.raises(RunError, match="cannot write: No space left on device; the rest was not tried"):
        run(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("camera", {}),
        ("camera", {"camera": "pixel"}),
        ("camera", {"settings": ["sensor.bits=12", "sensor.black=256", "pattern=GBRG"]}),
        ("eld", {"camera": "D850"}),
    ],
)
def test_dng_pairs_hold_the_raws_behind_the_pictures(tmp_path, recipe, options):
    import torch

    from noise.raw_pair import raw_pair
    from raw.files import read_raw
    from raw.levels import normalise

    pixels = write(tmp_path / "in" / "a.png", (64, 66, 3))
    files = find_clean(tmp_path / "in", tmp_path / "out", None)
    made = make_recipe(recipe, **options)
    result = synthesise(files, tmp_path / "out", made, 5, format="dng")
    assert result["failures"] == []
    parameters = result["files"][0]["parameters"]
    pair = raw_pair(torch.from_numpy(pixels.transpose(2, 0, 1).copy()), parameters)
    for part, packed in (("noisy", pair.noisy), ("clean", pair.clean)):
        raw = read_raw(tmp_path / "out" / part / "a.dng")
        assert raw.pattern == parameters["pattern"]
        assert raw.black_levels == (pair.black,) * 4
        assert raw.white_level == pair.white
        step = 1 / (pair.white - pair.black)
        expected = packed.numpy().clip(-pair.black * step, 1)
        np.testing.assert_allclose(normalise(raw.mosaic, raw), expected, rtol=0, atol=0.51 * step)
        gains = np.array(raw.white_balance[:3]) / raw.white_balance[1]
        np.testing.assert_allclose(gains, [parameters["red_gain"], 1, parameters["blue_gain"]], rtol=1e-4)
        np.testing.assert_allclose(raw.rgb_cam, pair.camera.cam2rgb.numpy(), atol=2e-3)
    profile = read_raw(tmp_path / "out" / "noisy" / "a.dng").noise_profile
    assert profile is not None
    for shot, read in profile:
        assert shot == pytest.approx(pair.level.shot)
        assert read == pytest.approx(pair.level.read)
    if recipe == "camera":
        assert (pair.level.shot, pair.level.read) == (parameters["shot"], parameters["read"])


def test_the_noise_profile_of_a_dark_exposure_is_the_variance_it_has():
    import torch

    from noise import EldNoise
    from noise.raw_pair import raw_pair

    parameters = EldNoise(camera="A7S2", ratio=(100.0, 100.0)).draw(torch.Generator().manual_seed(1))
    clean = torch.full((3, 700, 700), 200, dtype=torch.uint8)
    pair = raw_pair(clean, parameters)
    for noisy, light in zip(pair.noisy, pair.clean / 100, strict=True):
        variance = (noisy - light).double().var().item()
        want = pair.level.shot * light.double().mean().item() + pair.level.read
        # Row offsets are 350 numbers, so their part is known to 5 sqrt(2 / 350); 10 % covers it and the rest.
        assert variance == pytest.approx(want, rel=0.1)


@pytest.mark.parametrize(("quantise", "share"), [(True, 1 / 12), (False, 0.0)])
def test_the_noise_profile_counts_rounding(quantise, share):
    """With read noise of half a step, rounding is a quarter of the variance."""
    import torch

    from noise import EldNoise
    from noise.raw_pair import raw_pair

    parameters = EldNoise(camera="A7S2", read="gaussian", rows=False, quantise=quantise).draw(
        torch.Generator().manual_seed(1)
    )
    parameters["exposure"]["read_scale"] = 0.5
    pair = raw_pair(torch.zeros((3, 400, 400), dtype=torch.uint8), parameters)
    assert pair.level.read * 15583**2 == pytest.approx(0.25 + share, rel=1e-6)
    assert pair.noisy.double().var().item() * 15583**2 == pytest.approx(0.25 + share, rel=0.03)


def test_dng_is_for_noise_that_has_a_raw(tmp_path):
    write(tmp_path / "in" / "a.png")
    with pytest.raises(UserError, match=r"--format dng: expected --recipe camera, isp or eld, .* found gaussian"):
        run(tmp_path / "in", tmp_path / "out", format="dng")
    with pytest.raises(UserError, match="--format: expected one of png, dng, found 'tiff'"):
        run(tmp_path / "in", tmp_path / "out", format="tiff")
    with pytest.raises(UserError, match="--workers: expected at least 1, found 0"):
        run(tmp_path / "in", tmp_path / "out", workers=0)


@pytest.mark.parametrize("arguments", [["--list"], ["--recipe", "list"]])
def test_the_list_names_every_recipe_and_needs_nothing_else(arguments):
    app = Typer()
    app.command()(synth)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert all(name in result.output for name in OFFERS)


def test_a_manifest_is_a_recipe_for_the_same_set(tmp_path, unveil):
    write(tmp_path / "in" / "a.png")
    options = ["--seed", 3, "--camera", "lg_g4", "--set", "jpeg=[70, 90]", "--set", "rendering.demosaic=malvar"]
    code, first, _ = unveil("synth", tmp_path / "in", tmp_path / "one", "--recipe", "isp", *options, "--json")
    assert code == 0
    manifest = tmp_path / "one" / "manifest.json"
    unveil("synth", tmp_path / "in", tmp_path / "two", "--recipe", manifest, "--seed", 3)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert first["files"][0]["parameters"]["jpeg"] >= 70
