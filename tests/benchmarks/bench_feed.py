"""The feed: how long trainers wait, how throughput grows with actors, and what the orchestration costs.

    python tests/benchmarks/bench_feed.py [--only wait scaling call cost] [--step-seconds 0.05]

wait     a stand-in for a GPU step (a sleep) fed with camera pairs by one actor: share of the time that it waits, for
         steps in which the actor could make so many batches ("capacity").
scaling  batches a second that one, two ... actors deliver to a consumer that does nothing, and that as many plain
         processes make without Ray.
call     what one batch costs beyond its synthesis: one tiny crop, and 64 crops of 64x64 that are cut and sent only.
cost     CPU seconds per training step of everything `unveil train` starts (Ray, Ray Train, one trainer, one
         synthesizer, MLflow) against the same steps in a bare loop in one process; both on one thread, in turns,
         start-up left out. Wall seconds too, which the synthesizer's own core makes shorter.

Medians over rounds. Start it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from noise import CameraNoise
from pipeline.data.source import BatchSource, SourceSpec

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("wait", "scaling", "call", "cost")
BATCH = 8
CROP = 96


def images(folder: Path) -> list[str]:
    """Write two photographs and return their paths."""
    import imageio.v3 as iio
    from skimage import data

    folder.mkdir(exist_ok=True)
    paths = [folder / "astronaut.png", folder / "coffee.png"]
    for path, image in zip(paths, (data.astronaut(), data.coffee()), strict=True):
        iio.imwrite(path, image)
    return [str(path) for path in paths]


def spec_for(folder: Path) -> SourceSpec:
    """Camera pairs of these photographs."""
    return SourceSpec(
        files=tuple(images(folder)),
        seed=0,
        crop=CROP,
        channels=3,
        recipe=CameraNoise(),
        cache_bytes=1 << 26,
        max_pixels=1 << 26,
    )


def wait(spec: SourceSpec, step_seconds: float) -> None:
    """Print the share of the time that a stand-in step waits."""
    from pipeline.data.feed import Feed
    from pipeline.data.synth_actor import start_synthesizers

    print("\n| stand-in step, s | actors | capacity | waiting |\n|---|---|---|---|")
    (actor,) = start_synthesizers(spec, 1, cpus=0.5)
    for seconds in (step_seconds / 2, step_seconds, 2 * step_seconds, 4 * step_seconds):
        feed = Feed([actor], range(BATCH), start=0, depth=4)
        for _ in range(8):
            next(feed)
        start, waited, made = time.perf_counter(), feed.wait_seconds, feed.synthesis_seconds
        count = max(40, round(10 / seconds))
        for _ in range(count):
            next(feed)
            time.sleep(seconds)
        elapsed = time.perf_counter() - start
        one = (feed.synthesis_seconds - made) / count
        share = (feed.wait_seconds - waited) / elapsed
        print(f"| {seconds:.3f} | 1 | {seconds / one:.1f} | {share:.2%} |", flush=True)


def scaling(spec: SourceSpec, rounds: int, counts: list[int]) -> None:
    """Print batches a second by number of actors, against plain processes."""
    import ray

    from pipeline.data.feed import Feed
    from pipeline.data.synth_actor import start_synthesizers

    def through_ray(count: int, seconds: float = 6) -> float:
        actors = start_synthesizers(spec, count, cpus=0.1)
        feed = Feed(actors, range(BATCH), start=0, depth=4 * count)
        for _ in range(8 * count):
            next(feed)
        start = time.perf_counter()
        done = 0
        while time.perf_counter() - start < seconds:
            next(feed)
            done += 1
        rate = done / (time.perf_counter() - start)
        for actor in actors:
            ray.kill(actor)
        return rate

    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for count in counts:
            found.setdefault(("plain", count), []).append(plain(spec, count))
            found.setdefault(("ray", count), []).append(through_ray(count))
    rate = {key: statistics.median(values) for key, values in found.items()}
    print("\n| actors | through Ray, batches/s | plain processes | ratio | per actor, against one |")
    print("|---|---|---|---|---|")
    for count in counts:
        ours, others = rate["ray", count], rate["plain", count]
        print(
            f"| {count} | {ours:.1f} | {others:.1f} | {ours / others:.2f} | {ours / count / rate['ray', 1]:.2f} "
            f"(plain: {others / count / rate['plain', 1]:.2f}) |",
            flush=True,
        )


def _make_for(spec: SourceSpec, seconds: float, results: Any) -> None:
    import torch

    from pipeline.data.allocator import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(1)
    source = BatchSource(spec)
    for index in range(8):
        source.batch(index, range(BATCH))
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        source.batch(8 + done, range(BATCH))
        done += 1
    results.put(done / (time.perf_counter() - start))


def plain(spec: SourceSpec, count: int, seconds: float = 6) -> float:
    """Return the batches a second that so many processes make, and nobody takes."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_make_for, args=(spec, seconds, results)) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return sum(results.get() for _ in processes)


