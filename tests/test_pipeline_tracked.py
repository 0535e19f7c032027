"""An evaluation in MLflow, on a real SQLite store: read back from the run, and found from the registered version."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RunError
from pipeline.evaluation.evaluation_values import legal_names
from pipeline.evaluation.tracked import run_url, track_evaluation
from pipeline.home import home
from pipeline.registry.links import EVALUATION_TAG, find_link
from pipeline.registry.store import register, register_weights
from tests.registered import weights

Run = Callable[..., tuple[int, dict[str, Any] | None, str]]
PSNR, SSIM = "psnr_rgb_u8", "ssim_gauss11_rgb"


def metrics(psnr: float | None, ssim: float = 0.9) -> dict[str, Any]:
    interval = None if psnr is None else [psnr - 1, psnr + 1]
    return {
        PSNR: {"mean": psnr, "interval": interval, "n": 2},
        SSIM: {"mean": ssim, "interval": [ssim - 0.01, ssim + 0.01], "n": 2},
    }


def method(values: dict[str, Any], blind: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"metrics": values, "seconds_per_megapixel": 1.5, "visible_offsets": 0, "blind": blind}


def evaluation(**change: Any) -> dict[str, Any]:
    """As `unveil evaluate` makes it: pairs by name, and photos without a clean partner."""
    blind = {"noise_left": 0.12, "reliable": True, "drift_by_channel_255": [0.1, 0.0, 0.2], "drift_255": None}
    rows = [
        {
            "name": f"a/{index}",
            "pixels": 4096,
            "detail": 3.0,
            "brightness": 0.4,
            "methods": {
                "noisy": {"metrics": {PSNR: 20.0 + index, SSIM: 0.5}},
                "ours": {"metrics": {PSNR: None, SSIM: 0.9}, "seconds": 0.4, "blind": {"noise_left": 0.1}},
            },
        }
        for index in range(2)
    ]
    pairs = {
        "name": "kodak24 poisson 3.5",
        "kind": "synthetic",
        "data": "data/kodak24",
        "layout": "clean",
        "noise": {"recipe": "poisson", "level": 3.5, "seed": 1},
        "hash": "ab" * 32,
        "n": 2,
        "available": 24,
        "unpaired": [],
        "methods": {
            "noisy": method(metrics(20.5, 0.5)),
            "ours": method(metrics(31.25)),
            "equal": method(metrics(None)),
        },
        "images": rows,
        "paired": [
            {"a": "ours", "b": "noisy", "metric": PSNR, "difference": 10.75, "interval": [9.0, 12.0], "p": 0.01}
        ],
    }
    photos = {
        **pairs,
        "name": "my/photos: best?",
        "kind": "photos",
        "noise": None,
        "hash": "cd" * 32,
        "methods": {"noisy": method({}), "ours": method({}, blind)},
        "images": [],
        "paired": [],
    }
    return {
        "format": 2,
        "unveil": "0.9.0",
        "protocol": {"name": "unveil", "text": "full images, 8-bit rounding, mean of per-image values"},
        "metrics": [PSNR, SSIM],
        "definitions": {PSNR: "decibels", SSIM: "similarity"},
        "models": [{"label": "ours", "ref": "runs/ours", "sha256": "ef" * 32, "mode": {"passes": 1}, "seed": 0}],
        "baselines": ["equal"],
        "sets": [pairs, photos],
        "groups": [],
        **change,
    }


def client() -> Any:
    import mlflow

    return mlflow.MlflowClient()


def test_a_run_holds_parameters_metrics_tables_report_and_data(tmp_path: Path) -> None:
    report, picture, other = tmp_path / "report.html", tmp_path / "a.png", tmp_path / "sub" / "a.png"
    other.parent.mkdir()
    for path in (report, picture, other):
        path.write_bytes(b"x" + bytes(str(path), "utf-8"))
    made = track_evaluation(evaluation(), report=report, pictures=[picture, other], models=[("ours", str(tmp_path))])
    assert (made["url"], made["notes"], made["experiment"]) == (None, [], "unveil-evaluations")
    run = client().get_run(made["run_id"])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "ours on kodak24 poisson 3.5 and 1 more"
    found = run.data.metrics
    assert found[f"kodak24 poisson 3.5/ours/{PSNR}"] == 31.25
    assert found[f"kodak24 poisson 3.5/noisy/{SSIM}"] == 0.5
    # What is infinite or a list is no metric; a colon and a slash are no part of a name.
    assert f"kodak24 poisson 3.5/equal/{PSNR}" not in found
    assert found["my_photos_ best_/ours/noise_left"] == 0.12
    assert not [name for name in found if "drift" in name]
    assert made["metrics"] == len(found)
    parameters = run.data.params
    assert (parameters["protocol"], parameters["metrics"]) == ("unveil", f"{PSNR}, {SSIM}")
    assert parameters["set.kodak24 poisson 3.5.hash"] == "ab" * 32
    assert json.loads(parameters["set.kodak24 poisson 3.5.noise"])["level"] == 3.5
    assert parameters["model.ours.sha256"] == "ef" * 32
    assert "31.25" in run.data.tags["mlflow.note.content"]
    inputs = {each.dataset.name: each for each in run.inputs.dataset_inputs}
    assert set(inputs) == {"kodak24 poisson 3.5", "my/photos: best?"}
    assert inputs["my/photos: best?"].dataset.digest == ("cd" * 32)[:36]
    assert [(tag.key, tag.value) for tag in inputs["my/photos: best?"].tags] == [("mlflow.data.context", "evaluation")]
    names = {
        file.path
        for folder in ("report", "pictures", "pictures/0")
        for file in client().list_artifacts(made["run_id"], folder)
    }
    assert {"report/report.html", "pictures/0/a.png"} <= names
    assert Path(client().download_artifacts(made["run_id"], "pictures/1/a.png")).read_bytes() == other.read_bytes()
    kept = json.loads(Path(client().download_artifacts(made["run_id"], "evaluation.json")).read_text())
    assert kept == evaluation()


def test_tables_are_there_for_all_sets_and_for_every_picture() -> None:
    run_id = track_evaluation(evaluation())["run_id"]
    experiment = client().get_run(run_id).info.experiment_id
    summary = client().load_table(experiment, "tables/summary.json", [run_id])
    assert list(zip(summary["set"], summary["method"], strict=True))[:2] == [
        ("kodak24 poisson 3.5", "noisy"),
        ("kodak24 poisson 3.5", "ours"),
    ]
    ours = summary[(summary["method"] == "ours") & (summary["pictures"] == 2)].iloc[0]
    assert (ours[PSNR], ours[f"{PSNR} low"], ours[f"{PSNR} high"]) == (31.25, 30.25, 32.25)
    images = client().load_table(experiment, "tables/images/kodak24 poisson 3.5.json", [run_id])
    assert list(images["image"]) == ["a/0", "a/0", "a/1", "a/1"]
    assert images[images["method"] == "noisy"][PSNR].tolist() == [20.0, 21.0]
    paired = client().load_table(experiment, "tables/paired.json", [run_id])
    assert paired.iloc[0][["set", "difference", "low"]].tolist() == ["kodak24 poisson 3.5", 10.75, 9.0]


def test_an_evaluation_is_found_from_the_registered_version(tmp_path: Path, unveil: Run) -> None:
    register_weights(weights(tmp_path / "w"), experiment="registry", model="judged", alias="champion")
    made = track_evaluation(evaluation(), models=[("ours", "models:/judged@champion")])
    (link,) = made["linked"]
    assert (link["name"], link["version"]) == ("judged", 1)
    version = client().get_model_version("judged", "1")
    facts = json.loads(version.tags[EVALUATION_TAG + "kodak24 poisson 3.5"])
    assert (facts["run_id"], facts["metric"], facts["value"], facts["noisy"]) == (made["run_id"], PSNR, 31.25, 20.5)
    assert facts["weights_sha256"] == "ef" * 32
    assert json.loads(version.tags[EVALUATION_TAG + "my_photos_ best_"])["value"] is None
    # The page of the logged model, which that of the version leads to, holds the metrics with their data set.
    logged = client().get_logged_model(link["model_id"])
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "judged", "version": 1}]
    kept = {metric.key: metric for metric in logged.metrics}
    metric = kept[f"kodak24 poisson 3.5/ours/{PSNR}"]
    assert (metric.value, metric.dataset_name, metric.run_id) == (31.25, "kodak24 poisson 3.5", made["run_id"])
    assert not [name for name in kept if "/noisy/" in name]
    run = client().get_run(made["run_id"])
    assert [model.model_id for model in run.inputs.model_inputs] == [link["model_id"]]
    assert run.data.params["model.ours.registered"] == "models:/judged/1"

    _, rows, _ = unveil("models", "list", "--json")
    assert rows is not None
    (row,) = [row for row in rows["models"] if row["model"] == "judged"]
    assert row["evaluations"]["kodak24 poisson 3.5"]["run_id"] == made["run_id"]
    code, shown, _ = unveil("models", "show", "models:/judged/1", "--no-measure", "--json")
    assert code == 0
    assert shown is not None
    assert shown["evaluations"] == row["evaluations"]


def test_models_show_prints_the_evaluations_of_a_version(
    tmp_path: Path, unveil: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    register_weights(weights(tmp_path / "w"), experiment="registry", model="told", alias="champion")
    track_evaluation(evaluation(), models=[("ours", "models:/told/1")])
    code, _, stderr = unveil("models", "show", "models:/told/1", "--no-measure")
    assert code == 0
    assert "evaluated on kodak24 poisson 3.5" in stderr
    assert f"{PSNR} 31.25, noisy 20.5, n 2; run " in stderr


def test_a_run_folder_leads_to_its_run_model_and_version(tmp_path: Path) -> None:
    from pipeline.tracking import Tracker

    folder = tmp_path / "run"
    weights(folder / "weights")
    tracker = Tracker("trained", run_name="run")
    for model in ("a-sibling", "grown"):
        register(folder / "weights", run_id=tracker.run_id, model=model, alias="champion")
    register(folder / "weights", run_id=tracker.run_id, model="grown", alias="champion")
    tracker.finish("FINISHED")
    # MLflow lists what was changed last first.
    client().set_model_version_tag("a-sibling", "1", "seen", "yes")
    (folder / "mlflow.json").write_text(json.dumps({"run_id": tracker.run_id}))
    for ref in (str(folder), str(folder / "weights"), f"runs:/{tracker.run_id}"):
        link = find_link("ours", ref)
        assert (link.run_id, link.name, link.version) == (tracker.run_id, "grown", 2), ref
        assert link.model_id == find_link("x", "models:/grown/2").model_id
    # Other weights of the run are not what was registered.
    shutil.copytree(folder / "weights", folder / "best")
    assert find_link("ours", str(folder / "best")).run_id is None
    made = track_evaluation(evaluation(), models=[("ours", str(folder))])
    assert client().get_run(made["run_id"]).data.params["model.ours.trained_by_run"] == tracker.run_id
    assert EVALUATION_TAG + "kodak24 poisson 3.5" in client().get_model_version("grown", "2").tags
    assert not any(name.startswith(EVALUATION_TAG) for name in client().get_model_version("grown", "1").tags)


def test_a_model_that_is_gone_costs_its_link_only(tmp_path: Path) -> None:
    made = track_evaluation(
        evaluation(), report=tmp_path / "none.html", models=[("ours", "models:/nobody@champion"), ("b", "runs/ours")]
    )
    assert [link["model_id"] for link in made["linked"]] == [None, None]
    assert len(made["notes"]) == 2
    assert made["notes"][0].startswith("models:/nobody@champion is not linked: ")
    assert made["notes"][1].endswith("none.html: not there, left out")
    assert client().get_run(made["run_id"]).info.status == "FINISHED"


def test_a_server_that_is_away_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RunError) as caught:
        track_evaluation(evaluation(), models=[("ours", "models:/judged@champion")])
    line = str(caught.value)
    assert line.startswith("--track: MLFLOW_TRACKING_URI: http://ada:***@127.0.0.1:9 does not answer: ")
    assert "\n" not in line
    assert "secret" not in line


def test_a_store_that_fails_on_the_way_leaves_a_failed_run_and_one_line(tmp_path: Path) -> None:
    import mlflow

    track_evaluation(evaluation(), experiment="broken")
    place = home() / "artifacts" / "broken"
    shutil.rmtree(place)
    place.write_text("a file where a folder was")
    with pytest.raises(RunError, match=r"^--track: ") as caught:
        track_evaluation(evaluation(), experiment="broken")
    assert "\n" not in str(caught.value)
    runs = client().search_runs([mlflow.get_experiment_by_name("broken").experiment_id], order_by=["start_time DESC"])
    assert sorted(run.info.status for run in runs) == ["FAILED", "FINISHED"]


def test_names_from_elsewhere_stay_apart_and_legal() -> None:
    long = "x" * 300
    found = legal_names(["a:b", "a?b", "a/b", "..", "", long, long + "y", "a:b", "a_b_2"])
    assert len(set(found.values())) == len(found) == 8
    assert found["a:b"] == "a_b"
    names = ["a:b", "a?b", "a/b", "..", long, long + "y"]
    sets = [{**evaluation()["sets"][0], "name": name} for name in names]
    labels = {f"m{name}": method(metrics(30.0)) for name in names}
    made = track_evaluation(evaluation(sets=[{**one, "methods": labels} for one in sets]))
    assert len(client().get_run(made["run_id"]).data.metrics) == made["metrics"] == 4 * len(names) ** 2


def test_many_sets_are_sent_in_parts_that_mlflow_takes() -> None:
    sets = [{**evaluation()["sets"][0], "name": f"set {index}", "images": []} for index in range(120)]
    made = track_evaluation(evaluation(sets=sets))
    run = client().get_run(made["run_id"])
    assert len(run.data.metrics) == made["metrics"] == 120 * (4 + 4 + 3)
    assert len(run.inputs.dataset_inputs) == 120
    assert "and 80 more sets" in run.data.tags["mlflow.note.content"]


def test_the_note_of_a_run_holds_no_markdown_from_elsewhere() -> None:
    evil = "x | [click](http://evil) <b>\n# big"
    one = evaluation()["sets"][0]
    made = track_evaluation(evaluation(sets=[{**one, "name": evil, "methods": {evil: method(metrics(30.0))}}]))
    note = client().get_run(made["run_id"]).data.tags["mlflow.note.content"]
    assert "[click]" not in note.replace("\\[", "").replace("\\]", "")
    assert "<b>" not in note.replace("\\<", "")
    assert "\n# big" not in note
    assert "\\|" in note


def test_the_page_of_a_run_is_told_without_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ada:p@ss@tracking.example:5000/mlflow/")
    assert run_url("3", "ab12") == "https://tracking.example:5000/mlflow/#/experiments/3/runs/ab12"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///x.db")
    assert run_url("3", "ab12") is None
