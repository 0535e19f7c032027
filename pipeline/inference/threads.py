"""How many threads a network computes with on the CPU."""

from __future__ import annotations

import math
import os
from pathlib import Path

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def choose_threads() -> int:
    """Let PyTorch compute with as many threads as this process may use CPUs, and return their number.

    A number in ``OMP_NUM_THREADS`` or ``MKL_NUM_THREADS`` stays. Otherwise PyTorch counts the cores of the machine,
    also in a container that may use a few of them only, where the threads then wait for each other.
    """
    import torch

    if not any(os.environ.get(name) for name in _VARIABLES):
        wanted = usable_cpus()
        if wanted < torch.get_num_threads():
            torch.set_num_threads(wanted)
    return torch.get_num_threads()


def usable_cpus(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the CPUs that this process may run on, and no more than its control group pays for."""
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, min(cpus, math.ceil(_quota(root))))


def _quota(root: Path) -> float:
    """CPUs worth of time that the control group may use: version 2, then version 1; no limit if unknown."""
    try:
        most, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            most = (root / "cpu/cpu.cfs_quota_us").read_text()
            period = (root / "cpu/cpu.cfs_period_us").read_text()
        except OSError:
            return float(os.cpu_count() or 1)
    try:
        quota, unit = int(most), int(period)
    except ValueError:  # "max"
        return float(os.cpu_count() or 1)
    return quota / unit if quota > 0 and unit > 0 else float(os.cpu_count() or 1)
