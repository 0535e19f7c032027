"""Time and memory of `unveil denoise` on large pictures, against one pass over a whole image that fits.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_large.py [CASE...] [--rows N] [--json]

Cases: ``photo.png``, ``photo.jpg``, ``photo.tif`` (24 megapixels, 6000x4000; 8, 8 and 16 bits) with a U-Net of 1.01 M
parameters, ``huge.tif`` (200 megapixels, 20000x10000, 16 bits) with a network of 300 parameters, as this is about the
picture, and ``wide.tif``, as wide, with the large network and 1500 rows. Random weights. The program runs in a process
of its own; every 10 ms the resident memory of it and its children is added up. Stated are

* ``memory_mb``: the peak, less that of an idle interpreter, in MB (10^6 bytes); the limit is 1500;
* ``seconds_mp``: CPU seconds a megapixel of all processes together, decoding and encoding included; what the program
  needs for a picture of 16x16 (``start``) is taken off;
* ``ratio``: that by ``pass_mp``, the same of one pass over 1024x1024 in a process that does nothing else, measured
  before and after.

``--rows`` cuts the pictures, for a quick look; the memory is the same.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from models import InferenceSpec, LoadedModel, UNetSpec, build, denoise, load, save
from pipeline.data.image_types import Metadata
from pipeline.data.images import Image, write_image
from pipeline.data.rows import in_strips
from pipeline.data.tiff_regions import write_tiff_rows

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = {"large": UNetSpec(width=48), "small": UNetSpec(width=4, depth=0, convolutions=1)}
CASES = {
    "photo.png": (4000, 6000, np.uint8, "large"),
    "photo.jpg": (4000, 6000, np.uint8, "large"),
    "photo.tif": (4000, 6000, np.uint16, "large"),
    "wide.tif": (1500, 20000, np.uint16, "large"),
    "huge.tif": (10000, 20000, np.uint16, "small"),
}
LIMIT_MB, LIMIT_RATIO = 1500, 1.3


def write_model(folder: Path, kind: str) -> LoadedModel:
    """A network that does something, though nothing useful."""
    torch.manual_seed(0)
    network = build(NETWORKS[kind]).eval()
    torch.nn.init.normal_(network.head.weight, std=0.003)
    save(folder / kind, network, spec=NETWORKS[kind], inference=InferenceSpec(), card={})
    return load(folder / kind)


def write_picture(path: Path, height: int, width: int, dtype: type) -> None:
    """A photograph with noise, repeated."""
    from skimage import data

    rng = np.random.default_rng(0)
    photo = np.tile(data.astronaut(), (1, -(-width // 512), 1))[:, :width] / 255
    white = np.iinfo(dtype).max

    def bands():
        for _ in range(-(-height // 512)):
            noisy = np.clip(photo + rng.normal(0, 0.04, (512, 1, 1)) + rng.normal(0, 0.04, (1, width, 1)), 0, 1)
            yield np.rint(noisy * white).astype(dtype)

    rows = np.concatenate(list(bands()))[:height] if path.suffix != ".tif" else None
    if rows is not None:
        write_image(path, Image(pixels=rows))
        return

    def cut():
        left = height
        for band in in_strips(bands(), 512):
            yield band[: max(0, left)]
            left -= len(band)

    write_tiff_rows(path, cut(), (height, width, 3), Metadata())


def whole_pass(loaded: LoadedModel) -> float:
    """CPU seconds a megapixel of one pass over 1024x1024."""
    image = torch.rand(1, 3, 1024, 1024)
    start = time.process_time()
    denoise(loaded.network, image, InferenceSpec(), tile=4096)
    return (time.process_time() - start) / (1024**2 / 1e6)


def idle_bytes() -> int:
    code = "print(next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmRSS')) * 1024)"
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def run(arguments: list[str]) -> tuple[float, int]:
    """Run the program; return its CPU seconds and the largest sum of resident memory, children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen([sys.executable, "-m", "pipeline", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL)
    watched, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        total = 0
        try:
            for one in [watched, *watched.children(recursive=True)]:
                total += one.memory_info().rss
        except psutil.Error:
            continue
        peak = max(peak, total)
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(f"unveil ended with {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, peak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--rows", type=int, help="cut the pictures to so many rows")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    idle, results = idle_bytes(), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = {kind: write_model(folder, kind) for kind in NETWORKS}
        for case in options.cases:
            height, width, dtype, kind = CASES[case]
            height = min(height, options.rows or height)
            write_picture(folder / case, height, width, dtype)
            passes = [whole_pass(models[kind])]
            out = folder / "out"
            arguments = ["--model", str(folder / kind), "--out", str(out), "--device", "cpu", "--json"]
            write_picture(folder / f"start{Path(case).suffix}", 16, 16, dtype)
            start, _ = run(["denoise", str(folder / f"start{Path(case).suffix}"), *arguments])
            seconds, peak = run(["denoise", str(folder / case), *arguments])
            passes.append(whole_pass(models[kind]))
            (folder / case).unlink()
            (out / case).unlink()
            each = (seconds - start) / (height * width / 1e6)
            results[case] = {
                "pixels": f"{width}x{height}",
                "memory_mb": round((peak - idle) / 1e6),
                "start": round(start, 2),
                "seconds_mp": round(each, 3),
                "pass_mp": [round(one, 3) for one in passes],
                "ratio": round(each / (sum(passes) / 2), 3),
            }
            if not options.json:
                print(f"{case:10} {kind:5} {results[case]}", flush=True)
    if options.json:
        print(json.dumps(results))
    fits = all(result["memory_mb"] < LIMIT_MB for result in results.values())
    fast = all(result["ratio"] < LIMIT_RATIO for case, result in results.items() if case.startswith("photo"))
    return 0 if fits and fast else 1


if __name__ == "__main__":
    sys.exit(main())
