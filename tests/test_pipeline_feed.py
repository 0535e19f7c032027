"""The feed on a real Ray: the same batches whatever the number, the order and the deaths of the actors."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noise import CameraNoise
from pipeline.data.feed import Feed
from pipeline.data.source import BatchSource, SourceSpec
from pipeline.data.synth_actor import Synthesizer, start_synthesizers
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

    started = start_ray(4)
    assert started.dashboard.startswith("http://127.0.0.1:")
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


def test_a_frozen_synthesizer_is_bypassed_then_restarted_and_no_batch_changes(ray: Any, spec: SourceSpec) -> None:
    here = BatchSource(spec)
    actors = start_synthesizers(spec, 2, cpus=0.2)
    feed = Feed(actors, range(4), start=0, depth=4, patience=1.0)
    for index in range(4):
        assert same(next(feed), here.batch(index, range(4)))
    frozen = ray.get(actors[0].pid.remote())
    os.kill(frozen, signal.SIGSTOP)
    for index in range(4, 12):
        assert same(next(feed), here.batch(index, range(4))), index
    told = [text for event, text in feed.notes if event == "note"]
    assert any("synthesizer 1 is asked for it too" in text for text in told)
    assert any("synthesizer 0 does not answer and is restarted" in text for text in told)
    assert ray.get(actors[0].pid.remote(), timeout=60) != frozen


@pytest.mark.slow
def test_a_synthesizer_of_very_many_files_can_be_restarted(ray: Any, spec: SourceSpec) -> None:
    """Arguments of more than 100 KiB lie in the object store, and must still be there at the second start."""
    import dataclasses
    import gc

    many = dataclasses.replace(spec, files=spec.files * 5000)
    here = BatchSource(many)
    feed = Feed(actors := start_synthesizers(many, 1, cpus=0.2), range(4), start=0, depth=2)
    assert same(next(feed), here.batch(0, range(4)))
    gc.collect()
    os.kill(ray.get(actors[0].pid.remote()), signal.SIGKILL)
    for index in range(1, 5):
        assert same(next(feed), here.batch(index, range(4)))


@pytest.mark.slow
def test_the_only_synthesizer_frozen_is_restarted(ray: Any, spec: SourceSpec) -> None:
    here = BatchSource(spec)
    actors = start_synthesizers(spec, 1, cpus=0.2)
    feed = Feed(actors, range(4), start=0, depth=2, patience=1.0)
    assert same(next(feed), here.batch(0, range(4)))
    os.kill(ray.get(actors[0].pid.remote()), signal.SIGSTOP)
    for index in range(1, 5):
        assert same(next(feed), here.batch(index, range(4)))


class Fragile(Synthesizer):
    """Dies where a certain file is decoded, as a process does in which a decoder crashes."""

    def __init__(self, shared: Any, name: str) -> None:
        super().__init__(shared, name)
        decode = self._source._decoded

        def decoded(path: str) -> Any:
            if path.endswith("deadly.png"):
                os.kill(os.getpid(), signal.SIGKILL)
            return decode(path)

        self._source._decoded = decoded  # type: ignore[method-assign]


def test_a_file_that_kills_its_reader_is_quarantined_and_training_goes_on(
    ray: Any, spec: SourceSpec, tmp_path: Path
) -> None:
    import dataclasses

    # Workers have this program and none of its tests.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    deadly = tmp_path / "deadly.png"
    deadly.write_bytes(Path(spec.files[0]).read_bytes())
    mixed = dataclasses.replace(spec, files=(*spec.files, str(deadly)))
    actors = start_synthesizers(mixed, 2, cpus=0.2, kind=Fragile)
    feed = Feed(actors, range(4), start=0, depth=2, patience=60)
    batches = [next(feed) for _ in range(6)]
    assert all(batch["noisy"].shape == (4, 3, 48, 48) for batch in batches)
    told = [text for event, text in feed.notes if event == "quarantined"]
    assert told
    assert all("deadly.png: ended the process that decoded it, 2 times" in text for text in told)
    # What is left out is left out by everyone: the batches are those of a source that was told at once.
    here = BatchSource(mixed, quarantined={str(deadly): "told"})
    assert all(same(batch, here.batch(index, range(4))) for index, batch in enumerate(batches))


def test_noise_made_by_the_trainer_is_that_of_the_synthesizers(spec: SourceSpec) -> None:
    import dataclasses

    import torch

    from pipeline.config import load_config
    from pipeline.training.batches import to_device

    config = load_config(preset="camera", overrides=["feed.device=trainer"])
    later = BatchSource(dataclasses.replace(spec, defer_noise=True)).batch(3, range(4))
    assert later.keys() == {"clean", "noise_seeds", "seeds"}
    made = to_device(later, config, torch.device("cpu"))
    assert same({name: values.numpy() for name, values in made.items()}, BatchSource(spec).batch(3, range(4)))


def test_a_bad_file_is_named_to_the_trainer(ray: Any, spec: SourceSpec, tmp_path: Path) -> None:
    import dataclasses

    bad = tmp_path / "cut.png"
    bad.write_bytes(Path(spec.files[0]).read_bytes()[:300])
    mixed = dataclasses.replace(spec, files=(*spec.files, str(bad)))
    feed = Feed(start_synthesizers(mixed, 1, cpus=0.2), range(4), start=0, depth=2)
    for _ in range(6):
        next(feed)
    assert [event for event, _ in feed.notes] == ["quarantined"]
    assert "cut.png" in feed.notes[0][1]


def test_a_run_that_could_never_start_is_refused_at_once() -> None:
    from pipeline.cluster import Started, require_resources

    small = Started(embedded=True, mine=True, cpus=2, gpus=0, dashboard="")
    with pytest.raises(UserError, match=r"need 5 CPUs, the cluster has 2; lower cluster\.workers"):
        require_resources(ClusterConfig(workers=4, synthesizers=2), small, 1, 0.5)
    require_resources(ClusterConfig(workers=4, min_workers=1, synthesizers=2), small, 1, 0.5)
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
