"""What a search takes beside its training steps, with trials of about a minute.

    python tests/benchmarks/tune_cost.py --data ../shared/data/dev/sidd_crops --out cost [--samples 6] [--steps 200]

Runs `unveil tune --preset tune_masks --scheduler none` as it is, and puts together what trials write down themselves
(rows `cost` of their logs: start, steps, judging, saving, in seconds of the clock and of the processor) with what the
processes of the search took, sampled from outside: the driver with MLflow in it, Ray's own processes, and what of the
trials' processes is none of the trials' (their start, Ray's threads). Seconds of the processor hardly depend on what
else the machine does; those of the clock do. What happens once a search (Ray's start, pictures) stands apart from what
happens while trials run, which is what grows with them. Results: docs/results/tune.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 0.5
PARTS = ("steps", "judging", "saving", "start")


class Watch:
    """Seconds of the processor that each kind of process of a search has taken."""

    def __init__(self, driver: psutil.Process) -> None:
        self._driver = driver
        self._kinds: dict[int, str] = {}
        self._seconds: dict[int, float] = {}
        self._samples: list[tuple[float, dict[int, float]]] = []

    def look(self) -> None:
        """Take a sample; what has ended keeps what it had."""
        for process in (self._driver, *self._children()):
            try:
                times = process.cpu_times()
                self._kinds[process.pid] = self._kind(process)
                self._seconds[process.pid] = times.user + times.system
            except psutil.Error:
                continue
        self._samples.append((time.time(), dict(self._seconds)))

    @property
    def end(self) -> float:
        """When it looked last."""
        return self._samples[-1][0]

    def at(self, moment: float) -> dict[str, float]:
        """Return what had been taken by then, by what each process turned out to be."""
        total: dict[str, float] = {}
        for pid, seconds in next((taken for at, taken in reversed(self._samples) if at <= moment), {}).items():
            total[self._kinds[pid]] = total.get(self._kinds[pid], 0.0) + seconds
        return total

    def _children(self) -> list[psutil.Process]:
        try:
            return self._driver.children(recursive=True)
        except psutil.Error:
            return []

    def _kind(self, process: psutil.Process) -> str:
        if process.pid == self._driver.pid:
            return "driver"
        # A worker is given its name when it gets its trial; before, it is one of Ray's that wait.
        trial = self._kinds.get(process.pid) == "trials" or "ImplicitFunc" in " ".join(process.cmdline())
        return "trials" if trial else "ray"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=6)
    parser.add_argument("--steps", type=int, default=200)
    arguments, more = parser.parse_known_args()
    command = [sys.executable, "-m", "pipeline", "tune", "--preset", "tune_masks", "--data", arguments.data]
    command += ["--out", str(arguments.out.resolve()), "--samples", str(arguments.samples), "--scheduler", "none"]
    command += ["--seeds", "1", f"training.steps={arguments.steps}", *more]
    driver = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    watch = Watch(psutil.Process(driver.pid))
    begun = time.time()
    while driver.poll() is None:
        watch.look()
        time.sleep(SECONDS)
    if driver.returncode:
        sys.exit(f"the search failed with exit code {driver.returncode}")
    tell(arguments.out, watch, begun)


def costs(out: Path) -> list[list[dict[str, Any]]]:
    """Return the rows of each trial in which it says what it spent."""
    logs = [path.read_text("utf-8").splitlines() for path in sorted((out / "trials").glob("*/log.jsonl"))]
    return [[row for row in map(json.loads, lines) if row.get("event") == "cost"] for lines in logs]


def last_ends(trials: list[list[dict[str, Any]]], slots: int) -> list[float]:
    """Return when each slot's last trial ended, if each took the next one as soon as it was free."""
    ends = [0.0] * slots
    for rows in sorted(trials, key=lambda rows: rows[0]["time"] - sum(rows[0]["clock"].values())):
        ends[ends.index(min(ends))] = rows[-1]["time"]
    return ends


def tell(out: Path, watch: Watch, begun: float) -> None:
    """Print the table."""
    trials = costs(out)
    count = len(trials)
    spent = {
        kind: {part: sum(row[kind].get(part, 0.0) for rows in trials for row in rows) for part in PARTS}
        for kind in ("clock", "cpu")
    }
    first = min(rows[0]["time"] - sum(rows[0]["clock"].values()) for rows in trials)
    last = max(rows[-1]["time"] for rows in trials)
    before, after, end = watch.at(first), watch.at(last), watch.at(watch.end)
    while_running = {kind: after.get(kind, 0.0) - before.get(kind, 0.0) for kind in after}
    known = sum(spent["cpu"].values())
    rest = {
        "trials' processes, none of the above": end.get("trials", 0.0) - known,
        "driver, with MLflow": while_running["driver"],
        "Ray": while_running.get("ray", 0.0),
    }
    whole = known + sum(rest.values())
    print(f"\n{count} trials, {end['driver'] + end['trials'] + end.get('ray', 0.0):.0f} s of the processor in all\n")
    print("| | s of the processor a trial | share | s of the clock a trial |")
    print("|---|---|---|---|")
    for part in PARTS:
        cpu, clock = (spent[kind][part] for kind in ("cpu", "clock"))
        print(f"| {part} | {cpu / count:.2f} | {cpu / whole:.1%} | {clock / count:.2f} |")
    for name, seconds in rest.items():
        print(f"| {name} | {seconds / count:.2f} | {seconds / whole:.1%} | |")
    steps = spent["cpu"]["steps"]
    print(f"| all but the steps | {(whole - steps) / count:.2f} | {1 - steps / whole:.1%} | |")
    slots = min(os.cpu_count() or 1, count)
    offered = slots * (last - first)
    waiting = offered - sum(end - first for end in last_ends(trials, slots))
    trained = spent["clock"]["steps"]
    print(f"\n{last - first:.0f} s of the clock from the first start to the last end, on {slots} slots. Of ", end="")
    print(
        f"their time {1 - trained / (offered - waiting):.1%} was not steps; {1 - trained / offered:.1%} with the ",
        end="",
    )
    print(f"{waiting:.1f} s that they waited for the last trial")
    once = {kind: end.get(kind, 0.0) - while_running.get(kind, 0.0) for kind in ("driver", "ray")}
    print(f"\nOnce a search: driver {once['driver']:.1f} s, Ray {once['ray']:.1f} s of the processor; ", end="")
    print(f"{first - begun:.1f} s of the clock before the first trial, {watch.end - last:.1f} s after the last")


if __name__ == "__main__":
    main()
