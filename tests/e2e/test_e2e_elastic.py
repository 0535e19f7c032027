"""An elastic run on a local cluster: it begins with what there is, grows as a node joins, shrinks as it dies."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import pytest

from pipeline.training.history import read_history

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def wait_for(process: subprocess.Popen[str], run: Path, what: Any) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        if what(rows := read_history(run)):
            return rows
        time.sleep(0.3)
    raise AssertionError([(row["step"], row["workers"]) for row in read_history(run)][-5:])


def drain(cluster: Any, node: Any) -> None:
    """Announce the end of a node, as an autoscaler does for a spot instance that is taken back."""
    command = [Path(sys.executable).with_name("ray"), "drain-node", "--address", cluster.address]
    command += ["--node-id", node.node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    command += ["--reason-message", "test", "--deadline-remaining-seconds", "60"]
    subprocess.run(command, check=True, capture_output=True)


def test_a_run_grows_and_shrinks_with_the_cluster_and_trains_every_step(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster
    from skimage import data

    (tmp_path / "clean").mkdir()
    iio.imwrite(tmp_path / "clean" / "a.png", data.astronaut()[:, :200])
    run = tmp_path / "run"
    # A worker of two CPUs and the synthesizer fit into the first node, a second worker does not.
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "dashboard_port": 8273})
    environment = {**os.environ, "UNVEIL_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    environment |= {"RAY_ADDRESS": cluster.address}
    command = [sys.executable, "-m", "pipeline", "train", "--preset", "camera", "--data", str(tmp_path / "clean")]
    overrides = ["training.steps=1000000", "training.minutes=4", "training.checkpoint_seconds=2", "data.crop=32"]
    overrides += ["network.width=8", "network.depth=1", "training.batch=5", "cluster.workers=2"]
    overrides += ["cluster.min_workers=1", "cluster.threads=2", "cluster.synthesizers=1", "cluster.max_failures=-1"]
    process = subprocess.Popen(
        [*command, "--out", str(run), "--json", *overrides],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(process, run, lambda rows: rows and rows[-1]["workers"] == 1)
        node = cluster.add_node(num_cpus=2)
        wait_for(process, run, lambda rows: rows[-1]["workers"] == 2)
        drain(cluster, node)
        deadline = time.monotonic() + 60
        while "a node is about to be taken away: saved a checkpoint" not in (run / "log.jsonl").read_text():
            assert time.monotonic() < deadline, "the notice of preemption is not seen"
            time.sleep(0.5)
        cluster.remove_node(node, allow_graceful=False)
        wait_for(process, run, lambda rows: rows[-1]["workers"] == 1)
        process.terminate()
        _, stderr = process.communicate(timeout=120)
        assert "stopped on request" in stderr
    finally:
        process.kill()
        cluster.shutdown()
    rows = read_history(run)
    assert [row["step"] for row in rows] == list(range(10, rows[-1]["step"] + 1, 10)), "no step is lost or doubled"
    counts = [row["workers"] for row in rows]
    changes = [counts[0]] + [late for early, late in itertools.pairwise(counts) if late != early]
    assert changes == [1, 2, 1]
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses: dict[int, float] = {}
    previous = began = 0
    for row in (line for line in lines if "loss" in line):
        if row["step"] <= previous:
            began = row["step"]
        previous = row["step"]
        first = losses.setdefault(row["step"], row["loss"])
        # What was trained twice was the same, whatever the number of workers, up to the order of sums. Their
        # rounding grows from step to step, so only what follows a restart closely tells.
        if began and row["step"] < began + 100:
            assert row["loss"] == pytest.approx(first, rel=1e-3), row["step"]
