"""What an embedded Ray takes of one core while nobody asks anything of it: with its dashboard, and without.

    python tests/benchmarks/ray_idle.py [--seconds 60] [--rounds 3]

Each is started by `pipeline.cluster.start_ray` in a process of its own, in turns; after 15 seconds the seconds of the
processor that its processes take are counted, the driver's own among them. Results: docs/results/tune.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
SETTLE = 15.0
KINDS = ("dashboard", "log_monitor", "raylet", "gcs_server", "monitor", "Agent", "IDLE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=["on", "off"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(watched(arguments.seconds, dashboard=arguments.one == "on")))
        return
    found: dict[str, list[dict[str, float]]] = {"on": [], "off": []}
    for _ in range(arguments.rounds):
        for name, one in found.items():
            command = [sys.executable, __file__, "--one", name, "--seconds", str(arguments.seconds)]
            done = subprocess.run(
                command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True, check=True
            )
            one.append(json.loads(done.stdout.splitlines()[-1]))
    print("| dashboard | percent of a core | of it |")
    print("|---|---|---|")
    for name, one in found.items():
        kinds = sorted({kind for values in one for kind in values})
        middle = {kind: statistics.median(values.get(kind, 0.0) for values in one) for kind in kinds}
        of_it = ", ".join(f"{kind} {value:.1f}" for kind, value in sorted(middle.items(), key=lambda item: -item[1]))
        print(f"| {name} | {statistics.median(sum(values.values()) for values in one):.1f} | {of_it} |")


def watched(seconds: float, *, dashboard: bool) -> dict[str, float]:
    """Return the percent of a core that each kind of process takes."""
    from pipeline.cluster import start_ray

    started = start_ray(1, dashboard=dashboard)
    time.sleep(SETTLE)
    driver = psutil.Process()
    before = {one: spent(one) for one in (driver, *driver.children(recursive=True))}
    time.sleep(seconds)
    found: Counter[str] = Counter()
    for process, at in before.items():
        found["driver" if process == driver else kind_of(process)] += 100 * (spent(process) - at) / seconds
    started.leave()
    return {kind: round(value, 2) for kind, value in found.items()}


def spent(process: psutil.Process) -> float:
    """Seconds of the processor so far; nothing for one that has ended."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def kind_of(process: psutil.Process) -> str:
    try:
        line = " ".join(process.cmdline())
    except psutil.Error:
        return "ended"
    return next((kind for kind in KINDS if kind in line), "other")


if __name__ == "__main__":
    main()
