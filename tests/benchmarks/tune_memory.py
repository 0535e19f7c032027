"""Whether the driver of a search grows with the number of trials.

    python tests/benchmarks/tune_memory.py --data ../shared/data/dev/sidd_crops --out memory [--samples 200]

Runs `unveil tune` with so many trials of nine steps of a tiny network, and samples the driver's resident memory as they
end. Prints it at every twentieth trial, and how much a trial adds, by a straight line through all but the first
twenty. Results: docs/results/tune.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["network.width=4", "network.depth=1", "data.crop=32", "training.batch=1", "training.steps=9"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=200)
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "pipeline", "tune", "--preset", "tune_masks", "--data", arguments.data]
    command += ["--out", str(arguments.out.resolve()), "--samples", str(arguments.samples), "--scheduler", "none"]
    command += ["--seeds", "1", "--objective", "blind_l1", "--search", "optimizer.lr", *SMALL]
    driver = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    process = psutil.Process(driver.pid)
    found: dict[int, float] = {}
    while driver.poll() is None:
        ended = len(list(arguments.out.glob("trials/*/checkpoints/step_000000009")))
        try:
            # The first sample: after the last trial come the pictures.
            found.setdefault(ended, process.memory_info().rss / 2**20)
        except psutil.Error:
            break
        time.sleep(0.1)
    if driver.wait():
        sys.exit(f"the search failed with exit code {driver.returncode}")
    print("\n| trials ended | resident memory of the driver, MiB |")
    print("|---|---|")
    for ended in sorted(found):
        if ended == 1 or (ended % 20 == 0 and ended):
            print(f"| {ended} | {found[ended]:.0f} |")
    counts = np.array([ended for ended in sorted(found) if ended >= 20])
    slope = np.polyfit(counts, [found[ended] for ended in counts], 1)[0]
    print(f"\n{1024 * slope:.0f} KiB a trial")


if __name__ == "__main__":
    main()
