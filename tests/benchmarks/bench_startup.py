"""Seconds from the call to the answer of `unveil denoise` on one small picture, and what of it is not denoising.

python tests/benchmarks/bench_startup.py --runs 7
python tests/benchmarks/bench_startup.py --model runs/mine
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from skimage import data

from models import InferenceSpec, build, default_specs, save
from pipeline.data.images import Image, write_image

ROOT = Path(__file__).resolve().parents[2]


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--model", type=Path, help="by default an untrained U-Net of the default size")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = options.model
        if model is None:
            model, spec = folder / "model", default_specs()["unet"]
            save(model, build(spec, seed=0), spec=spec, inference=InferenceSpec(), card={})
        write_image(folder / "one.png", Image(pixels=data.astronaut()[:256, :256]))
        calls = {
            "denoise one.png": ["denoise", folder / "one.png", "--model", model.absolute(), "--out", folder / "out"],
            "denoise --help": ["denoise", "--help"],
        }
        for call, arguments in calls.items():
            whole, working, cpu = [], [], []
            for _ in range(options.runs + 1):
                more = [] if "--help" in arguments else ["--overwrite", "--json"]
                start, before = time.perf_counter(), cpu_seconds()
                command = [sys.executable, "-m", "pipeline", *map(str, [*arguments, *more])]
                run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
                whole.append(time.perf_counter() - start)
                cpu.append(cpu_seconds() - before)
                working.append(json.loads(run.stdout)["files"][0]["seconds"] if more else 0.0)
            # The first one reads the libraries from the disk.
            total, file = statistics.median(whole[1:]), statistics.median(working[1:])
            parts = f"{file:.2f} s of it the file, start-up {total - file:.2f} s"
            print(f"{call}: {total:.2f} s, {parts}; {statistics.median(cpu[1:]):.2f} CPU seconds", flush=True)


if __name__ == "__main__":
    main()