def call(spec: SourceSpec, seconds: float = 6) -> None:
    """Print the time from batch to batch where synthesis costs next to nothing."""
    from dataclasses import replace

    from pipeline.data.feed import Feed
    from pipeline.data.synth_actor import start_synthesizers

    print("\n| batch | MB | ms a batch, one actor | of it in the actor |\n|---|---|---|---|")
    for crop, count in ((8, 1), (64, 64)):
        (actor,) = start_synthesizers(replace(spec, recipe=None, crop=crop), 1, cpus=0.5)
        feed = Feed([actor], range(count), start=0, depth=4)
        batch = next(feed)
        start, made, done = time.perf_counter(), feed.synthesis_seconds, 0
        while time.perf_counter() - start < seconds:
            next(feed)
            done += 1
        each = 1000 * (time.perf_counter() - start) / done
        inside = 1000 * (feed.synthesis_seconds - made) / done
        size = sum(values.nbytes for values in batch.values()) / 1e6
        print(f"| {count} x {crop}x{crop} | {size:.3f} | {each:.2f} | {inside:.2f} |", flush=True)


BARE = """
import json, sys
from pathlib import Path
import torch
from pipeline.config import load_config
from pipeline.data.allocator import keep_freed_memory
from pipeline.training.intake import read_source
from pipeline.training.loop import run_loop
from pipeline.training.rank import local_rank
keep_freed_memory()
torch.set_num_threads(1)
config = load_config(preset="camera", overrides=json.loads(sys.argv[3]), data=sys.argv[1])
Path(sys.argv[2]).mkdir()
run_loop(config, Path(sys.argv[2]), {}, local_rank(read_source(config, lambda *_: None)[0], config.training.batch))
"""


def cost(base: Path, rounds: int, seconds: float) -> None:
    """Print CPU and wall seconds per step of the whole orchestration and of a bare loop."""
    overrides = [f"data.crop={CROP}", f"training.batch={BATCH}", "training.minutes=0", "training.steps=1000000"]
    overrides += ["cluster.threads=1", "training.checkpoint_seconds=30", "training.picture_seconds=30"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "UNVEIL_HOME": str(base / "home"), "PYTHONPATH": str(ROOT)}
    found: dict[str, list[tuple[float, float]]] = {"bare loop": [], "unveil train": []}
    for number in range(rounds):
        for name in found:
            out = base / f"{name.replace(' ', '_')}_{number}"
            command = [sys.executable, "-c", BARE, str(base / "images"), str(out), json.dumps(overrides)]
            if name == "unveil train":
                command = [sys.executable, "-m", "pipeline", "train", "--preset", "camera", "--out", str(out)]
                command += ["--data", str(base / "images"), *overrides, "cluster.workers=1"]
            with (base / "log").open("w") as log:
                process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
            found[name].append(_per_step(process, out, seconds))
            process.terminate()
            process.wait()
    print("\n| | CPU s a step | wall s a step |\n|---|---|---|")
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}
    for name, (cpu, wall) in medians.items():
        print(f"| {name} | {cpu:.4f} | {wall:.4f} |")
    ratios = [ours / bare for ours, bare in zip(medians["unveil train"], medians["bare loop"], strict=True)]
    print(f"| ratio | {ratios[0]:.3f} | {ratios[1]:.3f} |", flush=True)


def _per_step(process: subprocess.Popen[Any], out: Path, seconds: float) -> tuple[float, float]:
    """Return CPU and wall seconds per step of a process and its children, from its tenth row on."""
    log = out / "log.jsonl"

    def step() -> int:
        lines = [line for line in log.read_text().splitlines() if '"loss"' in line] if log.is_file() else []
        return int(json.loads(lines[-1])["step"]) if lines else 0

    while step() < 100:
        if process.poll() is not None:
            raise RuntimeError(f"it ended; see {out.parent / 'log'}")
        time.sleep(0.1)
    first, start, before = step(), time.monotonic(), _cpu(process)
    time.sleep(seconds)
    last, elapsed, after = step(), time.monotonic() - start, _cpu(process)
    return (after - before) / (last - first), elapsed / (last - first)


def _cpu(process: subprocess.Popen[Any]) -> float:
    root = psutil.Process(process.pid)
    total = 0.0
    for one in [root, *root.children(recursive=True)]:
        try:
            times = one.cpu_times()
            total += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return total


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--step-seconds", type=float, default=0.05)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="unveil-feed-") as folder:
        base = Path(folder)
        spec = spec_for(base / "images")
        if {"wait", "scaling", "call"} & set(options.only):
            from pipeline.cluster import start_ray

            started = start_ray(max(options.actors))
            if "wait" in options.only:
                wait(spec, options.step_seconds)
            if "scaling" in options.only:
                scaling(spec, options.rounds, options.actors)
            if "call" in options.only:
                call(spec)
            started.leave()
        if "cost" in options.only:
            cost(base, options.rounds, options.seconds)


if __name__ == "__main__":
    main()
