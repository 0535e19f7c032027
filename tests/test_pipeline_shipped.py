"""Models that come with the program: found by name, held against their hash, written by the maintainer's tool."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models import InferenceSpec, UNetSpec, save
from models.build import build
from pipeline.errors import UserError
from pipeline.inference import shipped
from pipeline.inference.denoiser import find_weights, load_denoiser
from tests.benchmarks.ship_model import MOST_PARAMETERS, ship, without_paths

TINY = UNetSpec(width=4, depth=1)
FACTS = """
command = ["unveil train --preset phone --data clean --out runs/tiny"]
seeds = [3]
[[data]]
name = "nothing"
licence = "CC0, ours"
use = "training"
"""


def weights(folder: Path, *, spec: UNetSpec = TINY, **card: object) -> Path:
    config = {"data": {"path": "/home/me/photos"}, "seed": 3}
    save(
        folder,
        build(spec, seed=3),
        spec=spec,
        inference=InferenceSpec(),
        card={"config": config, "data": {"path": "/home/me/photos", "images": 2}, **card},
    )
    return folder


def shipping(tmp_path: Path, name: str = "default", facts: str = FACTS, text: str = "# Tiny\n", **card: object) -> Path:
    weights(tmp_path / "run" / "weights", **card)
    (tmp_path / "card.md").write_text(text)
    (tmp_path / "facts.toml").write_text(facts)
    return ship(str(tmp_path / "run"), name, tmp_path / "card.md", tmp_path / "facts.toml", folder=tmp_path / "shipped")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An installation with a tiny model for pictures."""
    folder = shipping(tmp_path)
    monkeypatch.setattr(shipped, "FOLDER", folder.parent)
    return folder


def test_the_tool_ships_the_very_weights_without_a_path_of_the_machine(tmp_path):
    folder = shipping(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "model.json",
        "model.safetensors",
        "test.safetensors",
    ]
    source = tmp_path / "run" / "weights" / "model.safetensors"
    assert (folder / "model.safetensors").read_bytes() == source.read_bytes()
    document = json.loads((folder / "model.json").read_text())
    assert document["card"]["shipped"]["seeds"] == [3]
    assert document["card"]["config"]["data"]["path"] == "photos"
    assert document["card"]["data"]["licence"] == "nothing: CC0, ours"
    assert "/home/me" not in (folder / "model.json").read_text()
    text = (folder / "README.md").read_text()
    assert text.startswith("# Tiny\n")
    assert document["sha256"] in text
    assert "unveil train --preset phone" in text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"facts": FACTS.replace("seeds = [3]", "")}, "seeds: expected a list"),
        ({"facts": FACTS.replace('licence = "CC0, ours"', "")}, "expected name, licence and use"),
        ({"facts": "colour = 1\n" + FACTS}, "colour: unknown key"),
        ({"text": "made from /home/me/photos"}, "no path of this machine"),
        ({"name": "default-raw"}, "expected default-raw for raw files"),
        ({"domain": "raw"}, "found default for raw"),
    ],
)
def test_the_tool_refuses_what_must_not_be_shipped(tmp_path, change, reason):
    with pytest.raises(UserError, match=reason):
        shipping(tmp_path, **change)
    assert not (tmp_path / "shipped").exists()


def test_paths_are_taken_out_wherever_they_stand_and_addresses_stay():
    value = {"a": ["/root/x/y.png", "in '/tmp/pt/runs/a', and ~/b/c"], "b": "https://a.org/b/c", "c": "1/2 of 3"}
    assert without_paths(value) == {"a": ["y.png", "in 'a', and c"], "b": "https://a.org/b/c", "c": "1/2 of 3"}


def test_a_damaged_or_absent_model_is_said_in_one_line(installed, monkeypatch):
    file = installed / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match=r"sha256 differs from the one in model\.json; the file was changed or damaged"):
        load_denoiser("default", "cpu")
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 3\n")
    with pytest.raises(UserError, match=r"a pointer of Git LFS, not the weights; run `git lfs pull`"):
        load_denoiser("default", "cpu")
    shutil.rmtree(installed)
    with pytest.raises(UserError, match=r"found none in this installation \(it has no model\); give --model"):
        find_weights("default")


