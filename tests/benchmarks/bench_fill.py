"""What filling hidden pixels takes on a CPU, beside the pooling kernel that does the same sums.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_fill.py

The reference is `torch.nn.functional.avg_pool2d`, which other devices are asked for: the same values, bit for bit.
Timed are a fill alone, blind inference and a training step of preset `tune_masks`, in turns; printed are medians of
seconds of the processor and how many times the reference takes. Results: docs/asymmetric-masks.md.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from models import InferenceSpec, build, complementary_masks, denoise, fill, fill_hidden
from pipeline.config import load_config
from pipeline.training.loop import step_settings
from pipeline.training.step import TrainState, train_step

CROP = 120
BATCH = 8


@contextlib.contextmanager
def pooling() -> Iterator[None]:
    """Fill by pooling meanwhile."""
    own = fill._line_sum
    fill._line_sum = fill._pooled_line_sum
    try:
        yield
    finally:
        fill._line_sum = own


def tasks() -> dict[str, Callable[[], Any]]:
    """Return what is timed, by name."""
    config = load_config(preset="tune_masks", data="photos")
    network = build(config.network).eval()
    crops = torch.rand(BATCH, 3, CROP, CROP, generator=torch.Generator().manual_seed(0))
    seeds = torch.arange(BATCH)
    mask = complementary_masks(seeds, 2, CROP, CROP)[0]
    one: InferenceSpec = replace(config.inference, draws=1)
    hole = replace(one, hole=(3, 3))
    state = TrainState(build(config.network), step_settings(config))
    batch = {"noisy": crops, "seeds": seeds}
    return {
        "fill `mean`, eight crops": lambda: fill_hidden(crops, mask, "mean"),
        "fill `smooth`, eight crops": lambda: fill_hidden(crops, mask, "smooth"),
        "blind inference, one draw of two masks": lambda: denoise(network, crops, one),
        "the same with holes of 3x3": lambda: denoise(network, crops, hole),
        "a training step of eight crops": lambda: train_step(state, batch, config.method, step_settings(config), 0.5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print("| | pooling, s | now, s | times |")
    print("|---|---|---|---|")
    for name, task in tasks().items():
        seconds: dict[str, list[float]] = {"pooling": [], "now": []}
        for _ in range(rounds + 1):
            for way, context in (("pooling", pooling()), ("now", contextlib.nullcontext())):
                begun = time.process_time()
                with context:
                    task()
                seconds[way].append(time.process_time() - begun)
        before, now = (statistics.median(values[1:]) for values in seconds.values())
        print(f"| {name} | {before:.4f} | {now:.4f} | {before / now:.2f} |")


if __name__ == "__main__":
    main()
