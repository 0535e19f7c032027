"""The whole path on a real local Ray and a real SQLite MLflow: train on two workers, pull by alias, denoise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]

FOREIGN = """
import importlib.abc, json, sys
sys.path[:] = [p for p in sys.path if p not in ("", {root!r})]
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("raw", "noise", "models", "pipeline", "tuning"):
            raise ImportError(f"{{name}} is not to be had here")
sys.meta_path.insert(0, Blocked())
import mlflow, numpy as np
mlflow.set_tracking_uri({uri!r})
model = mlflow.pyfunc.load_model("models:/e2e@champion")
random = np.random.default_rng(0)
report = {{}}
for shape in [(2, 75, 101, 3), (1, 1, 1, 3), (1, 600, 40, 3)]:
    image = random.random(shape, dtype=np.float32)
    out = model.predict(image)
    assert out.shape == shape and out.dtype == np.float32 and np.isfinite(out).all(), (out.shape, out.dtype)
    assert np.array_equal(out, model.predict(image))
photo = np.load({photo!r})
out = model.predict(photo[None])
assert out.dtype == np.uint8 and out.shape == (1, *photo.shape)
np.save({result!r}, out[0])
try:
    model.predict(np.zeros((1, 8, 8, 5), np.float32))
except ValueError as error:
    report["wrong_channels"] = str(error)
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Clean images, one `unveil train` on Ray with two DDP workers and two synthesizers, and what it printed."""
    from skimage import data

    base = tmp_path_factory.mktemp("e2e")
    (base / "clean").mkdir()
    photo = data.astronaut()
    for index in range(4):
        iio.imwrite(base / "clean" / f"{index}.png", photo[:, 128 * index : 128 * index + 128])
    environment = {**os.environ, "UNVEIL_HOME": str(base / "home"), "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    overrides = [
        "training.steps=40",
        "training.minutes=0",
        "training.checkpoint_seconds=1",
        "data.crop=48",
        "network.width=8",
        "network.depth=2",
        "cluster.workers=2",
        "cluster.threads=1",
        "cluster.synthesizers=2",
        "tracking.model=e2e",
        "tracking.experiment=e2e",
    ]
    command = ["train", "--preset", "camera", "--data", base / "clean", "--out", base / "run", "--json"]
    done = run(environment, *command, *overrides)
    assert done.returncode == 0, done.stderr
    return {
        "base": base,
        "environment": environment,
        "train": json.loads(done.stdout),
        "photo": photo[:200, :150],
    }


def run(environment: dict[str, str], *arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_train_prints_the_contract_and_leaves_a_whole_run_folder(world: dict[str, Any]) -> None:
    printed, folder = world["train"], world["base"] / "run"
    expected = {
        "run_dir",
        "weights",
        "mlflow_run_id",
        "registered_model",
        "version",
        "steps",
        "seconds",
        "final_loss",
    }
    assert expected <= printed.keys()
    assert (printed["registered_model"], printed["version"], printed["steps"]) == ("e2e", 1, 40)
    assert 0 < printed["final_loss"] < 1
    for name in (
        "config.json",
        "manifest.json",
        "log.jsonl",
        "weights/model.safetensors",
        "weights/model.json",
    ):
        assert (folder / name).is_file(), name
    assert list((folder / "pictures").glob("*.png"))
    assert list((folder / "checkpoints").iterdir())
    # On a busy machine the log has notes as well, such as of a batch that came late.
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "event" not in row] == [10, 20, 30, 40]


def test_two_workers_follow_the_loss_curve_of_one(world: dict[str, Any], tmp_path: Path) -> None:
    """Same global batches, shared out; sums are taken in another order, so equal to rounding and not to the bit."""
    from pipeline.training.history import read_history
    from pipeline.training.intake import read_source
    from pipeline.training.loop import run_loop
    from pipeline.training.rank import local_rank
    from pipeline.training.rundir import read_config

    config = read_config(world["base"] / "run")
    source, _ = read_source(config, lambda *_: None)
    steps = config.model_copy(update={"training": config.training.model_copy(update={"steps": 40})})
    run_loop(steps, tmp_path, {}, local_rank(source, config.training.batch))
    one = [row["loss"] for row in read_history(tmp_path)]
    two = [row["loss"] for row in read_history(world["base"] / "run")][: len(one)]
    assert two == pytest.approx(one, rel=1e-4)


def test_mlflow_has_the_run_its_parameters_metrics_pictures_and_the_version(world: dict[str, Any]) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{world['base'] / 'home' / 'mlflow.db'}")
    run_id = world["train"]["mlflow_run_id"]
    found = client.get_run(run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params["cluster.workers"] == "2"
    assert found.data.params["network.width"] == "8"
    assert [point.step for point in client.get_metric_history(run_id, "loss")] == [10, 20, 30, 40]
    assert any(key.startswith("system/") for key in found.data.metrics)
    assert client.list_artifacts(run_id, "pictures")
    version = client.get_model_version_by_alias("e2e", "champion")
    assert (int(version.version), version.run_id) == (1, run_id)


def test_the_alias_works_in_a_process_that_never_heard_of_this_repository(
    world: dict[str, Any], tmp_path: Path
) -> None:
    """Same bytes as our own command line, any size, both dtypes, no pickle."""
    np.save(tmp_path / "photo.npy", world["photo"])
    code = FOREIGN.format(
        root=str(ROOT),
        uri=f"sqlite:///{world['base'] / 'home' / 'mlflow.db'}",
        photo=str(tmp_path / "photo.npy"),
        result=str(tmp_path / "result.npy"),
    )
    environment = {**world["environment"], "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "a picture must have shape (H, W, C)" in json.loads(done.stdout.splitlines()[-1])["wrong_channels"]
    iio.imwrite(tmp_path / "photo.png", world["photo"])
    ours = run(
        world["environment"],
        "denoise",
        tmp_path / "photo.png",
        "--model",
        "models:/e2e@champion",
        "--out",
        tmp_path / "o",
    )
    assert ours.returncode == 0, ours.stderr
    assert np.array_equal(iio.imread(tmp_path / "o" / "photo.png"), np.load(tmp_path / "result.npy"))


def test_run_folder_weights_folder_and_registry_give_the_same_bytes(world: dict[str, Any], tmp_path: Path) -> None:
    iio.imwrite(tmp_path / "photo.png", world["photo"])
    seen = set()
    refs = [
        world["base"] / "run",
        world["train"]["weights"],
        "models:/e2e/1",
        f"runs:/{world['train']['mlflow_run_id']}",
    ]
    for index, ref in enumerate(refs):
        out = tmp_path / str(index)
        done = run(world["environment"], "denoise", tmp_path / "photo.png", "--model", ref, "--out", out, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["ok"] == 1
        seen.add((out / "photo.png").read_bytes())
    assert len(seen) == 1


def test_a_missing_alias_version_or_model_is_one_line_and_exit_2(world: dict[str, Any], tmp_path: Path) -> None:
    iio.imwrite(tmp_path / "photo.png", world["photo"])
    for ref in ("models:/e2e@nobody", "models:/e2e/77", "models:/nothing@champion"):
        done = run(
            world["environment"],
            "denoise",
            tmp_path / "photo.png",
            "--model",
            ref,
            "--out",
            tmp_path / "o",
            "--json",
        )
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith(f"unveil: --model '{ref}': not found")
        assert len(done.stderr.splitlines()) == 1
        assert json.loads(done.stdout)["exit_code"] == 2


def test_resume_continues_the_same_run_and_registers_a_new_version(world: dict[str, Any]) -> None:
    out = world["base"] / "run"
    done = run(world["environment"], "train", "--out", out, "--resume", "--json", "training.steps=50")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["mlflow_run_id"] == world["train"]["mlflow_run_id"]
    assert (printed["steps"], printed["version"]) == (50, 2)


def test_evaluate_and_report_keep_their_contract_on_the_trained_model(world: dict[str, Any], tmp_path: Path) -> None:
    from skimage import data

    iio.imwrite(tmp_path / "coffee.png", data.coffee()[:160, :200])
    pairs = tmp_path / "pairs"
    made = run(
        world["environment"], "synth", tmp_path / "coffee.png", pairs, "--recipe", "camera", "--seed", "5", "--json"
    )
    assert made.returncode == 0, made.stderr
    done = run(
        world["environment"],
        "evaluate",
        "--model",
        "models:/e2e@champion",
        "--data",
        pairs,
        "--baselines",
        "nlm",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    [one] = found["sets"]
    assert (one["layout"], one["n"]) == ("pairs", 1)
    assert list(one["methods"]) == ["noisy", "nlm", "e2e@champion"]
    for method in one["methods"].values():
        assert 10 < method["metrics"]["psnr_rgb_u8"]["mean"] < 60
        assert 0 < method["metrics"]["ssim_gauss11_rgb"]["mean"] <= 1
    report = run(
        world["environment"], "report", world["base"] / "run", "--data", pairs, "--out", tmp_path / "r.html", "--json"
    )
    assert report.returncode == 0, report.stderr
    ours = one["methods"]["e2e@champion"]["metrics"]["psnr_rgb_u8"]["mean"]
    assert json.loads(report.stdout)["psnr_rgb_u8"] == pytest.approx(ours, abs=3)
    assert "<html" in (tmp_path / "r.html").read_text()
    seen = run(world["environment"], "inspect", pairs / "noisy", "--json")
    assert seen.returncode == 0, seen.stderr


def test_the_demo_ends_with_a_table_a_report_and_what_to_type_next(world: dict[str, Any], tmp_path: Path) -> None:
    short = ["training.steps=12", "training.minutes=0", "data.crop=32", "cluster.workers=1"]
    done = run(world["environment"], "demo", "--out", tmp_path, "--json", *short)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["name"] for row in found["table"]] == ["noisy", "nlm", "unveil"]
    assert all(10 < row["psnr_rgb_u8"] < 60 for row in found["table"])
    for name in ("report", "picture", "denoised", "run_dir"):
        assert Path(found[name]).exists(), name
    assert len(found["next"]) == 3
    assert f"models:/{found['registered_model']}@champion" in found["next"][0]


@pytest.mark.slow
def test_the_demo_takes_a_folder_of_noisy_photos_instead(world: dict[str, Any], tmp_path: Path) -> None:
    short = ["training.steps=8", "training.minutes=0", "data.crop=32", "cluster.workers=1", "inference.draws=1"]
    done = run(world["environment"], "demo", "--out", tmp_path, "--data", world["base"] / "clean", "--json", *short)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert all(row["noise_sigma_255"] >= 0 for row in found["table"])
    assert len(list(Path(found["denoised"]).glob("*.png"))) == 4
    assert "clean_images_read" in (Path(found["run_dir"]) / "weights" / "model.json").read_text()


def test_models_list_shows_version_and_alias(world: dict[str, Any]) -> None:
    done = run(world["environment"], "models", "list", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["models"]
    assert ["champion"] in [row["aliases"] for row in rows if row["model"] == "e2e"]
    shown = run(world["environment"], "models", "show", "models:/e2e/1", "--json")
    facts = json.loads(shown.stdout)
    assert facts["card"]["clean_images_read"] is True
    assert facts["card"]["training"]["steps"] == 40


def test_a_run_whose_images_all_turn_out_broken_fails_in_one_line_and_marks_its_mlflow_run(
    world: dict[str, Any], tmp_path: Path
) -> None:
    """The header of a cut file is whole, so only the synthesizers, in their own processes, find out."""
    (tmp_path / "cut").mkdir()
    whole = (world["base"] / "clean" / "0.png").read_bytes()
    (tmp_path / "cut" / "a.png").write_bytes(whole[: len(whole) // 3])
    small = ["data.crop=48", "network.width=8", "cluster.max_failures=0", "tracking.experiment=broken"]
    arguments = ["train", "--preset", "quick", "--data", tmp_path / "cut", "--out", tmp_path / "run", "--json"]
    done = run(world["environment"], *arguments, *small)
    assert done.returncode == 1, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("unveil: training failed")
    assert "none of its 1 images could be decoded" in last
    assert json.loads(done.stdout)["exit_code"] == 1
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{world['base'] / 'home' / 'mlflow.db'}")
    run_id = json.loads((tmp_path / "run" / "mlflow.json").read_text())["run_id"]
    assert client.get_run(run_id).info.status == "FAILED"