def test_the_name_means_the_shipped_model_and_a_folder_of_that_name_is_reached_by_its_path(
    installed, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    weights(tmp_path / "default")
    assert find_weights("default") == installed
    assert find_weights("./default") == Path("default")
    assert shipped.reference_of(find_weights("default")) == "default"
    assert shipped.reference_of(find_weights("./default")) == str(tmp_path / "default")


def picture(path: Path, side: int = 64) -> Path:
    from PIL import Image
    from skimage import data

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(data.astronaut()[:side, : side + 16]).save(path)
    return path


def test_without_a_model_pictures_get_the_default_and_the_first_line_says_so(installed, tmp_path, unveil):
    picture(tmp_path / "in" / "a.png")
    code, _, told = unveil("denoise", tmp_path / "in", "--out", tmp_path / "out")
    assert code == 0, told
    first = told.splitlines()[0]
    assert first.startswith("model: default (comes with unveil), a unet of ")
    assert first.endswith("for 1 file; chosen by default, --model takes another")
    code, named, told = unveil("denoise", tmp_path / "in", "--model", "default", "--out", tmp_path / "named", "--json")
    assert code == 0, told
    assert (tmp_path / "named" / "a.png").read_bytes() == (tmp_path / "out" / "a.png").read_bytes()
    (model,) = named["models"]
    assert (model["model"], model["shipped"], model["chosen_by_default"]) == ("default", True, False)
    assert model["sha256"] == named_hash(installed)


def named_hash(folder: Path) -> str:
    return str(json.loads((folder / "model.json").read_text())["sha256"])


def test_without_shipped_weights_the_call_ends_in_one_line(tmp_path, monkeypatch, unveil):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "nothing")
    code, _, told = unveil("denoise", picture(tmp_path / "a.png"), "--out", tmp_path / "out")
    assert code == 2
    assert told.count("\n") == 1
    assert "default: expected the model that comes with unveil, found none" in told
    assert not (tmp_path / "out").exists()


def raw_model(tmp_path: Path) -> Path:
    """Ship a network for raw files beside that for pictures."""
    spec = UNetSpec(width=4, depth=1, channels=4)
    network = build(spec, seed=0)
    raw = {"curve": "linear", "cameras": [], "shot": [1e-5, 1e-2], "read": [1e-8, 1e-4]}
    folder = tmp_path / "raw" / "weights"
    save(folder, network, spec=spec, inference=InferenceSpec(), card={"domain": "raw", "raw": raw})
    return ship(str(folder), "default-raw", tmp_path / "card.md", tmp_path / "facts.toml", folder=tmp_path / "shipped")


def test_a_mixed_folder_goes_to_two_models_and_comes_back_as_one_summary(installed, tmp_path, unveil):
    from raw.dng import write_dng

    picture(tmp_path / "in" / "b.png")
    mosaic = np.random.default_rng(0).integers(200, 600, (96, 128), dtype=np.uint16)
    write_dng(tmp_path / "in" / "a.dng", mosaic, white_level=1023)
    # Only the model for pictures is shipped: the raw file is developed.
    code, found, told = unveil("denoise", tmp_path / "in", "--out", tmp_path / "one", "--json")
    assert code == 0, told
    assert [Path(file["output"]).name for file in found["files"]] == ["a.tif", "b.png"]
    assert [(one["model"], one["files"]) for one in found["models"]] == [("default", 2)]
    raw_model(tmp_path)
    code, found, told = unveil("denoise", tmp_path / "in", "--out", tmp_path / "two", "--offset", "level", "--json")
    assert code == 0, told
    assert [Path(file["output"]).name for file in found["files"]] == ["a.dng", "b.png"]
    assert [(one["model"], one["files"]) for one in found["models"]] == [("default", 1), ("default-raw", 1)]
    assert all(one["chosen_by_default"] for one in found["models"])
    code, found, _ = unveil(
        "denoise", tmp_path / "in", "--out", tmp_path / "two", "--offset", "level", "--skip-existing", "--json"
    )
    assert (code, found["ok"], found["skipped"]) == (0, 0, 2)
    code, found, _ = unveil("denoise", tmp_path / "in", "--out", tmp_path / "three", "--dry-run", "--json")
    assert (code, found["write"]) == (0, 2)
    picture(tmp_path / "in" / "a.png")
    code, _, told = unveil("denoise", tmp_path / "in", "--out", tmp_path / "four", "--format", "png")
    assert code == 2
    assert "expected an output of its own" in told


