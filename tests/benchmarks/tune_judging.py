"""What cheaper judging of trials costs: how well it ranks them, beside how long it takes.

    OMP_NUM_THREADS=1 python tests/benchmarks/tune_judging.py SEARCH [--pairs PAIRS] [--draws 8,2,1]

SEARCH is the folder of a finished search of noisy photos with `--scheduler none`. The weights that each trial left are
judged by `trust` on all, half, a quarter and an eighth of the held-out crops, at one, two and eight random draws of
the masks. Printed is the rank correlation of each way with the first, which is what the cheaper ones stand for, and
with the mean PSNR of the middles of PAIRS, and where the trial that it calls best stands among all by both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from models import denoise, from_network, to_network
from pipeline.evaluation.case_sets import data_set
from pipeline.evaluation.metrics import psnr_rgb_u8
from pipeline.evaluation.trust import denoise_with, error_terms
from pipeline.training.checkpoint import load_latest
from pipeline.training.intake import read_source
from pipeline.training.loop import new_state
from tuning.material import trust_crops
from tuning.objective import trial_config, trial_folder
from tuning.plan import read_plan
from tuning.runs import known_trials
from tuning.score import choose_scores, split_source

PARTS = {1: "all", 2: "half", 4: "a quarter", 8: "an eighth"}
SIDE = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("search", type=Path)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--draws", default="8,2,1")
    options = parser.parse_args()
    ways = [(part, int(draws)) for part in PARTS for draws in options.draws.split(",")]
    torch.set_num_threads(1)
    plan = read_plan(options.search)
    held_out = split_source(read_source(plan.base(), lambda *_: None)[0], choose_scores(plan))[1]
    pairs = [case.read() for case in data_set(options.pairs).cases] if options.pairs else []
    scores: dict[tuple[int, int], list[float]] = {way: [] for way in ways}
    seconds = dict.fromkeys(ways, 0.0)
    psnr: list[float] = []
    for key, known in known_trials(options.search).items():
        config = trial_config(plan.base(), known["overrides"])
        state = new_state(config, "cpu")
        if not load_latest(trial_folder(options.search, key) / "checkpoints", state):
            raise SystemExit(f"{key}: no checkpoint is left")
        for part, draws in ways:
            crops = trust_crops(held_out, config.trust.crops, config.trust.crops // part)
            begun = time.process_time()
            found = error_terms(
                denoise_with(state.average, replace(config.inference, draws=draws)), crops.noisy, crops.known
            )
            seconds[part, draws] += time.process_time() - begun
            scores[part, draws].append(found["noise_left"] + abs(found["structure_lost"]))
        values = []
        for noisy, clean in pairs:
            assert clean is not None
            top, left = (max(0, (length - SIDE) // 2) for length in noisy.shape[:2])
            window = np.s_[top : top + SIDE, left : left + SIDE]
            with torch.inference_mode():
                result = denoise(state.average, to_network(noisy[window], 3), replace(config.inference, draws=8))
            values.append(psnr_rgb_u8(from_network(result, 3), clean[window]))
        psnr.append(statistics.fmean(values) if values else 0.0)
        print(f"\r{len(psnr)} trials", end="", flush=True)
    whole = scores[ways[0]]
    print("\n| crops | draws | s of the processor a trial | rank correlation | with PSNR | its best: place | by PSNR |")
    print("|---|---|---|---|---|---|---|")
    for part, draws in ways:
        own = scores[part, draws]
        best = int(np.argmin(own))
        place, by_psnr = (sum(one < values[best] for one in values) + 1 for values in (whole, [-one for one in psnr]))
        told = [f"{-spearmanr(own, psnr).statistic:.3f}", by_psnr] if pairs else ["", ""]
        cells = [PARTS[part], draws, f"{seconds[part, draws] / len(own):.2f}"]
        cells += [f"{spearmanr(own, whole).statistic:.3f}", told[0], place, told[1]]
        print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
