"""A population that trains together: what is taken over, deaths on the way, and the schedule that it ends in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from pipeline.config import dump, load_config
from pipeline.data.source import BatchSource, SourceSpec
from pipeline.errors import UserError
from pipeline.training.checkpoint import list_checkpoints
from pipeline.training.history import append_row, read_history
from pipeline.training.rundir import write_json
from tuning.axes import Choice, LogUniform, Uniform
from tuning.course import Course, course_of, run_course
from tuning.objective import Job, trial_folder
from tuning.pbt import Generations
from tuning.plan import Plan, check_plan, store_plan
from tuning.population import (
    Generation,
    Seat,
    best_member,
    first_generation,
    line_of,
    member_key,
    moved,
    next_generation,
    read_population,
    settings_of,
    step_after,
)
from tuning.population_summary import summarize_population
from tuning.results import explained, write_results
from tuning.score import choose_scores

ROOT = Path(__file__).resolve().parent.parent
SMALL = [
    "network.width=4",
    "network.depth=1",
    "data.crop=32",
    "training.batch=2",
    "training.steps=5",
    "training.minutes=0",
    "optimizer.warmup_steps=0",
    # Weights of a few steps ago would all be much the same.
    "optimizer.lr=0.01",
    "inference.draws=1",
]
SEARCH = ["optimizer.lr", "method.mask_count", "method.pd_stride"]
SAMPLES, INTERVALS = 4, 5


def plan_of(folder: Path | str = "", **more: Any) -> Plan:
    config = load_config(preset="quick", overrides=[*SMALL, *more.pop("overrides", ())], data=str(folder))
    known = {"samples": SAMPLES, "seed": 0, "scheduler": "pbt", "search": SEARCH, "objectives": ["blind_l1"]}
    return Plan(config=dump(config), **(known | more))


def job_of(plan: Plan, out: Path) -> Job:
    config = plan.base()
    source = SourceSpec(
        files=tuple(str(file) for file in sorted(Path(config.data.path).iterdir())),
        seed=config.seed,
        crop=config.data.crop,
        channels=3,
        recipe=None,
        cache_bytes=1 << 24,
        max_pixels=1 << 24,
    )
    return Job(config=plan.config, out=str(out), training=source, held_out=source, scores=choose_scores(plan))


class Killed(BaseException):
    pass


def drive(plan: Plan, out: Path, fails: Callable[[Course], bool] = lambda _: False) -> int:
    """What Ray Tune does with one process; returns the number of courses that were trained."""
    (out / "trials").mkdir(parents=True, exist_ok=True)
    job = job_of(plan, out)
    sampler, count = Generations(job, plan), 0
    while (point := sampler.suggest(f"t{count}")) != Generations.FINISHED:
        assert isinstance(point, dict)
        course = course_of(point)
        if not fails(course):
            run_course(point, job)
        folder = trial_folder(out, course.key)
        folder.mkdir(exist_ok=True)
        known = {"number": course.number, "overrides": course.settings[-1], "point": point}
        write_json(folder / "trial.json", known)
        sampler.on_trial_complete(f"t{count}", error=fails(course))
        count += 1
    return count


def rows_of(out: Path) -> dict[str, list[Any]]:
    """Everything in the members' logs but the clock."""
    found = {}
    for member in range(SAMPLES):
        rows = read_history(trial_folder(out, member_key(member)))
        found[member_key(member)] = [
            {name: row[name] for name in ("step", "rung", "score", "loss", "settings", "parent")} for row in rows
        ]
    return found


def seats(count: int) -> list[Seat]:
    return [
        Seat({"optimizer.lr": 0.001 * (1 + at), "method.mask_count": 2, "method.pd_stride": 1}, at)
        for at in range(count)
    ]


@pytest.mark.parametrize(("mode", "best", "worst"), [("min", [0, 1], [6, 7]), ("max", [7, 6], [1, 0])])
def test_the_worst_quarter_takes_over_from_the_best_and_the_others_go_on(
    mode: str, best: list[int], worst: list[int]
) -> None:
    plan = plan_of(samples=8)
    last = Generation(seats(8), [0.1 * at for at in range(8)])
    found = [next_generation(last, number, plan, mode) for number in range(1, 30)]
    for generation in found:
        for member, seat in enumerate(generation.seats):
            if member in worst:
                assert seat.parent in best
            else:
                assert seat == Seat(last.seats[member].point, member)
    taken = {generation.seats[worst[0]].parent for generation in found}
    assert taken == set(best)
    assert found[0] == next_generation(last, 1, plan, mode)
    assert len({json.dumps(generation.seats[worst[0]].point) for generation in found}) > 10


