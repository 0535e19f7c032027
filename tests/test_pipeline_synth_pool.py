"""Processes for tasks: results with their task, a death is one task's, an exception is everybody's."""

import operator
import os
import signal
import time
from functools import partial

import pytest

from pipeline.data.synth_pool import Crashed, run_in_processes
from pipeline.errors import RunError


def results_of(tasks, workers):
    """Tasks are calls without arguments, so that nothing of this file must be imported by the processes."""
    results = {}
    run_in_processes(operator.call, tasks, workers, results.__setitem__)
    return [results[index] for index in range(len(tasks))]


def test_every_result_comes_with_its_task():
    tasks = [partial(pow, 2, power) for power in range(20)]
    assert results_of(tasks, 2) == [2**power for power in range(20)]


def test_a_process_that_dies_is_replaced_and_costs_its_task_only():
    tasks = [
        partial(pow, 2, 1),
        partial(signal.raise_signal, signal.SIGKILL),
        partial(pow, 2, 3),
        partial(os._exit, 7),
        partial(signal.raise_signal, signal.SIGSEGV),
        partial(pow, 2, 6),
    ]
    results = results_of(tasks, 2)
    assert [results[index] for index in (0, 2, 5)] == [2, 8, 64]
    assert results[1] == Crashed("was ended by SIGKILL")
    assert results[3] == Crashed("ended with exit code 7")
    assert results[4] == Crashed("was ended by SIGSEGV")


def test_processes_have_one_torch_thread():
    import torch

    assert results_of([torch.get_num_threads] * 2, 2) == [1, 1]


def test_an_exception_ends_the_run_and_leaves_no_process():
    import psutil

    before = {child.pid for child in psutil.Process().children()}
    start = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        results_of([partial(time.sleep, 300), partial(divmod, 1, 0)], 2)
    assert time.monotonic() - start < 100
    left = [child for child in psutil.Process().children() if child.pid not in before]
    # Python's resource tracker stays for good.
    assert [child for child in left if "spawn_main" in " ".join(child.cmdline())] == []


def test_processes_that_cannot_start_are_reported(monkeypatch):
    monkeypatch.setattr("multiprocessing.spawn.get_preparation_data", lambda _: {"init_main_from_path": "/none/x.py"})
    with pytest.raises(RunError, match="--workers: a process ended with exit code 1 before it could work"):
        results_of([partial(pow, 2, 1)] * 3, 2)
