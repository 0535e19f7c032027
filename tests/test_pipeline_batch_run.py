"""Two hundred files, ten of them broken, ended twice and finished; `tests/benchmarks/batch_run.py` does 10,000."""

from __future__ import annotations

import signal

from tests.benchmarks.batch_run import BROKEN, measure, whole_png


def test_good_files_are_done_bad_ones_named_and_a_batch_in_parts_equals_a_whole_one(tmp_path):
    found = measure(tmp_path, 200, signals=(signal.SIGKILL, signal.SIGTERM))
    assert (found["code"], found["ok"], found["failed"], found["broken"]) == (3, 190, 10, 10)
    assert found["bad_named"]
    assert found["only_pictures"]
    assert found["equal"]
    (_, first), (_, second) = found["ends"]
    assert 0 < first <= second
    assert found["last"] == {"ok": 190 - second, "failed": 10, "skipped": second}
    sizes = [size for files, size in found["memory"] if files > 100 and size > 0]
    assert max(sizes, default=0) - min(sizes, default=0) < 40


def test_every_broken_file_is_broken_in_its_own_way():
    contents = {content(1) for _, content in BROKEN}
    assert len(contents) == len(BROKEN) == 20
    assert whole_png(1) not in contents
