"""Faults on a real local Ray cluster of several nodes, many of each kind: nothing lost, the same weights to the bit.

    python tests/benchmarks/faults.py --out faults.json [--rounds 20] [--faults 12] [--steps 2500] [--first 0]

A cluster (a head without CPUs, two worker nodes) and an MLflow server are started on this machine. A run of `unveil
train` with two DDP workers and two synthesizers is left alone once; then each round repeats it with `--faults` faults,
drawn with the round's number as seed, at random steps: kill -9 or freeze (SIGSTOP) a synthesizer or a trainer, kill -9
or SIGTERM the whole job and resume it, kill -9 all processes of a node, kill -9 the MLflow server, fill the disk of the
run folder (a small tmpfs; needs root, left out otherwise).

After each round: final weights equal to those of the undisturbed run to the bit; every step's loss in the log once and
equal; every step's loss at the MLflow server; steps repeated after each interruption, as time of training. Goes on
where an earlier call with the same --out stopped, and writes a table beside it as Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT_SECONDS = 2.0
KINDS = (
    "kill synthesizer",
    "kill trainer",
    "freeze synthesizer",
    "freeze trainer",
    "kill job",
    "stop job (SIGTERM)",
    "kill node",
    "kill MLflow server",
    "fill disk",
)
WEIGHTS = (7, 4, 3, 1, 2, 2, 2, 2, 2)
"""How often each kind is drawn: the cheap ones more often."""


class World:
    """The cluster, the server, the images and the folder of one round's run."""

    def __init__(self, base: Path, steps: int) -> None:
        import imageio.v3 as iio
        from ray.cluster_utils import Cluster
        from skimage import data

        self.base, self.steps = base, steps
        (base / "clean").mkdir()
        for index in range(2):
            iio.imwrite(base / "clean" / f"{index}.png", data.astronaut()[:, 200 * index : 200 * index + 200])
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self.nodes = [self.cluster.add_node(num_cpus=4) for _ in range(2)]
        self.uri = "http://127.0.0.1:5077"
        self.server: subprocess.Popen[bytes] | None = None
        self.bounce: threading.Thread | None = None
        self.start_server()
        self.disk = base / "disk"
        self.disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(self.disk)], capture_output=True, check=False
        )
        self.small_disk = mounted.returncode == 0

    def start_server(self) -> None:
        """Start MLflow's server on the SQLite file of this world, and wait until it answers."""
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_WORKERS": "1"}
        places = ["--backend-store-uri", f"sqlite:///{self.base}/mlflow.db"]
        places += ["--artifacts-destination", str(self.base / "artifacts")]
        self.server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *places, "--port", "5077", "--host", "127.0.0.1"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                import urllib.request

                urllib.request.urlopen(f"{self.uri}/health", timeout=2)
                return
            time.sleep(0.3)
        raise RuntimeError("the MLflow server does not start")

    def kill_server(self) -> None:
        """kill -9 the server and its workers."""
        assert self.server is not None
        os.killpg(self.server.pid, signal.SIGKILL)
        self.server.wait()

    def bounce_server(self, seconds: float) -> None:
        """Kill the server and start it again after a while; the run goes on meanwhile."""
        if self.bounce:
            self.bounce.join()
        self.kill_server()

        def start_again() -> None:
            time.sleep(seconds)
            self.start_server()

        self.bounce = threading.Thread(target=start_again)
        self.bounce.start()

    def train(self, *more: str) -> subprocess.Popen[str]:
        """Start `unveil train` into the round's folder."""
        overrides = [
            f"training.steps={self.steps}",
            "training.minutes=0",
            f"training.checkpoint_seconds={CHECKPOINT_SECONDS}",
            "training.log_every=5",
            "training.picture_seconds=5",
            "data.crop=32",
            "network.width=8",
            "network.depth=1",
            "cluster.workers=2",
            "cluster.threads=1",
            "cluster.synthesizers=2",
            "cluster.max_failures=-1",
            "cluster.patience_seconds=10",
            "feed.patience_seconds=2",
        ]
        environment = {
            **os.environ,
            "RAY_ADDRESS": self.cluster.address,
            "MLFLOW_TRACKING_URI": self.uri,
            "UNVEIL_HOME": str(self.base / "home"),
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "pipeline", "train", "--preset", "camera"]
        return subprocess.Popen(
            [*command, "--data", str(self.base / "clean"), "--out", str(self.run), "--json", *more, *overrides],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.disk / "run"

    def processes(self, title: str) -> list[psutil.Process]:
        """Return the processes of this cluster whose command line has the title."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            line = " ".join(process.info["cmdline"] or [])
            if line.startswith("ray::") and title in line and os.getpid() in (p.pid for p in process.parents()):
                found.append(process)
        return found

    def close(self) -> None:
        """Stop everything and take the small disk away."""
        if self.bounce:
            self.bounce.join()
        self.kill_server()
        self.cluster.shutdown()
        if self.small_disk:
            subprocess.run(["umount", str(self.disk)], check=False)


def rows(run: Path) -> list[dict[str, Any]]:
    """Return all rows with a loss as they stand in the log, repeated ones too."""
    with contextlib.suppress(OSError):
        lines = (run / "log.jsonl").read_bytes().splitlines()
        found = []
        for line in lines:
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [row for row in found if "loss" in row]
    return []


class Round:
    """One run with faults."""

    def __init__(self, world: World, number: int, count: int) -> None:
        self.world = world
        self.random = random.Random(number)
        kinds = [kind for kind in KINDS if world.small_disk or kind != "fill disk"]
        weights = [WEIGHTS[KINDS.index(kind)] for kind in kinds]
        self.faults = self.random.choices(kinds, weights, k=count)
        span = world.steps - 100
        self.at = sorted(self.random.randrange(20, span) for _ in range(count))
        self.process = world.train()
        self.done: list[str] = []

    def play(self) -> dict[str, Any]:
        """Do all faults at their steps, wait for the end, and say what was found."""
        started = time.monotonic()
        for step, kind in zip(self.at, self.faults, strict=True):
            if not self._wait_for(step):
                break
            if self._do(kind):
                self.done.append(kind)
        if self.process.poll() is not None and self.process.returncode:
            self._fail()
        stdout, stderr = self.process.communicate(timeout=600)
        if self.process.returncode:
            raise RuntimeError(f"exit {self.process.returncode}: {stderr[-3000:]}")
        if len(stdout.splitlines()) != 1:
            raise RuntimeError(f"--json: expected one object on stdout, found {stdout}")
        return {
            "faults": self.done,
            "seconds": round(time.monotonic() - started, 1),
            "notes": [line for line in stderr.splitlines() if "waited" in line or "training goes on" in line][:8],
            **inspect(self.world, json.loads(stdout)["mlflow_run_id"]),
        }

    def _fail(self) -> None:
        _, stderr = self.process.communicate()
        raise RuntimeError(f"exit {self.process.returncode}: {stderr[-3000:]}")

    def _wait_for(self, step: int) -> bool:
        """Wait until the run has come to a step; False if it has ended before."""
        deadline = time.monotonic() + 400
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                return False
            found = rows(self.world.run)
            if found and found[-1]["step"] >= step and (list((self.world.run / "checkpoints").glob("step_*"))):
                return True
            time.sleep(0.05)
        raise RuntimeError(f"no step {step} within 400 s; faults so far: {self.done}")

    def _do(self, kind: str) -> bool:
        """Do one fault; False if there was nothing to do it to."""
        world = self.world
        if self.process.poll() is not None:
            return False
        verb, _, what = kind.partition(" ")
        if what in ("synthesizer", "trainer"):
            found = world.processes({"synthesizer": "Synthesizer", "trainer": "RayTrainWorker"}[what])
            if not found:
                return False
            self.random.choice(found).send_signal(signal.SIGKILL if verb == "kill" else signal.SIGSTOP)
        elif kind == "kill job":
            self.process.kill()
            self.process.communicate()
            self.process = world.train("--resume")
        elif kind.startswith("stop job"):
            self.process.terminate()
            _, stderr = self.process.communicate(timeout=120)
            if self.process.returncode == 0:
                return False
            assert "stopped on request" in stderr, stderr[-2000:]
            self.process = world.train("--resume")
        elif kind == "kill node":
            node = world.nodes.pop(self.random.randrange(2))
            world.cluster.remove_node(node, allow_graceful=False)
            world.nodes.append(world.cluster.add_node(num_cpus=4))
        elif kind == "kill MLflow server":
            world.bounce_server(self.random.uniform(1, 5))
        else:
            balloon = world.disk / "balloon"
            with contextlib.suppress(OSError), balloon.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            time.sleep(self.random.uniform(2, 6))
            balloon.unlink()
        return True


def inspect(world: World, run_id: str) -> dict[str, Any]:
    """Return weights, losses by step, repeated work, and whether MLflow has it all."""
    import mlflow

    run = world.run
    weights = hashlib.sha256((run / "weights" / "model.safetensors").read_bytes()).hexdigest()
    losses: dict[int, float] = {}
    unequal, repeated, last = 0, [], None
    for row in rows(run):
        if last is not None and row["step"] <= last["step"]:
            # The work between the last row before the interruption and the first one after it was done twice.
            repeated.append(round(last["seconds"] - row["seconds"], 2))
        # A mean over a resumed row is summed up in another order: equal to the last digits only.
        loss = float(f"{row['loss']:.12g}")
        unequal += row["step"] in losses and losses[row["step"]] != loss
        losses[row["step"]] = loss
        last = row
    client = mlflow.MlflowClient(world.uri)
    sent = {point.step for point in client.get_metric_history(run_id, "loss")}
    return {
        "weights": weights,
        "losses": hashlib.sha256(json.dumps(sorted(losses.items())).encode()).hexdigest(),
        "steps": len(losses),
        "unequal": unequal,
        "repeated_seconds": repeated,
        "missing_at_mlflow": len(losses.keys() - sent),
        "mlflow_status": client.get_run(run_id).info.status,
    }


@contextlib.contextmanager
def a_world(steps: int) -> Iterator[World]:
    """Set everything up and take it down."""
    base = Path(tempfile.mkdtemp(prefix="unveil-faults-"))
    world = World(base, steps)
    try:
        yield world
    finally:
        world.close()
        shutil.rmtree(base, ignore_errors=True)


def table(found: dict[str, Any]) -> str:
    """Return the counts as Markdown."""
    whole = found["undisturbed"]
    counts: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    for name, row in found.items():
        if name == "undisturbed":
            continue
        counts.update(row["faults"])
        good = row["weights"] == whole["weights"] and row["losses"] == whole["losses"] and not row["unequal"]
        if not good or row["missing_at_mlflow"] or row["mlflow_status"] != "FINISHED":
            bad.update(row["faults"])
    repeated = [seconds for name, row in found.items() for seconds in row["repeated_seconds"]]
    lines = ["| fault | injected | in runs with anything lost or different |", "|---|---|---|"]
    lines += [f"| {kind} | {counts[kind]} | {bad[kind]} |" for kind in KINDS if counts[kind]]
    lines.append(f"| all | {counts.total()} | {bad.total()} |")
    worst = f"{max(repeated):.1f}" if repeated else "0"
    lines.append(f"\n{len(found) - 1} runs; {len(repeated)} interruptions, at most {worst} s of training repeated.")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Play the rounds and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--faults", type=int, default=12)
    parser.add_argument("--steps", type=int, default=2500)
    options = parser.parse_args()
    found: dict[str, Any] = json.loads(options.out.read_text()) if options.out.is_file() else {}
    with a_world(options.steps) as world:
        if "undisturbed" not in found:
            found["undisturbed"] = Round(world, -1, 0).play()
        for number in range(options.first, options.first + options.rounds):
            if str(number) in found:
                continue
            shutil.rmtree(world.run, ignore_errors=True)
            found[str(number)] = row = Round(world, number, options.faults).play()
            same = row["weights"] == found["undisturbed"]["weights"]
            print(f"round {number}: {row['seconds']} s, {Counter(row['faults'])}, same weights {same}", flush=True)
            options.out.write_text(json.dumps(found, indent=1))
            options.out.with_suffix(".md").write_text(table(found))
    print(table(found))


if __name__ == "__main__":
    main()