def test_a_member_that_failed_takes_over_from_one_that_did_not() -> None:
    last = Generation(seats(4), [0.3, None, 0.1, 0.2])
    parents = [seat.parent for seat in next_generation(last, 1, plan_of(), "min").seats]
    assert parents == [0, 2, 2, 3]
    last.scores = [None, None, 0.1, None]
    assert [seat.parent for seat in next_generation(last, 1, plan_of(), "min").seats] == [2, 2, 2, 2]


def test_values_move_a_little_or_are_drawn_anew_and_stay_within_their_bounds() -> None:
    space = {"a": Uniform(0.0, 0.5), "b": LogUniform(1e-3, 1e-1), "c": Choice((1, 2, 4, 8))}
    random = np.random.default_rng(0)
    points = [moved({"a": 0.48, "b": 1e-2, "c": 4}, space, random) for _ in range(400)]
    shares = {
        "a": np.mean([point["a"] in (0.43, 0.5) or abs(point["a"] - 0.43) < 1e-9 for point in points]),
        "b": np.mean([min(abs(point["b"] - value) for value in (8e-3, 1.25e-2)) < 1e-9 for point in points]),
    }
    # 3 of 4 are moved; 5 standard deviations of 400 draws are 0.11.
    assert all(abs(share - 0.75) < 0.11 for share in shares.values()), shares
    assert {point["c"] for point in points} == {1, 2, 4, 8}
    assert np.mean([point["c"] in (2, 8) for point in points]) > 0.7
    assert all(0 <= point["a"] <= 0.5 and 1e-3 <= point["b"] <= 1e-1 for point in points)


def test_the_line_of_a_member_goes_back_through_those_whose_weights_it_took() -> None:
    parents = [[None, None, None], [0, 1, 0], [2, 1, 2], [0, 0, 2]]
    generations = [Generation([Seat({}, parent) for parent in row]) for row in parents]
    assert line_of(generations, 1) == [0, 2, 0, 1]
    assert line_of(generations, 2) == [0, 2, 2, 2]
    assert line_of(generations[:2], 1) == [1, 1]


def test_the_first_members_are_the_configuration_and_points_by_the_seed() -> None:
    generation = first_generation(plan_of(samples=6))
    assert generation.seats[0].point["optimizer.lr"] == 0.01
    assert len({json.dumps(seat.point) for seat in generation.seats}) == 6
    assert generation == first_generation(plan_of(samples=6))
    assert generation != first_generation(plan_of(samples=6, seed=1))


