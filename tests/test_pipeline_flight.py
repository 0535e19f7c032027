"""Several files at a time in one process: same bytes, same order, bounded, and stopped without traces."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from models import InferenceSpec, UNetSpec, build, save
from pipeline.data.folders import scan
from pipeline.data.images import Image, write_image
from pipeline.errors import RunError
from pipeline.inference.denoiser import NetworkDenoiser
from pipeline.inference.files import Job, denoise_files
from pipeline.inference.flight import Flight, flight_of
from pipeline.inference.manifest import MANIFEST_NAME
from pipeline.inference.results import Made


def write(path: Path, side: int) -> None:
    pixels = np.random.default_rng(list(path.name.encode())).integers(0, 255, (side, side, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, Image(pixels=pixels))


def jobs_of(tmp_path: Path, *sides: int) -> list[Job]:
    jobs = []
    for index, side in enumerate(sides):
        write(tmp_path / "in" / f"p{index:02}.png", side)
        jobs.append(Job(index, tmp_path / "in" / f"p{index:02}.png", tmp_path / "out" / f"p{index:02}.png"))
    (tmp_path / "out").mkdir(exist_ok=True)
    return jobs


class Watch:
    """Copies files and notes how many, how many pixels and which threads were at it together."""

    def __init__(self, seconds: float = 0.05) -> None:
        self._seconds, self._lock = seconds, threading.Lock()
        self._now: list[int] = []
        self.files = self.pixels = 0
        self.alone: list[tuple[int, bool, int]] = []
        """Side of each picture, whether nothing else was at work, and torch's threads."""

    def __call__(self, source: Path, output: Path) -> Made:
        side = source.stat().st_size  # any size will do: it tells the pictures apart
        with self._lock:
            self._now.append(side)
            self.files = max(self.files, len(self._now))
            self.alone.append((side, len(self._now) == 1, torch.get_num_threads()))
        time.sleep(self._seconds)
        output.write_bytes(source.read_bytes())
        with self._lock:
            self._now.remove(side)
        return Made()


def flown(flight: Flight, jobs: list[Job]) -> list[int]:
    order = []
    for job, staged in flight(jobs):
        assert staged.temporary is not None
        assert staged.temporary.read_bytes() == job.source.read_bytes()
        staged.temporary.unlink()
        order.append(job.number)
    return order


def test_as_many_as_allowed_are_in_flight_and_land_in_order(tmp_path):
    jobs = jobs_of(tmp_path, *[8] * 10)
    for files, pixels, most in ((3, 1000, 3), (8, 2 * 64, 2), (1, 1000, 1)):
        watch = Watch()
        flight = Flight(watch, files=files, pixels=pixels, small=100, identified=True)
        assert flown(flight, jobs) == list(range(10))
        assert watch.files == most


def test_a_large_picture_has_the_process_and_its_threads_to_itself(tmp_path):
    jobs = jobs_of(tmp_path, 8, 8, 40, 8, 8)
    large = jobs[2].source.stat().st_size
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        watch = Watch()
        assert flown(Flight(watch, files=4, pixels=10**6, small=100, identified=True), jobs) == list(range(5))
        for size, alone, threads in watch.alone:
            assert threads == (3 if size == large else 1)
            if size == large:
                assert alone
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("spec", [InferenceSpec(), InferenceSpec(offset="level", draws=2, mode="multi_mask")])
def test_the_bytes_do_not_depend_on_what_else_is_in_flight(tmp_path, spec, monkeypatch):
    shape = UNetSpec(channels=3, width=4, depth=2)
    save(tmp_path / "model", build(shape, seed=0), spec=shape, inference=spec, card={})
    for index in range(12):
        write(tmp_path / "in" / f"p{index}.png", 20 + 7 * index)
    (tmp_path / "in" / "bad.png").write_bytes(b"junk")
    denoiser = NetworkDenoiser(tmp_path / "model")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4))
    assert flight_of(denoiser, lambda *_: Made(), identified=True)._files == 4
    together = denoise_files(scan([tmp_path / "in"]), denoiser, tmp_path / "together")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(1))
    alone = denoise_files(scan([tmp_path / "in"]), denoiser, tmp_path / "alone")
    assert [file.status for file in together.files] == [file.status for file in alone.files] == ["failed"] + ["ok"] * 12
    for file in sorted((tmp_path / "alone").glob("*.png")):
        assert file.read_bytes() == (tmp_path / "together" / file.name).read_bytes(), file.name


def test_a_stop_waits_for_what_is_in_flight_and_leaves_nothing_of_it(tmp_path):
    jobs = jobs_of(tmp_path, *[8] * 6)
    watch = Watch(0.1)
    flight = Flight(watch, files=3, pixels=1000, small=100, identified=True)
    steps = flight(jobs)
    _, staged = next(steps)
    assert staged.temporary is not None
    steps.close()
    assert [path for path in (tmp_path / "out").iterdir() if path != staged.temporary] == []
    assert len(watch.alone) < 6


def test_ctrl_c_reaches_a_batch_in_flight(tmp_path, monkeypatch):
    shape = UNetSpec(channels=3, width=2, depth=1)
    save(tmp_path / "model", build(shape, seed=0), spec=shape, inference=InferenceSpec(), card={})
    for index in range(40):
        write(tmp_path / "in" / f"p{index:02}.png", 24)
    seen = []

    def tell(result):
        seen.append(result)
        if len(seen) == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    summary = denoise_files(
        scan([tmp_path / "in"]), NetworkDenoiser(tmp_path / "model"), tmp_path / "out", on_progress=tell
    )
    assert summary.stopped
    assert 5 <= summary.count("ok") < 40
    kept = {path.name for path in (tmp_path / "out").iterdir()}
    assert kept == {Path(file.output).name for file in summary.files} | {MANIFEST_NAME}


def test_a_full_disk_ends_the_flight(tmp_path):
    jobs = jobs_of(tmp_path, *[8] * 6)

    def full(source: Path, output: Path) -> Made:
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="No space left"):
        list(Flight(full, files=3, pixels=1000, small=100, identified=True)(jobs))
