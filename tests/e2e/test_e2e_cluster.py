"""docs/cluster.md on this machine: a head and a worker with token authentication; a job submitted, stopped, resumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
GCS_PORT, DASHBOARD_PORT, CLIENT_PORT = "6391", "8271", "20071"
DASHBOARD = f"http://127.0.0.1:{DASHBOARD_PORT}"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def ray(environment: dict[str, str], *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([RAY, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, done.stderr + done.stdout
    return done


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    from ray.util import get_node_ip_address
    from skimage import data

    base = tmp_path_factory.mktemp("cluster")
    (base / "clean").mkdir()
    for index in range(2):
        iio.imwrite(base / "clean" / f"{index}.png", data.astronaut()[:, 200 * index : 200 * index + 200])
    environment = {
        **os.environ,
        "HOME": str(base),
        "RAY_AUTH_MODE": "token",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "UNVEIL_HOME"):
        environment.pop(name, None)
    ray(environment, "get-auth-token", "--generate")
    common = ["--disable-usage-stats", "--block", "--num-cpus", "2"]
    head = ["--head", "--port", GCS_PORT, "--dashboard-port", DASHBOARD_PORT, "--ray-client-server-port", CLIENT_PORT]
    nodes = []
    for arguments in (head, ["--address", f"{get_node_ip_address()}:{GCS_PORT}"]):
        nodes.append(
            subprocess.Popen(
                # Ports of their own, since another Ray may run on this machine.
                [RAY, "start", *arguments, *common, "--dashboard-agent-listen-port", str(52391 + len(nodes))],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        deadline = time.monotonic() + 120
        while len(nodes_of(environment)) < len(nodes):
            assert time.monotonic() < deadline, "the node does not come up"
            time.sleep(1)
    yield {"base": base, "environment": environment}
    for node in nodes:
        for process in psutil.Process(node.pid).children(recursive=True):
            process.kill()
        node.kill()
        node.wait()


def nodes_of(environment: dict[str, str]) -> list[dict[str, Any]]:
    """Return the living nodes of the cluster, as its own command line tells them."""
    done = ray(environment, "list", "nodes", "--address", DASHBOARD, "--format", "json", check=False)
    if done.returncode or "[" not in done.stdout:
        return []
    return [node for node in json.loads(done.stdout[done.stdout.index("[") :]) if node["state"] == "ALIVE"]


def submit(world: dict[str, Any], name: str, *more: str) -> str:
    variables = {"UNVEIL_HOME": str(world["base"] / "home"), "RAY_JOB_STOP_WAIT_TIME_S": "60"}
    command = ["python", "-m", "pipeline", *more]
    done = ray(
        world["environment"],
        *("job", "submit", "--address", DASHBOARD, "--working-dir", ".", "--no-wait", "--submission-id", name),
        *("--runtime-env-json", json.dumps({"env_vars": variables}), "--", *command),
    )
    assert "100" not in done.stderr, "the upload is far below Ray's limit of 100 MiB"
    return name


def status(world: dict[str, Any], name: str) -> str:
    done = ray(world["environment"], "job", "status", name, "--address", DASHBOARD)
    told = (done.stdout + done.stderr).upper()
    return next(word for word in ("SUCCEEDED", "FAILED", "STOPPED", "RUNNING", "PENDING") if word in told)


def logs(world: dict[str, Any], name: str) -> str:
    return ray(world["environment"], "job", "logs", name, "--address", DASHBOARD).stdout


def test_a_submitted_job_can_be_stopped_resumed_and_pulled_by_its_alias(world: dict[str, Any]) -> None:
    import mlflow

    base = world["base"]
    overrides = ["training.steps=1500", "training.minutes=0", "training.checkpoint_seconds=1000", "data.crop=32"]
    overrides += ["network.width=8", "network.depth=1", "cluster.workers=2", "cluster.threads=1"]
    overrides += ["cluster.synthesizers=2"]
    train = ("train", "--out", str(base / "run"))
    first = submit(world, "first", *train, "--preset", "camera", "--data", str(base / "clean"), *overrides)
    deadline = time.monotonic() + 300
    while not (base / "run" / "log.jsonl").is_file():
        assert status(world, first) in ("PENDING", "RUNNING"), logs(world, first)
        assert time.monotonic() < deadline, logs(world, first)
        time.sleep(1)
    ray(world["environment"], "job", "stop", first, "--address", DASHBOARD)
    assert status(world, first) == "STOPPED"
    told = logs(world, first)
    assert "SIGTERM: saving a checkpoint, then stopping" in told
    assert "stopped on request; continue with --resume" in told
    saved = list((base / "run" / "checkpoints").glob("step_*"))
    assert len(saved) == 1, "the checkpoint that the stop asked for; none other was due"
    second = submit(world, "second", *train, "--resume")
    deadline = time.monotonic() + 400
    while status(world, second) in ("PENDING", "RUNNING"):
        assert time.monotonic() < deadline, logs(world, second)
        time.sleep(2)
    assert status(world, second) == "SUCCEEDED", logs(world, second)
    rows = [json.loads(line) for line in (base / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == list(range(10, 1501, 10)), "no step lost, none twice"
    mlflow.set_tracking_uri(f"sqlite:///{base / 'home' / 'mlflow.db'}")
    model = mlflow.pyfunc.load_model("models:/unveil@champion")
    photo = iio.imread(base / "clean" / "0.png")[None, :64, :64]
    assert model.predict(photo).shape == photo.shape


def test_without_the_token_nothing_can_be_submitted(world: dict[str, Any], tmp_path: Path) -> None:
    stranger = {**world["environment"], "HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"}
    done = ray(stranger, "job", "list", "--address", DASHBOARD, check=False)
    assert done.returncode != 0
    assert "401" in done.stderr + done.stdout or "nauthorized" in done.stderr + done.stdout


def test_a_submitted_batch_of_files_has_the_bytes_of_one_process(world: dict[str, Any]) -> None:
    from models import InferenceSpec, UNetSpec, build, save
    from pipeline.data.folders import scan
    from pipeline.inference.denoiser import NetworkDenoiser
    from pipeline.inference.files import denoise_files
    from pipeline.inference.manifest import MANIFEST_NAME

    base = world["base"]
    (base / "noisy").mkdir()
    photo = iio.imread(base / "clean" / "0.png")
    for index in range(12):
        iio.imwrite(base / "noisy" / f"{index:02}.png", photo[30 * index : 30 * index + 64, :80])
    (base / "noisy" / "bad.png").write_text("no picture")
    spec = UNetSpec(channels=3, width=4, depth=1)
    save(base / "model", build(spec, seed=0), spec=spec, inference=InferenceSpec(), card={})
    places = ("--model", str(base / "model"), "--out", str(base / "there"))
    job = submit(world, "files", "denoise", str(base / "noisy"), *places)
    deadline = time.monotonic() + 300
    while status(world, job) in ("PENDING", "RUNNING"):
        assert time.monotonic() < deadline, logs(world, job)
        time.sleep(1)
    told = logs(world, job)
    assert "13 files to 4 workers of the Ray cluster, on one thread each" in told
    assert "12 written to" in told
    assert "bad.png: expected a PNG" in told
    assert status(world, job) == "FAILED"  # exit code 3: one file is bad
    denoise_files(scan([base / "noisy"]), NetworkDenoiser(base / "model"), base / "here")
    names = sorted(path.name for path in (base / "here").iterdir())
    assert len(names) == 13
    assert names == sorted(path.name for path in (base / "there").iterdir())
    for name in names:
        if name != MANIFEST_NAME:
            assert (base / "here" / name).read_bytes() == (base / "there" / name).read_bytes(), name
