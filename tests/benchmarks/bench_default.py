"""CPU seconds and memory of the shipped model on 1, 12 and 24 megapixels, beside BM3D and non-local means in one run.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_default.py [--model REF] [--megapixels 1,12,24] [--json]
        [--bm3d-megapixels 1] [--memory-gb GB]

A photograph (scikit-image's `astronaut`, repeated) with camera-like noise is written as PNG. Every denoiser runs in a
process of its own that reads the file, denoises and writes it: ours is `unveil denoise`, the classical ones are the
baselines of `unveil evaluate` with their noise estimate. Sizes are interleaved. Stated are CPU seconds of all processes
(start and files included), seconds a megapixel, the largest resident memory, and the ratio of the seconds to ours at
that size. BM3D is slow and holds the whole picture many times, so it runs up to ``--bm3d-megapixels``, and what comes
to hold more than ``--memory-gb`` (nine tenths of what is free, unless given) is ended and told as such.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from pipeline.data.image_types import Metadata
from pipeline.data.images import Image, write_image

ROOT = Path(__file__).resolve().parents[2]
SIZES = {1: (1000, 1000), 12: (3000, 4000), 24: (4000, 6000)}
CLASSICAL = """
import sys, numpy as np
from pathlib import Path
from pipeline.data.images import Image, read_image, to_float, from_float, write_image
from pipeline.evaluation.baselines import BASELINES
name, source, target = sys.argv[1:]
picture = read_image(Path(source))
result = BASELINES[name](to_float(picture.pixels))
write_image(Path(target), Image(pixels=from_float(np.clip(result, 0, 1), np.uint8)))
"""


def write_photo(path: Path, height: int, width: int) -> None:
    """A photograph with correlated noise whose strength follows the level."""
    from skimage import data

    rng = np.random.default_rng(0)
    photo = np.tile(data.astronaut(), (-(-height // 512), -(-width // 512), 1))[:height, :width].astype(np.float32)
    for top in range(0, height, 500):
        part = photo[top : top + 500]
        white = rng.standard_normal(part.shape, dtype=np.float32)
        part += (6 + 10 * (1 - part / 255)) * (white + np.roll(white, 1, axis=1)) / np.sqrt(2)
    write_image(path, Image(pixels=np.clip(np.rint(photo), 0, 255).astype(np.uint8), metadata=Metadata()))


def run(command: list[str], most: float) -> tuple[float, int]:
    """CPU seconds of a process and its children, and the largest sum of their resident memory in bytes.

    It is ended when that is more than ``most``.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before = os.times()
    process = psutil.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            peak = max(peak, sum(one.memory_info().rss for one in [process, *process.children(recursive=True)]))
        if peak > most:
            process.kill()
            process.wait()
            break
        time.sleep(0.02)
    if process.returncode and peak <= most:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--megapixels", default="1,12,24")
    parser.add_argument("--bm3d-megapixels", type=int, default=1)
    parser.add_argument("--memory-gb", type=float)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    most = 1e9 * options.memory_gb if options.memory_gb else 0.9 * psutil.virtual_memory().available
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in (int(part) for part in options.megapixels.split(",")):
            photo = folder / f"{size}.png"
            write_photo(photo, *SIZES[size])
            ours = [sys.executable, "-m", "pipeline", "denoise", str(photo), "--out", str(folder / "out"), "--json"]
            commands = {"unveil": [*ours, "--device", "cpu", "--model", options.model]}
            for method in ("nlm", "bm3d"):
                if method == "nlm" or size <= options.bm3d_megapixels:
                    commands[method] = [sys.executable, "-c", CLASSICAL, method, str(photo), str(folder / "other.png")]
            measured = {method: run(command, most) for method, command in commands.items()}
            (folder / "out" / photo.name).unlink(missing_ok=True)
            for method, (seconds, peak) in measured.items():
                rows.append(
                    {
                        "megapixels": size,
                        "method": method,
                        "cpu_seconds": round(seconds, 1),
                        "seconds_mp": round(seconds / size, 2),
                        "memory_mb": round(peak / 1e6),
                        "times_ours": round(seconds / measured["unveil"][0], 1),
                        "ended": f"over {most / 1e9:.1f} GB" if peak > most else None,
                    }
                )
                print(rows[-1], file=sys.stderr if options.json else sys.stdout, flush=True)
    if options.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
