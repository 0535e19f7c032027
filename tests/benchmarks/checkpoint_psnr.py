"""PSNR of a run's latest checkpoint, while it trains: the numbers of docs/results/lab.md.

    OMP_NUM_THREADS=1 python tests/benchmarks/checkpoint_psnr.py RUN FOLDER[:EVERY]... [--side 512]

    ... RUN ../shared/data/dev/sidd_crops ../shared/data/dev/cc60:3 ../shared/data/dev/polyu:6 ../shared/data/dev/renoir

The averaged weights denoise the centre of the pairs of each folder (as `unveil evaluate --data` finds them; every third
with ``:3``) in one pass; printed are `psnr_rgb_u8` of each and its mean. It reads only, so the run may go on.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
import torch

from models import denoise, from_network, to_network
from pipeline.config import check
from pipeline.evaluation.case_sets import data_set
from pipeline.evaluation.cases import checked
from pipeline.evaluation.metrics import psnr_rgb_u8
from pipeline.training.checkpoint import load_latest
from pipeline.training.loop import new_state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("folders", nargs="+", metavar="FOLDER[:EVERY]")
    parser.add_argument("--side", type=int, default=512)
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = check(json.loads((options.run / "config.json").read_text("utf-8")))
    state = new_state(config, "cpu")
    if not load_latest(options.run / "checkpoints", state):
        raise SystemExit(f"{options.run}: no checkpoint yet")
    print(f"{options.run.name}, step {state.step}")
    for text in options.folders:
        folder, _, every = text.partition(":")
        values = []
        for case in data_set(Path(folder)).cases[:: int(every or 1)]:
            noisy, clean = checked(case, 11)
            assert clean is not None
            top, left = (max(0, (length - options.side) // 2) for length in noisy.shape[:2])
            window = np.s_[top : top + options.side, left : left + options.side]
            with torch.inference_mode():
                result = denoise(state.average, to_network(noisy[window], config.network.channels), config.inference)
            values.append(psnr_rgb_u8(from_network(result, 3), clean[window]))
        print(f"{Path(folder).name}: {statistics.fmean(values):.2f}   {' '.join(f'{value:.2f}' for value in values)}")


if __name__ == "__main__":
    main()