def test_a_population_killed_at_any_moment_ends_like_an_undisturbed_one_and_its_schedule_can_be_trained_again(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[int] = []
    deaths = {3, 9, 10}
    batches: list[int] = []
    batch = BatchSource.batch

    def report(row: dict[str, Any]) -> None:
        reports.append(row["rung"])
        if dying and len(reports) in deaths:
            raise Killed

    def counted(source: BatchSource, index: int, positions: range) -> dict[str, np.ndarray]:
        batches.append(index)
        if dying and len(batches) == 20:  # in the middle of a step
            raise Killed
        return batch(source, index, positions)

    monkeypatch.setattr("ray.tune.report", report)
    monkeypatch.setattr(BatchSource, "batch", counted)
    dying = False
    plan, whole, broken = plan_of(photo_folder), tmp_path / "whole", tmp_path / "broken"
    assert drive(plan, whole) == SAMPLES * INTERVALS
    generations = read_population(whole)
    assert len(generations) == INTERVALS
    assert all(len(generation.scores) == SAMPLES for generation in generations)
    taken = [at for generation in generations[1:] for at, seat in enumerate(generation.seats) if seat.parent != at]
    assert len(taken) == INTERVALS - 1

    dying = True
    reports.clear()
    batches.clear()
    died = 0
    for _ in range(6):
        try:
            drive(plan, broken)
        except Killed:
            died += 1
    assert died == 4
    assert rows_of(broken) == rows_of(whole)
    assert read_population(broken) == generations
    # Nobody needs more than the end of this interval and of the one before.
    assert all(len(list_checkpoints(folder / "checkpoints")) <= 2 for folder in whole.glob("trials/member*"))

    dying = False
    # All that a member holds came along the line: its schedule, trained from the start, ends in the same weights.
    best = max(range(SAMPLES), key=lambda at: len(set(line_of(generations, at))))
    line = line_of(generations, best)
    assert len(set(line)) > 1
    schedule = settings_of(plan.base(), generations, line)
    again = Course(key="again", number=0, of="again", start=0, settings=schedule, seed=0)
    run_course(again.as_point(), job_of(plan, whole))
    ends = [list_checkpoints(trial_folder(whole, key) / "checkpoints")[-1] for key in ("again", member_key(best))]
    assert ends[0].name == ends[1].name == f"step_{step_after(plan.base(), INTERVALS):09d}"
    assert (ends[0] / "state.safetensors").read_bytes() == (ends[1] / "state.safetensors").read_bytes()
    scores = [row["score"] for row in read_history(trial_folder(whole, "again"))]
    assert scores == [generation.scores[member] for generation, member in zip(generations, line, strict=True)]


def test_a_population_ends_in_a_schedule_weights_and_plain_words(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.inference.denoiser import load_denoiser

    monkeypatch.setattr("ray.tune.report", lambda _: None)
    plan, out = plan_of(photo_folder, seeds=2), tmp_path / "out"
    # Member 0 fails in the second interval, and takes over from another one.
    drive(plan, out, lambda course: course.key == "member00" and course.start == 1)
    generations = read_population(out)
    assert generations[1].scores[0] is None
    assert generations[2].seats[0].parent != 0
    assert generations[-1].scores[0] is not None
    best = best_member(generations[-1], "min")
    schedule = settings_of(plan.base(), generations, line_of(generations, best))
    for key, of, number, seed, settings in (
        ("given", "given", SAMPLES, 0, [{}] * INTERVALS),
        ("given-1", "given", SAMPLES, 1, [{}] * INTERVALS),
        ("again-1", member_key(best), best, 1, schedule),
    ):
        course = Course(key=key, number=number, of=of, start=0, settings=settings, seed=seed)
        run_course(course.as_point(), job_of(plan, out))
        seeded = {**settings[-1], **({"seed": 1} if seed else {})}
        known = {"number": number, "overrides": seeded, "point": course.as_point()}
        write_json(trial_folder(out, key) / "trial.json", known)

    summary = explained(summarize_population(out, plan, choose_scores(plan), {}, run_id="r"), plan)
    assert [trial.key for trial in summary.trials] == [*(member_key(at) for at in range(SAMPLES)), "given"]
    assert {one.key for one in summary.leaders} == {member_key(best), "given"}
    assert all(one.n == 2 for one in summary.leaders)
    assert summary.best is not None
    assert summary.best.key == summary.leaders[0].key
    told = summary.population
    assert [piece["settings"] for piece in told["schedule"]] == schedule
    assert told["winner"] == member_key(best)
    written = write_results(out, plan, summary)
    assert {path.name for path in written} >= {"schedule.json", "schedule.png", "best.toml", "conclusion.md"}
    assert np.ptp(iio.imread(out / "schedule.png")) > 100
    assert json.loads((out / "schedule.json").read_text("utf-8"))["schedule"] == told["schedule"]
    found = load_config(file=out / "best.toml", data=str(photo_folder))
    assert f"{found.optimizer.lr:g}" == f"{summary.best.overrides.get('optimizer.lr', 0.01):g}"
    words = " ".join(summary.conclusion)
    assert f"Best of a population of {SAMPLES} and the configuration as given: " in words
    assert ("best.toml holds the last values of the schedule alone" in words) == (not summary.best.preset)
    assert "over 2 seeds" in words

    kept = load_denoiser(str(out / "winner"), device="cpu")
    state = list_checkpoints(trial_folder(out, summary.best.key) / "checkpoints")[-1] / "state.safetensors"
    from safetensors.torch import load_file

    average = {name.removeprefix("average/"): v for name, v in load_file(state).items() if name.startswith("average/")}
    assert all(torch.equal(value, average[name]) for name, value in kept.network.state_dict().items())


def test_a_member_that_a_budget_has_stopped_has_not_failed(photo_folder: Path, tmp_path: Path) -> None:
    plan = plan_of(photo_folder)
    for ended_by_budget in (True, False):
        sampler = Generations(job_of(plan, tmp_path), plan)
        for member in range(SAMPLES):
            point = sampler.suggest(f"t{member}")
            assert isinstance(point, dict)
            if member:
                row = {"rung": 1, "step": 1, "score": 0.1 * member}
                folder = trial_folder(tmp_path, course_of(point).key)
                folder.mkdir(parents=True, exist_ok=True)
                append_row(folder, row)
        for member in range(SAMPLES):
            sampler.on_trial_complete(f"t{member}", error=member == 0 and not ended_by_budget)
        assert len(read_population(tmp_path)) == (1 if ended_by_budget else 2)
    assert read_population(tmp_path)[1].seats[0].parent == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"search": ["network.width"]}, "--search network.width: expected what can change in the middle of training"),
        ({"ablation": "table1", "search": []}, "--scheduler pbt, --ablation: expected one of them"),
        ({"searcher": "optuna"}, "--searcher optuna: expected random with --scheduler pbt"),
        ({"overrides": ["training.minutes=5"]}, "training.minutes: expected 0 with --scheduler pbt, .* found 5"),
        ({"samples": 3}, "--samples: expected 4 members or more .*, found 3"),
    ],
)
def test_what_a_population_cannot_do_is_refused_in_a_line(more: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_plan(plan_of(**more))


def test_a_population_cannot_grow(tmp_path: Path) -> None:
    store_plan(tmp_path, plan_of(), resume=False)
    store_plan(tmp_path, plan_of(seeds=3), resume=True)
    with pytest.raises(UserError, match="--samples: a population cannot grow, this one has 4 members, found 5"):
        store_plan(tmp_path, plan_of(samples=5), resume=True)


def test_training_the_winner_again_is_refused_before_any_work(
    unveil: Callable[..., tuple[int, dict[str, Any] | None, str]], photo_folder: Path, tmp_path: Path
) -> None:
    arguments = ["--preset", "quick", "--data", photo_folder, "--out", tmp_path / "o", "--scheduler", "pbt"]
    code, _, stderr = unveil("tune", *arguments, "--train-best", *SMALL)
    assert code == 2
    assert "--train-best: expected a search for settings; --scheduler pbt ends in a schedule" in stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_population_on_ray_survives_its_driver(photo_folder: Path, tmp_path: Path) -> None:
    from pipeline.tracking import connect

    def start(out: Path, *more: str) -> subprocess.Popen[bytes]:
        arguments = ["tune", "--data", str(photo_folder), "--out", str(out), "--json", "--seeds", "2"]
        if "--resume" not in more:
            arguments += ["--preset", "quick", "--scheduler", "pbt", "--samples", str(SAMPLES)]
            arguments += ["--objective", "blind_l1", *(word for key in SEARCH for word in ("--search", key))]
        with (tmp_path / f"{out.name}.log").open("ab") as file:
            command = [sys.executable, "-m", "pipeline", *arguments, *more, *SMALL]
            return subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)

    alone, killed = tmp_path / "alone", tmp_path / "killed"
    assert start(alone).wait() == 0, (tmp_path / "alone.log").read_text()
    driver = start(killed)
    while sum(map(len, rows_of(killed).values())) < 7:
        assert driver.poll() is None, (tmp_path / "killed.log").read_text()
        time.sleep(0.02)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert start(killed, "--resume").wait() == 0, (tmp_path / "killed.log").read_text()
    assert rows_of(killed) == rows_of(alone)
    found, other = (json.loads((out / "tune.json").read_text("utf-8")) for out in (killed, alone))
    assert [one["scores"] for one in found["leaders"]] == [one["scores"] for one in other["leaders"]]
    client = connect().MlflowClient()
    parent = json.loads((killed / "mlflow.json").read_text("utf-8"))["run_id"]
    experiment = client.get_run(parent).info.experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    keys = [trial["key"] for trial in (*found["trials"], *found["repeats"])]
    assert sorted(run.data.tags["trial"] for run in children) == sorted(keys)
    assert {run.info.status for run in children} == {"FINISHED"}
    for run in children:
        steps = [entry.step for entry in client.get_metric_history(run.info.run_id, "loss")]
        assert steps == [1, 2, 3, 4, 5]
