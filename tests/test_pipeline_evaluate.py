"""`unveil evaluate`: several models on several sets, the cache, going on after a stop, and Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.images import Image, write_image
from pipeline.errors import UserError
from pipeline.evaluation.case_sets import data_set, noised_sets, noises_of
from pipeline.evaluation.contenders import Model, contenders_of, read_models
from pipeline.evaluation.evaluate import measure_sets
from pipeline.evaluation.score_cache import ScoreCache
from pipeline.evaluation.summary import mean_of
from tests import registered

Run = Callable[..., tuple[int, dict[str, Any] | None, str]]
HEADLINE = "psnr_rgb_u8"


@pytest.fixture
def clean(tmp_path: Path, photo: np.ndarray) -> Path:
    """Three photographs of 64x72."""
    (tmp_path / "clean").mkdir()
    for index in range(3):
        pixels = photo[60 * index : 60 * index + 64, 100:172]
        write_image(tmp_path / "clean" / f"p{index}.png", Image(pixels=pixels))
    return tmp_path / "clean"


@pytest.fixture
def pairs(tmp_path: Path, clean: Path) -> Path:
    generator = np.random.default_rng(0)
    for file in sorted(clean.iterdir()):
        from pipeline.data.images import read_image

        pixels = read_image(file).pixels
        noisy = np.clip(pixels + generator.normal(0, 12, pixels.shape), 0, 255).round().astype(np.uint8)
        for side, values in (("noisy", noisy), ("clean", pixels)):
            (tmp_path / "pairs" / side).mkdir(parents=True, exist_ok=True)
            write_image(tmp_path / "pairs" / side / file.name, Image(pixels=values))
    return tmp_path / "pairs"


@pytest.fixture
def weights(tmp_path: Path) -> list[Path]:
    return [registered.weights(tmp_path / f"run{seed}", seed=seed) for seed in range(3)]


def numbers(result: dict[str, Any]) -> Any:
    """All that does not depend on how fast it went."""

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: without(v) for k, v in value.items() if k not in ("seconds", "seconds_per_megapixel")}
        return [without(item) for item in value] if isinstance(value, list) else value

    return without(result)


def test_models_and_sets_side_by_side_are_what_each_alone_is(clean: Path, pairs: Path, weights: list[Path]) -> None:
    models = read_models([f"a={weights[0]}", str(weights[1])])
    sets = [data_set(pairs), *noised_sets(clean, noises_of(["poisson:2,3"]), seed=1)]
    found = measure_sets(models, sets, baselines=("tv",)).result
    assert [one["name"] for one in found["sets"]] == ["pairs", "clean poisson 2", "clean poisson 3"]
    assert [one["kind"] for one in found["sets"]] == ["pairs", "synthetic", "synthetic"]
    assert found["sets"][1]["noise"] == {"recipe": "poisson", "level": 2.0, "seed": 1}
    assert list(found["sets"][0]["methods"]) == ["noisy", "tv", "a", "run1"]
    for at, one in enumerate(sets):
        for model in models:
            alone = measure_sets([model], [one], baselines=()).result
            assert mean_of(found, model.label, HEADLINE, at) == mean_of(alone, model.label, HEADLINE)
    assert mean_of(found, "noisy", HEADLINE, 1) > mean_of(found, "noisy", HEADLINE, 2)
    json.dumps(found, allow_nan=False)


def test_classical_denoisers_share_one_noise_estimate_and_get_what_each_would_find(pairs: Path) -> None:
    from pipeline.evaluation.baselines import BASELINES
    from pipeline.evaluation.metrics import measure

    one = data_set(pairs)
    found = measure_sets([], [one], baselines=("nlm", "tv", "wavelet")).result
    for case, image in zip(one.cases, found["sets"][0]["images"], strict=True):
        noisy, truth = case.read()
        assert truth is not None
        for name in ("nlm", "tv", "wavelet"):
            assert image["methods"][name]["metrics"] == measure(BASELINES[name](noisy), truth)


def test_models_are_described_and_compared(pairs: Path, weights: list[Path]) -> None:
    found = measure_sets(
        read_models([f"a={weights[0]}", f"b={weights[1]}"]), [data_set(pairs)], baselines=("tv",)
    ).result
    first = found["models"][0]
    assert (first["label"], first["ref"], first["seed"]) == ("a", str(weights[0]), 5)
    assert len(first["sha256"]) == 64
    assert first["parameters"] > 0
    rows = {(row["a"], row["b"]): row for row in found["sets"][0]["paired"] if row["metric"] == HEADLINE}
    assert set(rows) == {("a", "noisy"), ("a", "tv"), ("a", "b"), ("b", "noisy"), ("b", "tv")}
    images = found["sets"][0]["images"]
    gains = [
        image["methods"]["a"]["metrics"][HEADLINE] - image["methods"]["tv"]["metrics"][HEADLINE] for image in images
    ]
    row = rows["a", "tv"]
    assert row["difference"] == pytest.approx(np.mean(gains))
    assert (row["wins"], row["n"]) == (sum(gain > 0 for gain in gains), 3)
    # Of three pictures no order can be surprising: two of eight signs are all alike.
    assert row["p"] >= 0.25
    assert row["p_holm"] >= row["p"]


def test_one_label_for_several_seeds_makes_a_group_with_its_spread(pairs: Path, weights: list[Path]) -> None:
    found = measure_sets(read_models([f"net={folder}" for folder in weights]), [data_set(pairs)], baselines=()).result
    assert [model["label"] for model in found["models"]] == ["net #1", "net #2", "net #3"]
    means = [mean_of(found, label, HEADLINE) for label in ("net #1", "net #2", "net #3")]
    [group] = found["groups"]
    assert group["models"] == ["net #1", "net #2", "net #3"]
    spread = group["sets"]["pairs"][HEADLINE]
    assert spread["mean"] == pytest.approx(np.mean(means))
    assert spread["sd"] == pytest.approx(np.std(means, ddof=1))


def test_labels_are_read_and_clashes_refused(tmp_path: Path, weights: list[Path]) -> None:
    assert [model.label for model in read_models([str(weights[0]), f"x y={weights[1]}"])] == ["run0", "x y"]
    other = registered.weights(tmp_path / "again" / "run0", seed=4)
    twice = read_models([str(weights[0]), str(other)])
    assert [(model.label, model.group) for model in twice] == [("run0 #1", None), ("run0 #2", None)]
    for label in ("noisy", "tv"):
        with pytest.raises(UserError, match=f"expected labels of their own, found '{label}' twice"):
            contenders_of(read_models([f"{label}={weights[0]}"]), ["tv"])
    odd = registered.weights(tmp_path / "a=b", seed=4)
    assert read_models([str(odd)])[0].label == "a=b"


def test_what_was_measured_is_not_measured_again(pairs: Path, weights: list[Path], tmp_path: Path) -> None:
    def run(*models: Any, metrics: tuple[str, ...] = (), read: bool = True) -> Any:
        cache = ScoreCache(tmp_path / "cache", read=read)
        return measure_sets(models, [data_set(pairs)], baselines=("tv",), cache=cache, more_metrics=metrics)

    first, second = read_models([f"a={weights[0]}", f"b={weights[1]}"])
    fresh = run(first)
    assert fresh.measured == 3
    again = run(first)
    assert again.measured == 0
    assert again.result == fresh.result  # the seconds as well: they are those of the measurement
    both = run(first, second)
    assert both.measured == 3
    assert numbers(both.result)["sets"][0]["methods"]["a"] == numbers(fresh.result)["sets"][0]["methods"]["a"]
    assert run(first, second).measured == 0
    assert run(first, read=False).measured == 3
    assert run(first, metrics=("psnr_y",)).measured == 3
    assert run(first, metrics=("psnr_y",)).measured == 0
    image = pairs / "noisy" / "p1.png"
    image.write_bytes((pairs / "noisy" / "p0.png").read_bytes())
    changed = run(first)
    assert changed.measured == 1
    assert changed.result["sets"][0]["hash"] != fresh.result["sets"][0]["hash"]


def test_another_mode_is_another_measurement(pairs: Path, tmp_path: Path, unveil: Run) -> None:
    swin = _swin(tmp_path / "swin")
    seen = []
    for more in ((), ("--attention", "off"), (), ("--offset", "level")):
        code, _, told = unveil("evaluate", "--model", swin, "--data", pairs, "--baselines", "", *more)
        assert code == 0, told
        seen.append("measured before" in told)
    assert seen == [False, False, True, False]


def test_a_damaged_cache_and_one_that_cannot_be_written_cost_time_only(
    pairs: Path, weights: list[Path], tmp_path: Path
) -> None:
    models, sets = read_models([str(weights[0])]), [data_set(pairs)]
    fresh = measure_sets(models, sets, baselines=(), cache=ScoreCache(tmp_path / "cache")).result
    for file in (tmp_path / "cache").iterdir():
        whole = file.read_bytes()
        file.write_bytes(b'\xff\x00{"picture": 3}\nnull\n' + whole[: len(whole) - 40])
    cache = ScoreCache(tmp_path / "cache")
    found = measure_sets(models, sets, baselines=(), cache=cache)
    assert found.measured == 1
    assert numbers(found.result) == numbers(fresh)
    (tmp_path / "file").write_text("")
    blocked = ScoreCache(tmp_path / "file")
    assert numbers(measure_sets(models, sets, baselines=(), cache=blocked).result) == numbers(fresh)
    assert blocked.problem is not None
    assert "scores are not kept" in blocked.problem


def test_equal_pictures_stay_infinite_through_the_cache(clean: Path, tmp_path: Path) -> None:
    sets = noised_sets(clean, noises_of(["gaussian:0"]), seed=0)
    for _ in range(2):
        found = measure_sets([], sets, baselines=("tv",), cache=ScoreCache(tmp_path / "cache")).result
        assert found["sets"][0]["methods"]["noisy"]["metrics"][HEADLINE] == {"mean": None, "interval": None, "n": 0}
        assert found["sets"][0]["images"][0]["methods"]["noisy"]["metrics"][HEADLINE] is None
        assert mean_of(found, "noisy", "ssim_gauss11_rgb") == 1


def test_a_killed_evaluation_goes_on_where_it_was(tmp_path: Path, photo: np.ndarray) -> None:
    (tmp_path / "clean").mkdir()
    for index in range(24):
        write_image(tmp_path / "clean" / f"{index:02d}.png", Image(pixels=np.roll(photo, index, 0)[:128, :128]))
    arguments = ["evaluate", "--clean", tmp_path / "clean", "--noise", "gaussian:15", "--baselines", "nlm", "--json"]
    command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    environment = {**os.environ, "UNVEIL_HOME": str(tmp_path / "home")}
    root = Path(__file__).resolve().parents[1]
    running = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    kept = tmp_path / "home" / "evaluations"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and running.poll() is None:
        lines = [len(file.read_bytes().splitlines()) for file in kept.iterdir()] if kept.is_dir() else []
        if lines and min(lines) >= 3:
            break
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    resumed = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    other = {**environment, "UNVEIL_HOME": str(tmp_path / "other")}
    undisturbed = subprocess.run(command, cwd=root, env=other, capture_output=True, text=True, check=True)
    assert numbers(json.loads(resumed.stdout)) == numbers(json.loads(undisturbed.stdout))
    for file in kept.iterdir():
        pictures = [json.loads(line)["picture"] for line in file.read_text().splitlines() if line.endswith("}")]
        # What was there before the kill was not measured twice.
        assert len(pictures) == len(set(pictures)) == 24


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    from pipeline.cluster import start_ray

    started = start_ray(2)
    yield
    started.leave()


def test_workers_of_ray_find_the_same(
    ray: None, clean: Path, pairs: Path, weights: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    # Workers have another current folder, in which relative paths mean nothing.
    monkeypatch.chdir(tmp_path)
    clean, pairs = Path("clean"), Path("pairs")

    models = read_models([f"a={weights[0]}", f"swin={_swin(tmp_path / 'swin')}"])
    sets = [data_set(pairs), data_set(clean), *noised_sets(clean, noises_of(["isp"]), seed=2)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        here = measure_sets(models, sets, baselines=("tv",)).result
    finally:
        torch.set_num_threads(threads)
    done: list[tuple[int, int]] = []
    read: list[tuple[int, int]] = []
    there = measure_sets(
        models,
        sets,
        baselines=("tv",),
        workers=2,
        crops=lambda _set: [0],
        on_read=lambda *counts: read.append(counts),
        on_progress=lambda *counts: done.append(counts),
    )
    assert numbers(there.result) == numbers(here)
    assert read == [(count, 9) for count in range(1, 10)]
    assert done[-1] == (9, 9)
    assert set(there.crops) == {("pairs", "p0"), ("clean", "p0.png"), ("clean isp", "p0")}
    assert there.crops["pairs", "p0"]["clean"].shape == (64, 72, 3)
    assert set(there.crops["clean", "p0.png"]) == {"noisy", "tv", "a", "swin"}
    # A picture that is damaged meanwhile is named as it would be without Ray.
    path = pairs / "noisy" / "p1.png"
    broken = data_set(pairs)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"p1\.png: expected a whole image"):
        measure_sets(models, [broken], baselines=(), workers=2)
    with pytest.raises(UserError, match="expected trained weights to send to workers"):
        measure_sets([Model(label="x", denoiser=lambda image: image)], sets, baselines=(), workers=1)


def test_the_command_refuses_what_makes_no_sense(unveil: Run, clean: Path, pairs: Path, weights: list[Path]) -> None:
    def refused(*arguments: object) -> str:
        code, _, told = unveil("evaluate", *arguments)
        assert code == 2, told
        return " ".join(told.split())

    assert "--data, --clean: expected a folder of pictures, found none" in refused("--model", weights[0])
    assert "--noise or --suite: expected with --clean" in refused("--clean", clean)
    assert "--clean: expected with --noise and --suite" in refused("--noise", "isp", "--data", pairs)
    assert "--metrics: expected names of psnr_rgb_u8" in refused("--data", pairs, "--metrics", "psnr")
    assert "r.json: expected another name, found the one of the numbers beside --report" in refused(
        "--data", pairs, "--out", pairs / "r.json", "--report", pairs / "r.html"
    )
    assert "--protocol" in refused("--data", pairs, "--protocol", "best")
    assert "--baselines: expected names of nlm" in refused("--data", pairs, "--baselines", "magic")
    assert "expected somebody to measure, found neither" in refused("--data", pairs, "--baselines", "")
    assert "--record: expected one model on one set" in refused(
        "--model", weights[0], "--data", pairs, "--clean", clean, "--noise", "isp", "--record"
    )
    assert "found one without; leave 'off' out" in refused("--model", weights[0], "--data", pairs, "--attention", "off")


def test_photos_without_truth_get_measures_without_one(unveil: Run, pairs: Path, weights: list[Path]) -> None:
    code, found, _ = unveil(
        "evaluate", "--model", f"a={weights[0]}", "--data", pairs / "noisy", "--baselines", "tv", "--json"
    )
    assert code == 0
    assert found is not None
    [one] = found["sets"]
    assert (one["kind"], one["methods"]["a"]["metrics"], one["paired"]) == ("photos", {}, [])
    assert one["methods"]["a"]["blind"].keys() == one["methods"]["tv"]["blind"].keys()
    assert one["methods"]["tv"]["blind"]["noise_before_255"] > 0
    code, _, told = unveil("evaluate", "--model", f"a={weights[0]}", "--data", pairs / "noisy", "--baselines", "tv")
    assert code == 0
    assert "3 photos without clean partners" in told


def test_a_tracked_evaluation_is_found_in_mlflow_and_a_store_that_is_away_is_told_first(
    unveil: Run, pairs: Path, weights: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments = ("evaluate", "--model", f"a={weights[0]}", "--data", pairs, "--baselines", "", "--json")
    monkeypatch.setenv("UNVEIL_HOME", str(tmp_path / "own"))
    code, found, told = unveil(*arguments, "--track", "--report", tmp_path / "r.html")
    assert code == 0, told
    assert found is not None
    from pipeline.tracking import connect

    run = connect().MlflowClient().get_run(found["tracked"]["run_id"])
    mean = found["sets"][0]["methods"]["a"]["metrics"][HEADLINE]["mean"]
    assert run.data.metrics[f"pairs/a/{HEADLINE}"] == pytest.approx(mean)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    code, answer, told = unveil(*arguments, "--track", "--fresh")
    assert code == 1
    assert answer is not None
    assert "does not answer" in answer["error"]


def test_many_sets_are_one_table_and_markup_in_names_is_text(
    unveil: Run, clean: Path, weights: list[Path], tmp_path: Path
) -> None:
    odd = clean.rename(tmp_path / "[red]set")
    code, _, told = unveil(
        "evaluate", "--model", f"[b]x={weights[0]}", "--clean", odd, "--noise", "poisson:2,3,4", "--baselines", "tv"
    )
    assert code == 0, told
    assert "mean psnr_rgb_u8" in told
    assert told.count("[red]set") == 3
    assert "[b]x" in told


def _swin(folder: Path) -> Path:
    from models import InferenceSpec, MaskedSwinSpec, build, save

    spec = MaskedSwinSpec(dim=8, depths=(2,), heads=(2,), window=4)
    save(folder, build(spec, seed=1), spec=spec, inference=InferenceSpec(), card={})
    return folder