@pytest.mark.parametrize(("offset", "expected"), [("level", True), ("keep", False)])
def test_a_model_shipped_with_level_leaves_no_cast(tmp_path, monkeypatch, unveil, offset, expected):
    """A network that does nothing but add a cast: the written file has it, or it is within the promised 1/255."""
    import imageio.v3 as iio
    import torch

    network = build(replace(TINY, residual=True), seed=0)
    with torch.no_grad():
        for value in network.parameters():
            value.zero_()
        network.head.bias.copy_(torch.tensor([0.04, 0.0, -0.03]))
    spec = replace(TINY, residual=True)
    save(tmp_path / "w", network, spec=spec, inference=InferenceSpec(), card={})
    (tmp_path / "card.md").write_text("# Cast\n")
    (tmp_path / "facts.toml").write_text(FACTS)
    folder = tmp_path / "shipped"
    ship(
        str(tmp_path / "w"),
        "default",
        tmp_path / "card.md",
        tmp_path / "facts.toml",
        offset=offset,
        folder=folder,
    )
    monkeypatch.setattr(shipped, "FOLDER", folder)
    photo = picture(tmp_path / "a.png", 160)
    code, found, told = unveil("denoise", photo, "--out", tmp_path / "out", "--json")
    assert code == 0, told
    assert found["files"][0]["offset"]["visible"]
    assert found["files"][0]["offset"]["corrected"] is expected
    before, after = (iio.imread(path).astype(np.float64) for path in (photo, tmp_path / "out" / "a.png"))
    drift = np.abs((after - before).mean(axis=(0, 1)))
    assert bool(drift.max() < 1) is expected
    if not expected:
        assert drift.max() > 7


def test_the_list_marks_what_comes_with_unveil_and_needs_no_store(installed, tmp_path, monkeypatch, unveil):
    code, found, told = unveil("models", "list", "--json")
    assert code == 0, told
    (row,) = [row for row in found["models"] if row["shipped"]]
    assert (row["model"], row["shipped"], row["default"], row["domain"]) == ("default", True, True, "display")
    assert row["facts"]["command"] == ["unveil train --preset phone --data clean --out runs/tiny"]
    monkeypatch.setenv("UNVEIL_OFFLINE", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody answers there
    code, _, told = unveil("models", "list")
    assert code == 0, told
    assert told.startswith("default: comes with unveil, used for pictures without --model; unet,")
    assert "note: UNVEIL_OFFLINE is set" in told


def test_other_commands_know_the_name(installed, tmp_path, unveil):
    code, _, told = unveil("models", "show", "default", "--no-measure")
    assert code == 0, told
    assert "# Tiny" in told
    assert "unveil train --preset phone --data clean" in told
    code, found, told = unveil("models", "verify", "default", "--json")
    assert code == 0, told
    assert found["checks"][-1]["found"].startswith("the same bytes")
    code, _, told = unveil("evaluate", "--model", "default", "--data", tmp_path, "--record")
    assert code == 2
    assert "models that come with unveil do not change" in told


@pytest.mark.slow
def test_a_wheel_has_the_models_and_denoises_where_nothing_can_be_written(tmp_path):
    """The package as it is installed, from a built wheel, in a folder of its own, which stays as it was."""
    import os
    import subprocess
    import sys
    import zipfile

    root = Path(__file__).resolve().parent.parent
    source = tmp_path / "source"
    for package in ("raw", "noise", "models", "pipeline", "tuning"):
        shutil.copytree(root / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(root / name, source / name)
    folder = shipping(tmp_path)
    shutil.copytree(folder, source / "pipeline" / "shipped" / "default", dirs_exist_ok=True)
    build_wheel = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "-w", str(tmp_path), "."]
    subprocess.run([sys.executable, *build_wheel], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    before = {path: path.stat().st_mtime_ns for path in site.rglob("*")}
    photo = picture(tmp_path / "a.png")
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "denoise", str(photo), "--out", str(tmp_path / "out"), "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["models"][0]["sha256"] == named_hash(folder)
    assert (tmp_path / "out" / "a.png").is_file()
    assert {path: path.stat().st_mtime_ns for path in site.rglob("*")} == before


def test_what_is_really_shipped_is_whole_small_and_denoises():
    """The models of this checkout: hash, size, no path of a machine, and a gain on a picture they never saw."""
    from skimage import data
    from skimage.metrics import peak_signal_noise_ratio as psnr

    rows = shipped.list_shipped()
    if not rows:
        pytest.skip("no model is shipped yet")
    for row in rows:
        folder = find_weights(row["model"])
        assert row["parameters"] <= MOST_PARAMETERS
        assert row["sha256"] in (folder / "README.md").read_text()
        assert {"command", "seeds", "data"} <= row["facts"].keys()
        card = (folder / "model.json").read_text()
        assert json.loads(card) == without_paths(json.loads(card))
    clean = data.astronaut()[100:292, 100:292].astype(np.float32) / 255
    noisy = clean + np.random.default_rng(0).normal(0, 20 / 255, clean.shape).astype(np.float32)
    noisy = noisy.clip(0, 1)
    denoised = load_denoiser("default", "cpu")(noisy)
    assert psnr(clean, denoised, data_range=1) > psnr(clean, noisy, data_range=1) + 3
    assert np.abs((denoised - noisy).mean(axis=(0, 1))).max() < 1 / 255
