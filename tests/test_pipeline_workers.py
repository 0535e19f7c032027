"""Files denoised by workers of a real local Ray: same bytes, dead workers, files that kill, and when it is chosen."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from models import InferenceSpec, UNetSpec, build, save
from pipeline.data.folders import scan
from pipeline.data.images import Image, write_image
from pipeline.errors import RunError, UserError
from pipeline.inference import spread as spreading
from pipeline.inference.denoiser import NetworkDenoiser
from pipeline.inference.files import Job, denoise_files
from pipeline.inference.manifest import MANIFEST_NAME
from pipeline.inference.outputs import OutputOptions
from pipeline.inference.results import Made
from pipeline.inference.spread import HANDFUL, Spread, workers_of
from pipeline.inference.staging import Staged
from pipeline.inference.workers import Workers


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    from ray import cloudpickle

    from pipeline.cluster import start_ray

    # Workers have no tests to import.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    started = start_ray(2)
    yield
    started.leave()


def photos(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        pixels = np.random.default_rng(list(name.encode())).integers(0, 255, (24, 30, 3), dtype=np.uint8)
        write_image(folder / f"{name}.png", Image(pixels=pixels))
    return folder


def model(tmp_path: Path) -> NetworkDenoiser:
    shape = UNetSpec(channels=3, width=4, depth=1)
    save(tmp_path / "model", build(shape, seed=0), spec=shape, inference=InferenceSpec(), card={})
    return NetworkDenoiser(tmp_path / "model")


def copying(markers: Path, device: str):
    def convert(source: Path, output: Path) -> Made:
        name = source.stem
        if name == "full":
            raise OSError(28, "No space left on device")
        output.write_bytes(b"half")
        if name.startswith("killer") or (name.startswith("once") and not (markers / name).exists()):
            (markers / name).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        output.write_bytes(source.read_bytes())
        return Made(note=device)

    return convert


def never_built(device: str):
    os._exit(7)


def jobs_of(folder: Path, out: Path) -> list[Job]:
    out.mkdir()
    return [Job(index, file.path, out / file.path.name) for index, file in enumerate(scan([folder]))]


@pytest.mark.usefixtures("ray")
def test_workers_make_the_same_bytes_as_one_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "in", *"abcdefghij")
    (tmp_path / "in" / "bad.png").write_text("no picture")
    denoiser, said = model(tmp_path), []
    sources = scan([Path("in")])  # as users name them; workers are elsewhere
    here = denoise_files(sources, denoiser, Path("here"))
    there = denoise_files(sources, denoiser, Path("there"), spread=Spread(workers=2, say=said.append))
    assert said == ["11 files to 2 workers of the Ray cluster, on one thread each"]
    assert [(file.source, file.status, file.error, file.offset) for file in there.files] == [
        (file.source, file.status, file.error, file.offset) for file in here.files
    ]
    assert there.count("ok") == 10
    for file in sorted(Path("here").glob("*.png")):
        assert file.read_bytes() == (Path("there") / file.name).read_bytes()
    assert {path.name for path in Path("there").iterdir()} == {path.name for path in Path("here").iterdir()}
    assert MANIFEST_NAME in {path.name for path in Path("there").iterdir()}
    again = denoise_files(sources, denoiser, Path("there"), OutputOptions(skip_existing=True), spread=Spread(workers=2))
    assert (again.count("skipped"), again.count("failed")) == (10, 1)


@pytest.mark.usefixtures("ray")
def test_what_a_dead_worker_owed_is_done_by_another_and_what_kills_two_is_left_out(tmp_path):
    jobs = jobs_of(photos(tmp_path / "in", *"abcdef", "killer", "once1", "once2"), tmp_path / "out")
    (tmp_path / "markers").mkdir()
    workers = Workers(partial(copying, tmp_path / "markers"), 2, gpus=False, identified=True)
    made: dict[str, Staged] = {job.source.stem: staged for job, staged in workers(iter(jobs))}
    assert sorted(made) == [job.source.stem for job in jobs]
    for job in jobs:
        staged = made[job.source.stem]
        if job.source.stem == "killer":
            assert staged.error == f"{job.source}: ended the process that worked on it, 2 times; left out"
        else:
            assert staged.temporary is not None, staged.error
            assert staged.temporary.read_bytes() == job.source.read_bytes()
            assert staged.made.note == "cpu"


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_a_full_disk_and_workers_that_cannot_start_end_the_run(tmp_path):
    jobs = jobs_of(photos(tmp_path / "in", "full"), tmp_path / "out")
    with pytest.raises(RunError, match=r"full\.png: cannot write: No space left on device"):
        list(Workers(partial(copying, tmp_path), 1, gpus=False, identified=True)(jobs))
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(RunError, match="a worker ended before it could work"):
        list(Workers(never_built, 1, gpus=False, identified=True)(jobs))


def test_ray_is_chosen_when_it_pays(tmp_path, monkeypatch):
    jobs = jobs_of(photos(tmp_path / "in", *map(str, range(HANDFUL + 1))), tmp_path / "out")
    chosen: list[str] = []

    def on_ray(self, todo, build, **_):
        chosen.append(f"ray {len(todo)}")
        yield from ((job, Staged(seconds=0.0)) for job in todo)

    def here(jobs):
        for job in jobs:
            chosen.append("here")
            yield job, Staged(seconds=0.0)

    def choose(jobs, **settings) -> list[str]:
        chosen.clear()
        assert [job for job, _ in Spread(**settings).over(here, never_built, gpu=False)(iter(jobs))] == jobs
        return chosen

    monkeypatch.setattr(Spread, "_on_ray", on_ray)
    monkeypatch.setattr(spreading, "_cores", lambda: 4)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    everything = len(jobs)
    assert choose(jobs, workers=0) == ["here"] * everything
    assert choose(jobs, workers=1) == [f"ray {everything}"]
    assert choose(jobs) == ["here"] * everything
    # The first file took long: the rest would too.
    monkeypatch.setattr(spreading, "_LOOK_SECONDS", -1.0)
    monkeypatch.setattr(spreading, "WORTH_SECONDS", 0.0)
    assert choose(jobs) == ["here", f"ray {everything - 1}"]
    monkeypatch.setattr(spreading, "_cores", lambda: 1)
    assert choose(jobs) == ["here"] * everything
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert choose(jobs) == [f"ray {everything}"]
    assert choose(jobs[:HANDFUL]) == ["here"] * HANDFUL


def test_a_number_of_workers_is_read_or_refused():
    assert (workers_of("auto"), workers_of("0"), workers_of("12")) == (None, 0, 12)
    for text in ("many", "-1", "1.5", ""):
        with pytest.raises(UserError, match="--workers: expected auto, 0"):
            workers_of(text)
