"""Trials of several processes: the scores of one process, and the death of one of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import dump, load_config
from pipeline.data.source import SourceSpec
from pipeline.errors import RunError, UserError
from tuning.plan import Plan
from tuning.summary import Summary

SMALL = [
    "network.width=4",
    "network.depth=1",
    "data.crop=32",
    "training.batch=3",  # shares of two and one
    "training.steps=9",
    "training.minutes=0",
    "inference.draws=1",
]


@pytest.fixture(scope="module")
def _ray() -> Iterator[None]:
    from pipeline.cluster import start_ray

    start_ray(4)
    yield
    import ray

    ray.shutdown()


def plan_of(folder: Path, workers: int, **more: Any) -> Plan:
    config = load_config(preset="camera", overrides=[*SMALL, f"cluster.workers={workers}"], data=str(folder))
    known = {"samples": 2, "seed": 0, "scheduler": "none"}
    return Plan(config=dump(config), **(known | more))


def followers() -> list[int]:
    """Process numbers of what the first processes of trials have started."""
    from ray.util.state import list_actors

    found = list_actors(filters=[("class_name", "=", "Follower"), ("state", "=", "ALIVE")], detail=True)
    return [int(actor.pid) for actor in found]


def rows(summary: Summary) -> dict[str, list[tuple[Any, ...]]]:
    return {
        trial.key: [(row["rung"], row["step"], row["score"], row["loss"]) for row in trial.history]
        for trial in summary.trials
    }


def assert_alike(found: Summary, expected: Summary) -> None:
    """The same trials at the same steps, scores and losses equal but for the order of sums."""
    a, b = rows(found), rows(expected)
    assert a.keys() == b.keys()
    for key, history in a.items():
        assert [row[:2] for row in history] == [row[:2] for row in b[key]]
        for ours, theirs in zip(history, b[key], strict=True):
            assert ours[2:] == pytest.approx(theirs[2:], rel=1e-4), key


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("_ray")
def test_trials_of_two_processes_score_like_those_of_one_even_if_one_of_them_dies(
    photo_folder: Path, tmp_path: Path
) -> None:
    from tuning.search import search

    one = search(plan_of(photo_folder, 1), tmp_path / "one")
    seen: list[int] = []
    killed: list[int] = []

    def look(what: str, value: dict[str, Any]) -> None:
        if what == "trial" and value["event"] == "reported":
            seen.extend(followers())

    two = search(plan_of(photo_folder, 2), tmp_path / "two", listen=look)
    assert {trial.state for trial in two.trials} == {"finished"}
    assert len(set(seen)) >= 1
    assert os.getpid() not in seen
    assert_alike(two, one)

    def kill(what: str, value: dict[str, Any]) -> None:
        if what == "trial" and value["event"] == "reported" and value["rung"] < 9 and not killed:
            killed.append(followers()[0])
            os.kill(killed[0], signal.SIGKILL)

    broken = search(plan_of(photo_folder, 2), tmp_path / "broken", listen=kill)
    assert len(killed) == 1
    assert broken.failed == 0
    assert_alike(broken, one)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("_ray")
def test_members_of_two_processes_score_like_those_of_one(photo_folder: Path, tmp_path: Path) -> None:
    from tuning.search import search

    more = {"samples": 4, "scheduler": "pbt", "search": ["optimizer.lr", "method.input_ratio"]}
    one = search(plan_of(photo_folder, 1, **more), tmp_path / "one")
    two = search(plan_of(photo_folder, 2, **more), tmp_path / "two")
    assert_alike(two, one)
    assert [piece["member"] for piece in two.population["schedule"]] == [
        piece["member"] for piece in one.population["schedule"]
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
def test_a_trial_that_no_cluster_of_this_size_can_hold_is_refused(photo_folder: Path, tmp_path: Path) -> None:
    import ray

    from tuning.search import search

    cpus = int(ray.cluster_resources()["CPU"])
    config = load_config(
        preset="quick",
        overrides=[*SMALL, f"training.batch={cpus + 1}", f"cluster.workers={cpus + 1}"],
        data=str(photo_folder),
    )
    plan = Plan(config=dump(config), samples=2, seed=0, objectives=["blind_l1"])
    with pytest.raises(UserError, match=f"cluster.workers: a trial of {cpus + 1} workers needs as many CPUs"):
        search(plan, tmp_path / "search")
    assert not list((tmp_path / "search").glob("trials/*"))


def test_a_checkpoint_that_is_gone_is_not_taken_for_a_start(photo_folder: Path, tmp_path: Path) -> None:
    from tuning.team import team_of

    config = load_config(preset="quick", overrides=SMALL, data=str(photo_folder))
    source = SourceSpec(
        files=tuple(map(str, photo_folder.iterdir())),
        seed=0,
        crop=32,
        channels=3,
        recipe=None,
        cache_bytes=1 << 24,
        max_pixels=1 << 24,
    )
    with team_of(config, source) as team, pytest.raises(RunError, match="expected a checkpoint, found none"):
        team.begin(config, tmp_path / "step_000000003")
