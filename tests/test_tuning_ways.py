"""Ways to search, on a real Ray: Optuna, a budget, several objectives."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import check, dump, load_config
from pipeline.errors import UserError
from tuning.plan import Plan

pytestmark = pytest.mark.slow

SMALL = [
    "network.width=4",
    "network.depth=1",
    "data.crop=32",
    "training.batch=2",
    "training.steps=3",
    "training.minutes=0",
]


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    from pipeline.cluster import start_ray

    start_ray(3)  # what a training needs, with its synthesizer
    yield
    import ray

    ray.shutdown()


def plan_of(folder: Path, samples: int, **more: Any) -> Plan:
    config = load_config(preset="quick", overrides=SMALL, data=str(folder))
    return Plan(config=dump(config), samples=samples, seed=0, **({"objectives": ["blind_l1"]} | more))


def test_optuna_goes_on_with_the_points_that_it_had(photo_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    from tuning.search import search

    out = tmp_path / "search"
    more = {"searcher": "optuna", "search": ["optimizer.lr", "method.mask_count"]}
    with pytest.raises(UserError, match="--searcher optuna: expected something continuous to search"):
        search(plan_of(photo_folder, 3, searcher="optuna"), out)
    first = search(plan_of(photo_folder, 3, **more), out)
    assert first.trials[0].preset
    longer = search(plan_of(photo_folder, 5, **more), out, resume=True)
    assert [trial.number for trial in longer.trials] == [0, 1, 2, 3, 4]
    # Beside more trials one may get farther than it did before, but never starts anew.
    assert all(
        now.history[: len(before.history)] == before.history
        for now, before in zip(longer.trials, first.trials, strict=False)
    )
    assert len({trial.key for trial in longer.trials}) == 5


def test_a_search_ends_when_its_minutes_are_over_and_goes_on_with_more(photo_folder: Path, tmp_path: Path) -> None:
    from tuning.search import search

    more = {"scheduler": "none", "search": ["optimizer.lr"]}
    out = tmp_path / "search"
    ended: list[str] = []

    def listen(what: str, value: dict[str, Any]) -> None:
        if what == "trial" and value["event"] == "finished":
            ended.append(value["key"])

    short = search(plan_of(photo_folder, 40, minutes=0.3, **more), out, listen=listen)
    assert 0 < len(short.trials) < 40
    assert short.best is not None
    known = {trial.key for trial in short.trials if trial.state == "finished"}
    longer = search(plan_of(photo_folder, len(short.trials) + 1, **more), out, resume=True)
    assert known < {trial.key for trial in longer.trials}
    assert all(trial.state == "finished" for trial in longer.trials)


def test_several_objectives_leave_a_front_and_the_winner_can_be_trained_at_once(
    unveil: Callable[..., tuple[int, dict[str, Any] | None, str]], photo_folder: Path, tmp_path: Path
) -> None:
    arguments = ["--objective", "noise_left", "--objective", "structure_lost", "--samples", 4, "--seeds", 1]
    arguments.append("--train-best")
    folder = ["--preset", "quick", "--data", photo_folder, "--out", tmp_path / "o"]
    code, result, stderr = unveil("tune", *folder, *arguments, "--json", *SMALL)
    assert code == 0, stderr
    assert result is not None
    assert {trial["state"] for trial in result["trials"]} == {"finished"}  # none is stopped by the first objective
    values = {trial["key"]: tuple(trial["scores"].values()) for trial in result["trials"]}
    beaten = {
        key
        for key, one in values.items()
        if any(other != one and other[0] <= one[0] and other[1] <= one[1] for other in values.values())
    }
    assert set(result["pareto"]) == values.keys() - beaten
    assert result["best"]["key"] == min(values, key=lambda key: values[key])
    trained = load_config(file=tmp_path / "o" / "best.toml", data=str(photo_folder))
    stored = json.loads((tmp_path / "o" / "best" / result["best"]["key"] / "config.json").read_text("utf-8"))
    assert check(stored) == trained
    assert Path(result["trained"]["weights"]).is_dir()
    assert f"front  {', '.join(result['pareto'])}: " in stderr
