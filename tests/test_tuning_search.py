"""The search on a real Ray: trials, scores, deaths, resumes, and what is left in MLflow and on disk."""

from __future__ import annotations

import json
import os
import signal
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from models import Network, UNetSpec, build
from pipeline.config import dump, load_config
from pipeline.data.source import BatchSource, SourceSpec
from pipeline.errors import RunError, UserError
from pipeline.schema import TrainConfig
from pipeline.training.history import read_history
from tuning.judge import HELD_OUT_BATCH, Judge
from tuning.objective import Job, run_trial, trial_folder
from tuning.plan import Plan, read_plan, store_plan
from tuning.score import choose_scores, split_source
from tuning.space import first_points, overrides, trial_key
from tuning.toml import to_toml

SMALL = [
    "network.width=4",
    "network.depth=1",
    "data.crop=32",
    "training.batch=2",
    "training.steps=10",
    # Bounded by steps alone: a trial bounded by the clock cannot be repeated bit for bit.
    "training.minutes=0",
]

TINY_SWIN = ["network.dim=8", "network.depths=[2]", "network.heads=[2]", "network.window=4"]


def small(folder: Path, *more: str, preset: str = "quick") -> TrainConfig:
    return load_config(preset=preset, overrides=[*SMALL, *more], data=str(folder))


def plan_for(config: TrainConfig, samples: int = 3, **more: Any) -> Plan:
    if config.noise is None and "pairs" not in more:
        more = {"objectives": ["blind_l1"]} | more
    return Plan(config=dump(config), samples=samples, seed=0, **more)


def source_for(config: TrainConfig, files: list[Path]) -> SourceSpec:
    return SourceSpec(
        files=tuple(str(file) for file in files),
        seed=config.seed,
        crop=config.data.crop,
        channels=3,
        recipe=config.noise,
        cache_bytes=1 << 24,
        max_pixels=1 << 24,
    )


def job_for(config: TrainConfig, out: Path) -> Job:
    source = source_for(config, sorted(Path(config.data.path).iterdir()))
    scores = choose_scores(plan_for(config))
    return Job(config=dump(config), out=str(out), training=source, held_out=source, scores=scores)


def child_runs(out: Path) -> tuple[str, dict[str, str], dict[str, list[int]]]:
    """Status of the parent, and by trial key the status and the logged steps of its children, from MLflow itself."""
    from pipeline.tracking import connect

    mlflow = connect()
    client = mlflow.MlflowClient()
    parent = json.loads((out / "mlflow.json").read_text("utf-8"))["run_id"]
    run = client.get_run(parent)
    found = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    keys = [child.data.tags["trial"] for child in found]
    assert len(set(keys)) == len(keys)
    steps = {
        key: [entry.step for entry in client.get_metric_history(child.info.run_id, "loss")]
        for key, child in zip(keys, found, strict=True)
    }
    return run.info.status, dict(zip(keys, (child.info.status for child in found), strict=True)), steps


def leave_behind(out: Path, parent: str) -> None:
    """What a driver leaves that dies while it opens a run, and while another trial, never run again, is under way."""
    from pipeline.tracking import connect

    client = connect().MlflowClient()
    experiment = client.get_run(parent).info.experiment_id
    lost, other = (
        client.create_run(experiment, tags={"mlflow.parentRunId": parent, "trial": name}).info.run_id
        for name in ("lost", "other")
    )
    stored = json.loads((out / "mlflow.json").read_text("utf-8"))
    stored["trials"]["other"] = other
    (out / "mlflow.json").write_text(json.dumps(stored), "utf-8")
    assert lost != other


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """Ray for several searches, which join it instead of starting their own."""
    from pipeline.cluster import start_ray

    start_ray(1)
    yield
    import ray

    ray.shutdown()


