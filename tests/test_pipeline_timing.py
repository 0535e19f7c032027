"""Where time goes: the slowest worker counts, and what to change is said in terms of the settings."""

from __future__ import annotations

import pytest

from pipeline.schema import ClusterConfig
from pipeline.training.timing import Timing, bottleneck, timing_row


def test_the_slowest_worker_counts_and_synthesis_of_all_is_added_up() -> None:
    row = timing_row([Timing(1.0, 0.1, 0.4, 0.02, 4), Timing(1.0, 0.3, 0.2, 0.04, 1)], batch=8)
    assert row == pytest.approx(
        {
            "images_per_second": 8.0,
            "wait_share": 0.3,
            "step_seconds": 0.8,
            "all_reduce_seconds": 0.03,
            "synthesis_seconds_per_batch": 0.6,
            "queue_ready": 1.0,
        }
    )


def test_the_bottleneck_is_named_with_the_setting_that_helps() -> None:
    row = {"wait_share": 0.4, "step_seconds": 0.1, "synthesis_seconds_per_batch": 0.25}
    assert bottleneck({**row, "wait_share": 0.01}, ClusterConfig()) is None
    told = bottleneck(row, ClusterConfig(synthesizers=1))
    assert told is not None
    assert "workers wait for batches 40% of the time" in told
    assert "synthesis is the bottleneck; cluster.synthesizers=3 would keep up (now 1)" in told
    told = bottleneck(row, ClusterConfig(synthesizers=4))
    assert told is not None
    assert "although 3 synthesizer(s) could keep up: cores are short; set cluster.threads lower" in told
