"""Freed memory is kept: arrays of a megabyte cost page faults once, not each time."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import resource, sys
import numpy as np
from pipeline.data.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()

def touch():
    [np.ones(2**20, dtype=np.uint8) for _ in range(16)]

for _ in range(3):
    touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(way: str) -> int:
    run = subprocess.run([sys.executable, "-c", CODE, way], capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_memory_that_was_freed_is_used_again() -> None:
    # Without the setting the top of the heap, 16 MiB, is given back and taken again each time.
    assert faults("leave") > 10_000
    assert faults("keep") < 100