def test_three_trials_end_in_a_preset_that_train_accepts(
    unveil: Callable[..., tuple[int, dict[str, Any] | None, str]], photo_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "search"
    code, result, stderr = unveil(
        "tune",
        "--preset",
        "quick",
        "--data",
        photo_folder,
        "--out",
        out,
        "--samples",
        3,
        "--seeds",
        2,
        "--leaders",
        1,
        "--json",
        *SMALL,
    )
    assert code == 0, stderr
    assert "embedded Ray: " in stderr
    assert "dashboard" not in stderr
    assert result is not None
    assert result["score_name"] == "trust"
    assert result["failed"] == 0
    assert [trial["number"] for trial in result["trials"]] == [0, 1, 2]
    assert [trial["preset"] for trial in result["trials"]] == [True, False, False]
    finished = [trial for trial in result["trials"] if trial["state"] == "finished"]
    leader, *others = result["leaders"]  # the best, and the configuration as given if that is another
    assert leader["key"] == result["best"]["key"]
    assert len(others) == (0 if leader["preset"] else 1)
    assert all(leader["mean"] <= other["mean"] and other["preset"] for other in others)
    assert all(set(one["scores"]) == {"0", "1"} for one in result["leaders"])
    assert {trial["seed"] for trial in result["repeats"]} == {1}
    assert f"over 2 seeds {leader['mean']:.6g}" in Path(result["best_config"]).read_text("utf-8")
    assert result["best"]["key"] in {trial["key"] for trial in finished}

    best = load_config(file=Path(result["best_config"]), data=str(photo_folder))
    expected = load_config(preset="quick", overrides=SMALL, data=str(photo_folder))
    values = result["best"]["overrides"]
    assert (best.method.pd_stride, best.method.mask_count) == (
        values["method.pd_stride"],
        values["method.mask_count"],
    )
    same = {"method": expected.method, "inference": expected.inference}
    assert best.model_copy(update=same) == expected
    assert str(photo_folder) not in Path(result["best_config"]).read_text("utf-8")

    stored = json.loads((out / "tune.json").read_text("utf-8"))
    for trial in stored["trials"]:
        judged = [row["rung"] for row in trial["history"]]
        # What ASHA has stopped and is repeated as the configuration as given is judged at its end only.
        assert judged == [rung for rung in (1, 3, 9) if rung <= trial["rung"]] or (trial["preset"] and judged == [1, 9])
    for picture in ("scores", "survival", "parallel"):
        assert iio.imread(out / f"{picture}.png").shape[2] in (3, 4)
    parent, children, _ = child_runs(out)
    assert parent == "FINISHED"
    assert children == {trial["key"]: "FINISHED" for trial in (*result["trials"], *result["repeats"])}
    assert result["conclusion"][0].startswith("Best of 3: ")
    for words in ("trust", "mask_count=", "as given", *result["conclusion"]):
        assert words in stderr


@pytest.mark.usefixtures("ray_here")
def test_a_trial_that_keeps_crashing_is_marked_and_the_search_goes_on_and_can_be_continued(
    photo_folder: Path, tmp_path: Path
) -> None:
    from tuning.search import search

    config, out = small(photo_folder), tmp_path / "search"
    points = first_points(config, 0)
    victim = trial_key(overrides(config, points[1]))
    kills, said = [], []

    def murder(what: str, value: dict[str, Any]) -> None:
        said.append((what, value))
        if what == "trial" and value["key"] == victim and value["event"] == "reported":
            assert value["pid"] != os.getpid()
            kills.append(value["rung"])
            os.kill(value["pid"], signal.SIGKILL)

    summary = search(plan_for(config, 2), out, listen=murder)
    assert len(kills) == 2  # the trial and its second attempt
    assert summary.failed == 1
    assert {trial.key: trial.state for trial in summary.trials}[victim] == "failed"
    assert summary.best is not None
    assert summary.best.key != victim
    parent, children, _ = child_runs(out)
    assert (parent, children[victim], children[summary.best.key]) == ("FINISHED", "FAILED", "FINISHED")
    reasons = [value["reason"] for what, value in said if what == "trial" and value["event"] == "failed"]
    assert len(reasons) == 1
    assert reasons[0].startswith("The actor is dead because its worker process has died.")
    before = {trial.key: trial.history for trial in summary.trials}

    leave_behind(out, summary.mlflow_run_id)
    with pytest.raises(UserError, match="holds a search; continue it with --resume"):
        search(plan_for(config, 3), out)
    longer = search(plan_for(config, 3), out, resume=True)
    assert longer.failed == 0
    assert len(longer.trials) == 3
    assert longer.mlflow_run_id == summary.mlflow_run_id
    for trial in longer.trials:
        known = before.get(trial.key, [])
        assert trial.history[: len(known)] == known
    parent, children, steps = child_runs(out)
    assert (children.pop("other"), steps.pop("other")) == ("KILLED", [])
    assert set(children.values()) == {parent} == {"FINISHED"}
    assert steps == {trial.key: [row["step"] for row in trial.history] for trial in longer.trials}


def test_a_trial_that_nobody_stops_says_how_far_it_is_and_is_judged_once(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr("ray.tune.report", seen.append)
    config = small(photo_folder)
    point = first_points(config, 0)[1]
    for name, early in (("on the way", True), ("at the end", False)):
        run_trial(point, replace(job_for(config, tmp_path / name), early=early))
    judged, quiet = seen[:3], seen[3:]
    assert [row["rung"] for row in quiet] == list(range(1, 10))
    assert [row["score"] for row in quiet[:-1]] == [None] * 8
    assert all(row["loss"] > 0 for row in quiet)
    # The same training, and the same score of it.
    assert quiet[-1]["score"] == judged[-1]["score"]
    log = read_history(trial_folder(tmp_path / "at the end", trial_key(overrides(config, point))))
    assert [(row["rung"], row["score"]) for row in log] == [(9, judged[-1]["score"])]


def test_a_trial_killed_at_any_rung_ends_like_an_undisturbed_one(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    made: list[int] = []
    seen: list[int] = []
    deaths: list[int] = []
    batch = BatchSource.batch

    def counted(source: BatchSource, index: int, positions: range) -> dict[str, np.ndarray]:
        if whole and index == 6 and 6 not in deaths:  # between two judgements
            deaths.append(6)
            raise Killed
        made.append(index)
        return batch(source, index, positions)

    def report(row: dict[str, Any]) -> None:
        seen.append(row["rung"])
        if row["rung"] in {1, 3, 9} - set(deaths) and whole:
            deaths.append(row["rung"])
            raise Killed

    config = small(photo_folder)
    point = first_points(config, 0)[2]
    key = trial_key(overrides(config, point))
    whole: list[dict[str, Any]] = []
    monkeypatch.setattr("ray.tune.report", report)
    monkeypatch.setattr(BatchSource, "batch", counted)
    run_trial(point, job_for(config, tmp_path / "whole"))
    whole += read_history(trial_folder(tmp_path / "whole", key))
    assert seen == [row["rung"] for row in whole] == [1, 3, 9]
    assert whole[-1]["step"] == 10

    made.clear()
    job = job_for(config, tmp_path / "broken")
    for _ in range(4):
        with pytest.raises(Killed):
            run_trial(point, job)
    seen.clear()
    run_trial(point, job)
    assert seen == [1, 3, 9]
    assert deaths == [1, 3, 6, 9]
    assert [index for index in made if index != HELD_OUT_BATCH] == list(range(10))  # no step was taken twice
    broken = read_history(trial_folder(tmp_path / "broken", key))
    for name in ("rung", "step", "score", "loss"):
        assert [row[name] for row in broken] == [row[name] for row in whole]


@pytest.mark.usefixtures("ray_here")
def test_a_search_without_one_finished_trial_fails_with_the_reason(photo_folder: Path, tmp_path: Path) -> None:
    from tuning.search import search

    def delete(what: str, value: dict[str, Any]) -> None:
        if what == "say":
            for path in photo_folder.iterdir():
                path.write_bytes(b"")

    with pytest.raises(RunError, match=r"none of 2 trials gave a score; .*none of its 3 images could be decoded"):
        search(plan_for(small(photo_folder), 2), tmp_path / "search", listen=delete)
    parent, children, _ = child_runs(tmp_path / "search")
    assert {parent, *children.values()} == {"FAILED"}
    assert json.loads((tmp_path / "search" / "tune.json").read_text("utf-8"))["failed"] == 2


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_table_of_the_paper_is_one_command(
    unveil: Callable[..., tuple[int, dict[str, Any] | None, str]], photo_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "table"
    code, result, stderr = unveil(
        "tune",
        "--ablation",
        "table2",
        "--data",
        photo_folder,
        "--out",
        out,
        "--json",
        *TINY_SWIN,
        *SMALL[2:],
        "training.steps=1",
    )
    assert code == 0, stderr
    assert result is not None
    table = json.loads((out / "table.json").read_text("utf-8"))
    assert [row["cells"] for row in table["rows"]] == [["65 %"], ["75 %"], ["85 %"]]
    trials = result["trials"]
    assert [row["mean"] for row in table["rows"]] == [trial["score"] for trial in trials]
    assert [trial["overrides"] for trial in trials] == [{"network.attention_ratio": at} for at in (0.65, 0.75, 0.85)]
    text = (out / "table.md").read_text("utf-8")
    assert text in stderr
    assert "| attention ratio | psnr_synthetic | paper |" in text


@pytest.mark.parametrize(("preset", "name"), [("quick", "blind_l1_pd2"), ("camera", "psnr_synthetic")])
def test_training_improves_the_score(
    preset: str, name: str, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(photo_folder, "training.steps=60", "optimizer.warmup_steps=0", preset=preset)
    rows: list[dict[str, Any]] = []
    monkeypatch.setattr("ray.tune.report", rows.append)
    job = job_for(config, tmp_path)
    run_trial(first_points(config, 0)[0], job)
    assert job.scores[0].name == name
    gain = rows[-1]["score"] - rows[0]["score"]
    assert gain > 0 if job.scores[0].mode == "max" else gain < 0


def test_pairs_are_scored_by_their_definition(photo_folder: Path, photo: np.ndarray, tmp_path: Path) -> None:
    class Nothing(Network):
        channels, multiple, reach, stochastic = 3, 1, 0, False

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, image: torch.Tensor, **_: Any) -> torch.Tensor:
            return image

    clean = np.full((40, 40, 3), 100, np.uint8)
    for name, value in (("noisy", clean + 10), ("clean", clean)):
        (tmp_path / name).mkdir()
        iio.imwrite(tmp_path / name / "a.png", value)
    config = small(photo_folder, "inference.mode=direct")
    (score,) = scores = choose_scores(plan_for(config, pairs=str(tmp_path)))
    judge = Judge(scores, config, source_for(config, sorted(photo_folder.iterdir())))
    judged = judge(Nothing().eval())
    assert judged.effect == 0
    assert judged.scores == {"psnr_rgb_u8": pytest.approx(20 * np.log10(25.5))}  # every error is 10 of 255
    assert judged.parts.keys() == {"ssim_gauss11_rgb"}
    assert (score.name, score.mode) == ("psnr_rgb_u8", "max")
    with pytest.raises(UserError, match="found no such two sides"):
        choose_scores(plan_for(config, pairs=str(photo_folder)))


def test_the_blind_score_never_shows_a_network_the_value_it_is_judged_on(photo_folder: Path) -> None:
    """The best answer without the value itself, for independent noise around grey, is grey."""
    config = small(photo_folder)

    class Same(Network):
        channels, multiple, reach, stochastic = 3, 1, 0, False

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, image: torch.Tensor, **_: Any) -> torch.Tensor:
            return image

    noise = np.random.default_rng(0).random((32, 3, 32, 32), dtype=np.float32)
    judge = Judge(choose_scores(plan_for(config)), config, source_for(config, []), _batch={"noisy": noise})
    # A network that returns its input gets E|x - y| with y the mean of n other pixels: at least the 1/4 of y = 1/2,
    # at most the 1/3 of another single pixel; its own value would make it 0.
    assert 0.25 < judge(Same().eval()).scores["blind_l1_pd2"] < 0.34


def test_a_score_that_is_not_finite_fails_the_trial(photo_folder: Path) -> None:
    config = small(photo_folder)
    network = build(UNetSpec(width=4, depth=1)).eval()
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, float("nan"))
    judge = Judge(choose_scores(plan_for(config)), config, source_for(config, sorted(photo_folder.iterdir())))
    with pytest.raises(RunError, match="expected a finite score"):
        judge(network)


def test_held_out_images_are_not_trained_on(photo_folder: Path, photo: np.ndarray) -> None:
    config = small(photo_folder)
    scores = choose_scores(plan_for(config))
    few = source_for(config, sorted(photo_folder.iterdir()))
    assert split_source(few, scores) == (few, few)
    batches = [BatchSource(few).batch(index, range(2))["noisy"] for index in (0, HELD_OUT_BATCH)]
    assert not np.array_equal(*batches)
    many = source_for(config, [Path(f"{index}.png") for index in range(10)])
    training, held_out = split_source(many, scores)
    assert held_out.files == ("0.png", "4.png", "8.png")
    assert set(training.files) | set(held_out.files) == set(many.files)
    assert not set(training.files) & set(held_out.files)


def test_a_search_is_continued_only_as_itself(photo_folder: Path, tmp_path: Path) -> None:
    plan, out = plan_for(small(photo_folder)), tmp_path / "search"
    out.mkdir()
    with pytest.raises(UserError, match="--resume: expected a search"):
        store_plan(out, plan, resume=True)
    store_plan(out, plan, resume=False)
    assert read_plan(out) == plan
    store_plan(out, plan_for(small(photo_folder, "cluster.workers=2"), samples=9), resume=True)
    assert read_plan(out).samples == 9
    with pytest.raises(UserError, match=r"training\.steps: the search in .* was started with 10, found 20"):
        store_plan(out, plan_for(small(photo_folder, "training.steps=20")), resume=True)


def test_more_trials_than_there_are_points_are_refused_before_anything_starts(
    unveil: Callable[..., tuple[int, dict[str, Any] | None, str]], photo_folder: Path, tmp_path: Path
) -> None:
    code, result, stderr = unveil(
        "tune",
        "--preset",
        "quick",
        "--data",
        photo_folder,
        "--out",
        tmp_path / "o",
        "--samples",
        13,
        "--json",
        *SMALL,
    )
    assert (code, result) == (2, {"error": stderr.strip().removeprefix("unveil: "), "exit_code": 2})
    assert "--samples: expected at most 12, the whole search space, found 13" in stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("preset", ["quick", "camera", "masked_swin", "amsnet"])
def test_toml_round_trips_every_preset(preset: str, tmp_path: Path) -> None:
    config = load_config(preset=preset, overrides=['tracking.experiment="Grünes \\"Licht\\" 🟢"'])
    path = tmp_path / "config.toml"
    path.write_text(to_toml(dump(config)), "utf-8")
    assert load_config(file=path) == config
    assert tomllib.loads(path.read_text("utf-8"))["data"]["crop"] == config.data.crop
