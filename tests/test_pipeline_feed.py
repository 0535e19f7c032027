"""The feed on a real Ray: the same batches whatever the number, the order and the deaths of the actors."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noise import CameraNoise
from pipeline.data.feed import Feed
from pipeline.data.source import BatchSource, SourceSpec
from pipeline.data.synth_actor import start_synthesizers
from pipeline.errors import UserError
from pipeline.schema import ClusterConfig


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> SourceSpec:
    import imageio.v3 as iio
    from skimage import data

    folder = tmp_path_factory.mktemp("feed")
    paths = [folder / f"{index}.png" for index in range(2)]
    for index, path in enumerate(paths):
        iio.imwrite(path, data.astronaut()[100 * index : 100 * index + 96, :128])
    return SourceSpec(
        files=tuple(map(str, paths)),
        seed=3,
        crop=48,
        channels=3,
        recipe=CameraNoise(),
        cache_bytes=1 << 24,
        max_pixels=1 << 24,
    )


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    from pipeline.cluster import start_ray

    start_ray(4)
    import ray

    yield ray
    ray.shutdown()


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_batches_of_any_number_of_actors_are_those_made_here(ray: Any, spec: SourceSpec) -> None:
    here = BatchSource(spec)
    for count in (1, 3):
        actors = start_synthesizers(spec, count, cpus=0.2)
        feed = Feed(actors, range(4), start=7, depth=3)
        for index in range(7, 13):
            assert same(next(feed), here.batch(index, range(4))), (count, index)
        for actor in actors:
            ray.kill(actor)


def test_shares_of_two_workers_are_one_worker_s_batch(ray: Any, spec: SourceSpec) -> None:
    actors = start_synthesizers(spec, 2, cpus=0.2)
    whole = next(Feed(actors, range(4), start=0, depth=2))
    halves = [next(Feed(actors, range(2 * rank, 2 * rank + 2), start=0, depth=2)) for rank in range(2)]
    joined = {name: np.concatenate([half[name] for half in halves]) for name in whole}
    assert same(whole, joined)


def test_killing_a_synthesizer_again_and_again_changes_no_batch(ray: Any, spec: SourceSpec) -> None:
    here = BatchSource(spec)
    actors = start_synthesizers(spec, 2, cpus=0.2)
    feed = Feed(actors, range(4), start=0, depth=4)
    killed = set()
    for index in range(12):
        if index in (2, 5, 8):
            pid = ray.get(actors[index % 2].pid.remote())
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        assert same(next(feed), here.batch(index, range(4))), index
    assert len(killed) == 3, "every kill hit another process"


def test_only_so_many_batches_are_on_order(ray: Any, spec: SourceSpec) -> None:
    """Back-pressure: an actor is never asked for more than the queue holds."""
    actors = start_synthesizers(spec, 1, cpus=0.2)
    feed = Feed(actors, range(2), start=0, depth=2)
    next(feed)
    time.sleep(1.0)
    assert feed._next == 2
    next(feed)
    assert feed._next == 3


def test_a_bad_file_is_named_to_the_trainer(ray: Any, spec: SourceSpec, tmp_path: Path) -> None:
    import dataclasses

    bad = tmp_path / "cut.png"
    bad.write_bytes(Path(spec.files[0]).read_bytes()[:300])
    mixed = dataclasses.replace(spec, files=(*spec.files, str(bad)))
    feed = Feed(start_synthesizers(mixed, 1, cpus=0.2), range(4), start=0, depth=2)
    for _ in range(6):
        next(feed)
    assert len(feed.quarantined) == 1
    assert "cut.png" in feed.quarantined[0]


def test_a_run_that_could_never_start_is_refused_at_once() -> None:
    from pipeline.cluster import Started, require_resources

    small = Started(embedded=True, cpus=2, gpus=0, dashboard="")
    with pytest.raises(UserError, match=r"need 5 CPUs, the cluster has 2; lower cluster\.workers"):
        require_resources(ClusterConfig(workers=4, synthesizers=2), small, 1, 0.5)
    with pytest.raises(UserError, match="need 1 GPUs, the cluster has 0"):
        require_resources(ClusterConfig(workers=1, gpus_per_worker=1), small, 1, 0.5)


def test_trainers_get_the_cores_that_synthesis_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.cluster import cpu_plan

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    two = ClusterConfig(workers=2, synthesizers=2)
    assert cpu_plan(two, 8, cheap_synthesis=False) == (3, 0.5)
    assert cpu_plan(two, 8, cheap_synthesis=True) == (4, 0.5)
    assert cpu_plan(two, 1, cheap_synthesis=False) == (1, 0.5)
    assert cpu_plan(ClusterConfig(threads=5), 2, cheap_synthesis=True) == (5, 0.5)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert cpu_plan(two, 8, cheap_synthesis=True) == (3, 0.5), "a cluster lends no more than it has"
