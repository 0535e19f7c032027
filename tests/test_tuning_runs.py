"""What MLflow's real server is told of trials while it comes and goes; the trials' events are played, without Ray."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.config import dump, load_config
from tests.tracking_server import free_port
from tuning.plan import Plan
from tuning.runs import TrialRuns
from tuning.space import first_points, overrides, trial_key

RUNGS = (1, 3, 9)


class Switch:
    """A way to MLflow's server that can be closed and opened again."""

    def __init__(self, target: str) -> None:
        self.port = free_port()
        self._target = target
        self._server: ThreadingHTTPServer | None = None

    def on(self) -> None:
        target = self._target

        class Way(BaseHTTPRequestHandler):
            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
                kept = {"Content-Type": "application/json"}
                request = urllib.request.Request(target + self.path, body, kept, method=self.command)
                try:
                    answer = urllib.request.urlopen(request, timeout=250)
                except urllib.error.HTTPError as error:
                    answer = error
                with answer:
                    content = answer.read()
                    self.send_response(answer.status)
                    self.end_headers()
                    self.wfile.write(content)

            do_GET = do_POST = do_PATCH = _pass_on  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Way)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def off(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's REST server by itself, which starts in less time than all of `mlflow server`."""
    from mlflow.server import ARTIFACT_ROOT_ENV_VAR, BACKEND_STORE_URI_ENV_VAR

    base, port = tmp_path_factory.mktemp("server"), free_port()
    serve = "import sys; from mlflow.server import app; app.run('127.0.0.1', int(sys.argv[1]), threaded=True)"
    stores = {BACKEND_STORE_URI_ENV_VAR: f"sqlite:///{base / 'm.db'}", ARTIFACT_ROOT_ENV_VAR: str(base / "files")}
    with (base / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", serve, str(port)],
            cwd=base,
            env={**os.environ, **stores, "MLFLOW_DISABLE_TELEMETRY": "true"},
            stdout=log,
            stderr=log,
        )
    uri = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 250
    while True:
        assert process.poll() is None, (base / "log").read_text()
        assert time.monotonic() < deadline, (base / "log").read_text()
        try:
            # The first request makes the tables.
            first = f"{uri}/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
            urllib.request.urlopen(first, timeout=250).close()
            break
        except OSError:
            time.sleep(0.1)
    yield uri
    process.kill()
    process.wait()


@pytest.fixture
def switch(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Switch]:
    found = Switch(server)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{found.port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    found.on()
    yield found
    found.off()


class World:
    """A search of three trials whose events are played by hand."""

    def __init__(self, folder: Path, out: Path) -> None:
        experiment = f"tracking.experiment={out.parent.name}"
        config = load_config(preset="quick", overrides=[experiment], data=str(folder))
        self.plan = Plan(config=dump(config), samples=3, seed=0, objectives=["blind_l1"])
        self.out = out
        self.trials = [
            SimpleNamespace(config=point, trial_id=f"a_{number:05d}", error_file=None)
            for number, point in enumerate(first_points(config, 0)[:3])
        ]
        self.keys = [trial_key(overrides(config, trial.config)) for trial in self.trials]
        (out / "trials").mkdir(parents=True)

    def open(self) -> TrialRuns:
        runs = TrialRuns(self.out, self.plan, "blind", lambda *_: None)
        runs.parent.start({"samples": 3}, {"score": "blind"}, monitor=False)
        return runs

    def report(self, runs: TrialRuns, number: int, rung: int) -> None:
        row = {"step": rung, "rung": rung, "score": number + 1 / rung, "loss": 0.5, "seconds": 1.0, "pid": 1}
        runs.on_trial_result(trial=self.trials[number], result={**row, "logged_at": 1000.0 + rung})

    def play(self, runs: TrialRuns, number: int) -> None:
        runs.on_trial_start(trial=self.trials[number])
        for rung in RUNGS:
            self.report(runs, number, rung)
        runs.on_trial_complete(trial=self.trials[number])

    def tracked(self, run_id: str) -> tuple[str, dict[str, tuple[str, list[float]]]]:
        """Status of the parent; of each trial that of its one run, and its scores."""
        import mlflow

        client = mlflow.MlflowClient()
        parent = client.get_run(run_id)
        everything = client.search_runs([parent.info.experiment_id])
        children = [run for run in everything if run.data.tags.get("mlflow.parentRunId") == run_id]
        assert len(everything) == 1 + len(children)
        assert sorted(run.data.tags["trial"] for run in children) == sorted(self.keys)
        return parent.info.status, {
            run.data.tags["trial"]: (
                run.info.status,
                [point.value for point in client.get_metric_history(run.info.run_id, "blind")],
            )
            for run in children
        }

    def whole(self) -> tuple[str, dict[str, tuple[str, list[float]]]]:
        scores = {key: [number + 1 / rung for rung in RUNGS] for number, key in enumerate(self.keys)}
        return "FINISHED", {key: ("FINISHED", values) for key, values in scores.items()}


@pytest.fixture
def world(photo_folder: Path, tmp_path: Path) -> World:
    return World(photo_folder, tmp_path / "search")


def away_from_the_second_rung_on(world: World, switch: Switch) -> TrialRuns:
    runs = world.open()
    runs.on_trial_start(trial=world.trials[0])
    world.report(runs, 0, 1)
    switch.off()
    for rung in RUNGS[1:]:
        world.report(runs, 0, rung)
    runs.on_trial_complete(trial=world.trials[0])
    world.play(runs, 1)
    return runs


def test_a_server_that_comes_back_before_the_end_has_everything(world: World, switch: Switch) -> None:
    runs = away_from_the_second_rung_on(world, switch)
    switch.on()
    world.play(runs, 2)
    assert runs.close("FINISHED") == ""
    assert world.tracked(runs.parent.run_id) == world.whole()


def test_a_server_that_does_not_is_told_by_resuming_and_nothing_twice(
    world: World, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = away_from_the_second_rung_on(world, switch)
    asked: list[str] = []
    note_requests(monkeypatch, asked)
    world.play(runs, 2)
    assert asked == []  # it did not answer a moment ago, and no trial waits for it again
    line = runs.close("FINISHED")
    assert line.startswith(f"tracking: http://127.0.0.1:{switch.port} has not all of 3 of 3 trials; --resume sends it")
    assert len(line.splitlines()) == 1
    assert len(asked) == 1
    switch.on()
    again = world.open()
    assert again.parent.run_id == runs.parent.run_id
    for number in range(3):
        world.play(again, number)
    assert again.close("FINISHED") == ""
    assert world.tracked(runs.parent.run_id) == world.whole()


def note_requests(monkeypatch: pytest.MonkeyPatch, asked: list[str]) -> None:
    """Have every request of this process noted."""
    import requests

    send: Callable[..., Any] = requests.Session.send

    def noted(self: requests.Session, request: requests.PreparedRequest, **more: Any) -> Any:
        asked.append(str(request.url))
        return send(self, request, **more)

    monkeypatch.setattr(requests.Session, "send", noted)
