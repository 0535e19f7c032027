"""What cheaper judging of trials costs: how well it ranks them, beside how long it takes.

    OMP_NUM_THREADS=1 python tests/benchmarks/tune_judging.py SEARCH [--pairs PAIRS] [--draws 8,2,1]

SEARCH is the folder of a finished search of noisy photos with `--scheduler none`. The weights that each trial left are
judged by `trust` in several ways: on all held-out crops, on the first of them, and on the middles of all, at several
random draws of the masks. Partitions that are lattices are judged at one draw but in the first way, which stands for
the truth. Printed is the rank correlation of each way with the first, and with the mean PSNR of the middles of PAIRS,
and where the trial that it calls best stands among all by both.
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
from pipeline.data.held_out import MEASURE_BATCH
from pipeline.evaluation.case_sets import data_set
from pipeline.evaluation.metrics import psnr_rgb_u8
from pipeline.evaluation.trust import denoise_with, error_terms
from pipeline.evaluation.trust_known import Known, known_noise, middles
from pipeline.training.checkpoint import load_latest
from pipeline.training.intake import read_source
from pipeline.training.loop import new_state
from tuning.effort import Effort
from tuning.material import held_out_batch
from tuning.objective import trial_config, trial_folder
from tuning.plan import read_plan
from tuning.runs import known_trials
from tuning.score import choose_scores, split_source

PARTS = (("all", 1.0, 1.0), ("half", 0.5, 1.0), ("a quarter", 0.25, 1.0))
MIDDLES = (("all, of each 3/4 of the area", 1.0, 0.75), ("all, 1/2", 1.0, 0.5), ("all, 1/4", 1.0, 0.25))
SIDE = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("search", type=Path)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--draws", default="8,2,1")
    options = parser.parse_args()
    ways = [(*part, int(draws)) for part in (*PARTS, *MIDDLES) for draws in options.draws.split(",")]
    torch.set_num_threads(1)
    plan = read_plan(options.search)
    held_out = split_source(read_source(plan.base(), lambda *_: None)[0], choose_scores(plan))[1]
    pairs = [case.read() for case in data_set(options.pairs).cases] if options.pairs else []
    batch = held_out_batch(held_out, MEASURE_BATCH, plan.base().trust.crops)
    noisy = torch.from_numpy(batch["noisy"])
    known = known_noise(noisy, batch["images"])
    scores: dict[tuple[str, float, float, int], list[float]] = {way: [] for way in ways}
    seconds = dict.fromkeys(ways, 0.0)
    psnr: list[float] = []
    for key, trial in known_trials(options.search).items():
        config = trial_config(plan.base(), trial["overrides"])
        state = new_state(config, "cpu")
        if not load_latest(trial_folder(options.search, key) / "checkpoints", state):
            raise SystemExit(f"{key}: no checkpoint is left")
        for way in ways:
            _, part, area, draws = way
            inference = Effort(area, draws).inference(config.inference, stochastic=state.average.stochastic)
            if way == ways[0]:
                inference = replace(config.inference, draws=draws)
            count = max(1, round(part * len(noisy)))
            shown, found = middles(noisy[:count], first_of(known, count), Effort(area, draws).side(noisy.shape[-1]))
            begun = time.process_time()
            terms = error_terms(denoise_with(state.average, inference), shown, found)
            seconds[way] += time.process_time() - begun
            scores[way].append(terms["noise_left"] + abs(terms["structure_lost"]))
        values = []
        for picture, clean in pairs:
            assert clean is not None
            top, left = (max(0, (length - SIDE) // 2) for length in picture.shape[:2])
            window = np.s_[top : top + SIDE, left : left + SIDE]
            with torch.inference_mode():
                result = denoise(state.average, to_network(picture[window], 3), replace(config.inference, draws=8))
            values.append(psnr_rgb_u8(from_network(result, 3), clean[window]))
        psnr.append(statistics.fmean(values) if values else 0.0)
        print(f"\r{len(psnr)} trials", end="", flush=True)
    whole = scores[ways[0]]
    print("\n| crops | draws | s of the processor a trial | rank correlation | with PSNR | its best: place | by PSNR |")
    print("|---|---|---|---|---|---|---|")
    for way in ways:
        own = scores[way]
        best = int(np.argmin(own))
        place, by_psnr = (sum(one < values[best] for one in values) + 1 for values in (whole, [-one for one in psnr]))
        told = [f"{-spearmanr(own, psnr).statistic:.3f}", by_psnr] if pairs else ["", ""]
        cells = [way[0], way[-1], f"{seconds[way] / len(own):.2f}"]
        cells += [f"{spearmanr(own, whole).statistic:.3f}", told[0], place, told[1]]
        print(f"| {' | '.join(map(str, cells))} |")


def first_of(known: Known, count: int) -> Known:
    """Return what is known of the noise of the first ``count`` crops, as measured in all."""
    found = [(part[part < count], areas, part < count) for part, areas in known if part[0] < count]
    own = [(part, areas.of_patches(np.repeat(chosen, len(areas.flat) // len(chosen)))) for part, areas, chosen in found]
    return [(part, areas) for part, areas in own if areas is not None]


if __name__ == "__main__":
    main()
