"""Damaged pictures of every kind through the reader; `tests/benchmarks/fuzz_reader.py` reads thousands of them."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.benchmarks.fuzz_files import seeds
from tests.benchmarks.fuzz_reader import Reader, fuzz

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read from /proc")


def test_damaged_pictures_are_read_or_refused_in_one_line_each_without_a_crash_a_hang_or_a_flood():
    outcomes, peaks = fuzz(400, seed=7, real=False)
    assert [outcome for outcome in outcomes if outcome.result not in ("picture", "refused")] == []
    # Both happen, so that neither a reader that takes nothing nor one that takes everything passes.
    counts = {result: sum(outcome.result == result for outcome in outcomes) for result in ("picture", "refused")}
    assert counts["picture"] > 40
    assert counts["refused"] > 150
    assert {outcome.kind for outcome in outcomes} == {"dng", "tiff", "png", "jpeg", "bmp", "webp"}
    assert peaks["reader"] > 2**24
    assert peaks["decoder"] > 2**24


def test_whole_files_are_read(tmp_path):
    reader = Reader()
    for seed in seeds(real=False):
        path = tmp_path / f"{seed.name}.{seed.kind}"
        path.write_bytes(seed.data)
        result, _, detail, _ = reader.read(path)
        assert result == "picture", detail
    reader.close()


def test_the_fuzzer_sees_a_crash_of_the_reader_and_goes_on(tmp_path):
    seed = seeds(real=False)[0]
    path = tmp_path / "a.tiff"
    path.write_bytes(seed.data)
    reader = Reader()
    assert reader.read(path)[0] == "picture"
    os.kill(reader.pid, signal.SIGSTOP)

    def strike():
        time.sleep(0.3)
        os.kill(reader.pid, signal.SIGSEGV)
        os.kill(reader.pid, signal.SIGCONT)

    thread = threading.Thread(target=strike)
    thread.start()
    assert reader.read(path)[0] == "crash"
    thread.join()
    assert reader.read(path)[0] == "picture"
    reader.close()
