"""What MLflow has missed is sent later: rows of a driver that died, and everything while the store was away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import load_config
from pipeline.errors import RunError
from pipeline.tracking import Tracker
from pipeline.training.follow import environment, following, open_tracker
from pipeline.training.history import Log


def row(step: int) -> dict[str, Any]:
    return {"step": step, "loss": 1 / step, "time": 1000.0 + step}


def steps_at(tracker: Tracker) -> list[int]:
    import mlflow

    return [point.step for point in mlflow.MlflowClient().get_metric_history(tracker.run_id, "loss")]


def test_a_resumed_run_sends_the_rows_that_never_arrived_and_none_twice(tmp_path: Path) -> None:
    tracker = Tracker("follow", run_name="late")
    log = Log(tmp_path)
    with following(tmp_path, tracker, lambda *_: None):
        log.append(row(10))
    for step in (20, 30):  # trained by workers whose driver was gone
        log.append(row(step))
    shown: list[int] = []
    again = Tracker("follow", run_name="late", run_id=tracker.run_id)
    with following(tmp_path, again, lambda what, value: shown.append(value["step"]) if what == "row" else None):
        log.append(row(40))
    assert steps_at(again) == [10, 20, 30, 40]
    assert shown == [40], "old rows are sent, and not shown again"


def test_a_run_goes_on_without_its_server_and_a_new_one_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Tracker("follow", run_name="away")
    store = known.mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somebody:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RunError, match="does not answer"):
        Tracker("follow", run_name="new")
    away = Tracker("follow", run_name="away", run_id=known.run_id)
    away.start({"a": 1}, {"tag": "x"}, monitor=False)
    away.rows([row(10)])
    (tmp_path / "picture.txt").write_text("a picture")
    away.artifact(tmp_path / "picture.txt", "pictures")
    assert away.problem
    assert "secret" not in away.problem
    assert away.last_step("loss") is None
    # The store is back: the same tracker, pointed at where the run is.
    away._client = known.mlflow.MlflowClient(store, store)
    assert away.send(now=True)
    assert away.problem is None
    found = away._client.get_run(known.run_id)
    assert found.data.params == {"a": "1"}
    assert found.data.tags["tag"] == "x"
    assert [point.step for point in away._client.get_metric_history(known.run_id, "loss")] == [10]
    assert [item.path for item in away._client.list_artifacts(known.run_id, "pictures")] == ["pictures/picture.txt"]


def test_the_environment_of_a_start_is_written_down_and_sent(photo_folder: Path, tmp_path: Path) -> None:
    import torch

    config = load_config(preset="camera", overrides=["tracking.experiment=follow"], data=str(photo_folder))
    for name in ("config.json", "manifest.json"):
        (tmp_path / name).write_text("{}")
    tracker = open_tracker(config, tmp_path, {"hash": "x"})
    tracker.finish("FINISHED")
    stored = json.loads((tmp_path / "environment.json").read_text())
    assert stored == environment()
    assert stored["packages"]["torch"] == torch.__version__
    client = tracker.mlflow.MlflowClient()
    assert "environment.json" in [item.path for item in client.list_artifacts(tracker.run_id)]
