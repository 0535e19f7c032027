"""A search whose driver, server or node dies ends as one that was left alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.tracking_server import TrackingServer, free_port

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = 4
STEPS = 180
SMALL = [
    "network.width=4",
    "network.depth=1",
    "data.crop=32",
    "training.batch=2",
    f"training.steps={STEPS}",
    "training.minutes=0",
]
Found = dict[str, Any]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Search:
    """A search in a folder of its own, as a process."""

    def __init__(self, base: Path, name: str, photos: Path, **environment: str) -> None:
        self.out, self.log = base / name, base / f"{name}.log"
        self._photos = photos
        # Whether trials keep to one thread each must not hang on OMP_NUM_THREADS.
        own = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MLFLOW_", "RAY_"))}
        self._environment = {**own, "UNVEIL_HOME": str(base / "home"), **environment}

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        arguments = ["tune", "--data", str(self._photos), "--out", str(self.out), "--scheduler", "none", "--seeds", "1"]
        arguments += ["--objective", "blind_l1", "--samples", str(SAMPLES), *more, *SMALL]
        if "--resume" not in more:
            arguments += ["--preset", "quick"]
        with self.log.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "pipeline", *arguments],
                cwd=ROOT,
                env=self._environment,
                stdout=file,
                stderr=file,
            )

    def finish(self, driver: subprocess.Popen[bytes] | None = None, *more: str) -> None:
        assert (driver or self.start(*more)).wait() == 0, self.log.read_text()

    def wait_for(self, driver: subprocess.Popen[bytes], ninths: int) -> None:
        """Wait until the trials have saved so many ninths of a trial, all together."""
        while self._steps() < ninths * STEPS // 9:
            assert driver.poll() is None, self.log.read_text()
            time.sleep(0.02)

    def _steps(self) -> int:
        """Steps of the latest checkpoints."""
        latest: dict[Path, int] = {}
        for path in (self.out / "trials").glob("*/checkpoints/step_*"):
            with contextlib.suppress(ValueError):  # one that is being written has a suffix
                latest[path.parent] = max(latest.get(path.parent, 0), int(path.name.removeprefix("step_")))
        return sum(latest.values())

    def found(self) -> Found:
        """Number, state, steps and scores of each trial."""
        trials = json.loads((self.out / "tune.json").read_text("utf-8"))["trials"]
        return {
            trial["key"]: (trial["number"], trial["state"], [(row["step"], row["score"]) for row in trial["history"]])
            for trial in trials
        }

    def tracked(self, uri: str) -> tuple[str, Found]:
        """Status of the run of the search; of each trial, from a store where each has one run: status and scores."""
        import mlflow

        client = mlflow.MlflowClient(uri, uri)
        parent = json.loads((self.out / "mlflow.json").read_text("utf-8"))["run_id"]
        run = client.get_run(parent)
        children = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
        known = {child.data.tags["trial"]: child for child in children}
        assert len(known) == len(children)
        # Nothing but this search was ever written here.
        assert len(client.search_runs([run.info.experiment_id])) == 1 + len(children)
        scores = {
            key: [(point.step, point.value) for point in client.get_metric_history(child.info.run_id, "blind_l1_pd2")]
            for key, child in known.items()
        }
        return run.info.status, {key: (child.info.status, scores[key]) for key, child in known.items()}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, photo: Any) -> Path:
    import imageio.v3 as iio

    folder = tmp_path_factory.mktemp("photos")
    for index, (top, left) in enumerate([(0, 0), (80, 100), (150, 40)]):
        iio.imwrite(folder / f"photo_{index}.png", photo[top : top + 96, left : left + 96])
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Search:
    """A search that nothing disturbs."""
    search = Search(tmp_path_factory.mktemp("alone"), "search", photos)
    search.finish()
    return search


@pytest.fixture(scope="module")
def alone(undisturbed: Search) -> Found:
    """What that search finds."""
    found = undisturbed.found()
    assert {state for _, state, _ in found.values()} == {"finished"}
    return found


def test_a_search_killed_at_three_moments_holds_the_trials_and_scores_of_one_left_alone(
    photos: Path, alone: Found, tmp_path: Path
) -> None:
    search = Search(tmp_path, "killed", photos)
    resume: list[str] = []
    for moment in (4, 14, 24):
        driver = search.start(*resume)
        search.wait_for(driver, moment)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        resume = ["--resume"]
    search.finish(None, "--resume")
    assert search.found() == alone
    assert search.tracked(f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}") == ("FINISHED", as_tracked(alone))


@pytest.mark.parametrize("fate", ["comes back", "is gone", "hangs"])
def test_a_search_does_without_its_mlflow_server_and_tells_it_later(
    fate: str, photos: Path, alone: Found, tmp_path: Path
) -> None:
    (tmp_path / "server").mkdir()
    with TrackingServer(tmp_path / "server") as server:
        # Seconds in place of a quarter of a minute, for a server that hangs.
        search = Search(tmp_path, "away", photos, MLFLOW_TRACKING_URI=server.uri, MLFLOW_HTTP_REQUEST_TIMEOUT="2")
        driver = search.start()
        search.wait_for(driver, 4)
        server.send(signal.SIGSTOP if fate == "hangs" else signal.SIGKILL)
        search.wait_for(driver, 20)
        if fate == "comes back":
            # The search must not be over before the server is up.
            driver.send_signal(signal.SIGSTOP)
            server.start()
            driver.send_signal(signal.SIGCONT)
        search.finish(driver)
        assert search.found() == alone
        said = [line for line in search.log.read_text().splitlines() if "tracking: " in line]
        if fate == "comes back":
            assert said == []
        else:
            (line,) = said
            assert f"tracking: {server.uri} has not all of " in line
            assert "--resume sends it" in line
            server.send(signal.SIGCONT) if fate == "hangs" else server.start()
            search.finish(None, "--resume")
            assert search.found() == alone
            assert search.log.read_text().count("tracking: ") == 1
        assert search.tracked(server.uri) == ("FINISHED", as_tracked(alone))


def test_trials_take_one_processor_each_and_no_more_run_at_once_than_there_are(undisturbed: Search) -> None:
    logs = sorted(undisturbed.out.glob("trials/*/log.jsonl"))
    assert len(logs) == SAMPLES
    spans = []
    for log in logs:
        rows = [row for row in map(json.loads, log.read_text().splitlines()) if row.get("event") == "cost"]
        assert [row["rung"] for row in rows] == [9]
        clock, cpu = (sum(sum(row[kind].values()) for row in rows) for kind in ("clock", "cpu"))
        assert sum(row["cpu"]["steps"] for row in rows) > 0
        # Threads of Ray's beside the trial's own take what they take; a second one at work would double it.
        assert cpu < 1.2 * clock
        spans.append((rows[0]["time"] - sum(rows[0]["clock"].values()), rows[-1]["time"]))
    most = max(sum(begin <= at < end for begin, end in spans) for at, _ in spans)
    assert most <= (os.cpu_count() or 1)


def as_tracked(found: Found) -> Found:
    return {key: ("FINISHED", scores) for key, (_, _, scores) in found.items()}


def test_a_search_that_loses_a_node_holds_the_trials_and_scores_of_one_left_alone(
    photos: Path, alone: Found, tmp_path: Path
) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "dashboard_port": free_port()})
    try:
        node = cluster.add_node(num_cpus=1)
        search = Search(tmp_path, "lost", photos, RAY_ADDRESS=cluster.address)
        driver = search.start()
        search.wait_for(driver, 6)
        (pid,) = trainers(node)
        cluster.remove_node(node, allow_graceful=False)
        search.finish(driver)
        assert not psutil.pid_exists(pid)
    finally:
        cluster.shutdown()
    assert search.found() == alone
    assert search.tracked(f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}") == ("FINISHED", as_tracked(alone))


def trainers(node: Any) -> list[int]:
    """Return the processes of a node that run trials."""
    (raylet,) = node.all_processes["raylet"]
    children = psutil.Process(raylet.process.pid).children(recursive=True)
    return [child.pid for child in children if "ImplicitFunc" in " ".join(child.cmdline())]
