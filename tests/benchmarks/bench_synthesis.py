"""Camera-noise synthesis against a straightforward torch port of the published pipeline, on one thread.

    .venv/bin/python tests/benchmarks/bench_synthesis.py

Interleaved rounds, CPU seconds, medians. Both start from 8-bit sRGB crops, each with a camera and a noise level of
its own, and end in float; they are checked to agree before they are timed. The port takes one crop at a time, as it
is published; ours one crop, and a batch as large as one 256x256 crop.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import fields

import straightforward_isp as port
import torch
from torch import Tensor

from noise import CameraNoise, corrupt
from noise.shot_read import NoiseLevel
from pipeline.data.allocator import keep_freed_memory
from raw.camera import Camera, sample_camera
from raw.isp import process, unprocess

SIDES = (64, 128, 256)
FLOOR_NS = {"unprocess + noise": 9.0, "unprocess + noise + process": 17.0}
"""Estimated cost per pixel and core of one pass over tiles that stay in cache."""

AGREEMENT = 1e-5
LEVEL = NoiseLevel(shot=0.004, read=2e-5)
Job = Callable[[], object]


def crops(side: int, count: int) -> Tensor:
    """(count, 3, side, side) uint8, pieces of a photograph."""
    from skimage import data

    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1)
    return torch.stack([photo[:, 16 * i : 16 * i + side, 100 + 8 * i :][..., :side] for i in range(count)])


def jobs(side: int) -> tuple[dict[str, dict[str, tuple[Job, int]]], float]:
    """For each task and way: a function and how many crops it does; and the largest difference of the two ways."""
    count = max(1, (256 // side) ** 2)
    images = crops(side, count)
    generator = torch.Generator().manual_seed(1)
    cameras = [sample_camera(generator) for _ in range(count)]
    batch = Camera(
        **{
            field.name: torch.stack([getattr(camera, field.name) for camera in cameras])
            for field in fields(Camera)
            if field.name != "pattern"
        }
    )
    first, camera = images[0], cameras[0]
    interleaved = first.permute(1, 2, 0).contiguous()
    gains = (camera.rgb_gain.item(), camera.red_gain.item(), camera.blue_gain.item())
    cam2rgb = camera.cam2rgb

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(3)

    def port_raw() -> Tensor:
        bayer = port.unprocess(interleaved.float() / 255.0, camera.rgb2cam, gains)
        return port.add_noise(bayer, LEVEL.shot, LEVEL.read, seeded())

    def our_raw() -> Tensor:
        return LEVEL.add(unprocess(first, camera), seeded())

    def batch_raw() -> Tensor:
        return LEVEL.add(unprocess(images, batch), seeded())

    clean = port.unprocess(interleaved / 255.0, camera.rgb2cam, gains)
    theirs = port.process(clean, cam2rgb, gains).permute(2, 0, 1)
    error = float((process(unprocess(first, camera), camera) - theirs).abs().max())
    return {
        "unprocess + noise": {"port": (port_raw, 1), "one": (our_raw, 1), "batch": (batch_raw, count)},
        "unprocess + noise + process": {
            "port": (lambda: port.process(port_raw(), cam2rgb, gains), 1),
            "one": (lambda: process(our_raw(), camera), 1),
            "batch": (lambda: process(batch_raw(), batch), count),
        },
        "corrupt: noisy and clean": {"one": (lambda: corrupt(first, CameraNoise(), seeded()), 1)},
    }, error


def seconds(job: Job, repeats: int) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    for _ in range(repeats):
        job()
    return (time.process_time() - start) / repeats


def measure(side: int, rounds: int) -> list[dict[str, object]]:
    """One row a task, with crops per CPU second of each way."""
    tasks, error = jobs(side)
    if error > AGREEMENT:
        sys.exit(f"the port and ours differ by {error:.1e}, expected at most {AGREEMENT}")
    rows = []
    for task, ways in tasks.items():
        repeats = {way: max(2, 60_000 // (side * side * count // 16)) for way, (_, count) in ways.items()}
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, (job, count) in ways.items():
                times[way].append(seconds(job, repeats[way]) / count)
        row: dict[str, object] = {"side": side, "task": task}
        row |= {f"{way}_per_second": round(1 / statistics.median(values)) for way, values in times.items()}
        best = statistics.median(times["batch" if "batch" in times else "one"])
        row["ns_per_pixel"] = round(best / (side * side) * 1e9, 1)
        if "port" in times:
            for way in ("one", "batch"):
                pairs = zip(times["port"], times[way], strict=True)
                row[f"{way}_ratio"] = round(statistics.median(slow / fast for slow, fast in pairs), 2)
            row["floor_share"] = round(FLOOR_NS[task] / (best / (side * side) * 1e9), 2)
        rows.append(row)
    return rows


def main() -> None:
    """Print a Markdown table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--default-allocator", action="store_true", help="do not keep freed memory, as our actors do")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.default_allocator:
        keep_freed_memory()
    rows = [row for side in SIDES for row in measure(side, options.rounds)]
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    keys = ("port_per_second", "one_per_second", "one_ratio", "batch_per_second", "batch_ratio")
    print("| crop | task | port | ours, one | ratio | ours, batch | ratio | ns per pixel | share of the floor |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        cells = [f"{row['side']}x{row['side']}", row["task"], *(row.get(key, "") for key in keys)]
        cells += [row["ns_per_pixel"], row.get("floor_share", "")]
        print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
