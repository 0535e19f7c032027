"""Whether the winner of a search is better on photos with a clean side, seed by seed, than the configuration as given.

    OMP_NUM_THREADS=1 python tests/benchmarks/search_on_pairs.py SEARCH FOLDER... [--limit 6] [--side 256] [--draws 2]

SEARCH is the folder of a finished `unveil tune` with repeated leaders. The averaged weights at the end of every leader
and seed denoise the centre of the pairs of each folder (as `unveil evaluate --data` finds them, evenly spaced), with
the inference of their configuration. Printed are mean and standard deviation over the seeds of the mean `psnr_rgb_u8`,
and the difference from the configuration as given with Welch's t-test. Nothing was chosen by these pictures.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import ttest_ind

from models import denoise, from_network, to_network
from pipeline.evaluation.case_sets import data_set
from pipeline.evaluation.cases import checked
from pipeline.evaluation.metrics import psnr_rgb_u8
from pipeline.training.checkpoint import load_latest
from pipeline.training.loop import new_state
from tuning.objective import trial_config, trial_folder
from tuning.plan import read_plan
from tuning.summary import summarize

Pair = tuple[NDArray[np.float32], NDArray[np.float32]]


def centres(folder: Path, limit: int, side: int) -> list[Pair]:
    """The centres of the pairs of a folder."""
    pairs = []
    for case in data_set(folder, limit=limit).cases:
        noisy, clean = checked(case, 11)
        assert clean is not None
        top, left = (max(0, (length - side) // 2) for length in noisy.shape[:2])
        window = np.s_[top : top + side, left : left + side]
        pairs.append((noisy[window], clean[window]))
    return pairs


def score(out: Path, key: str, overrides: dict[str, Any], sets: dict[str, list[Pair]], draws: int) -> dict[str, float]:
    """Mean PSNR on each set of the weights that a trial left."""
    config = trial_config(read_plan(out).base(), overrides)
    state = new_state(config, "cpu")
    if not load_latest(trial_folder(out, key) / "checkpoints", state):
        raise SystemExit(f"{key}: no checkpoint is left")
    spec = replace(config.inference, draws=min(draws, config.inference.draws))
    found = {}
    for name, pairs in sets.items():
        values = []
        for noisy, clean in pairs:
            with torch.inference_mode():
                result = denoise(state.average, to_network(noisy, config.network.channels), spec)
            values.append(psnr_rgb_u8(from_network(result, 3), clean))
        found[name] = statistics.fmean(values)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("search", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--limit", type=int, default=6)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--draws", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    plan = read_plan(options.search)
    summary = summarize(options.search, plan, [_Score(options.search)], {}, run_id="")
    sets = {folder.name: centres(folder, options.limit, options.side) for folder in options.folders}
    trials = {(trial.key, trial.seed): trial for trial in (*summary.trials, *summary.repeats)}
    table: dict[str, list[dict[str, float]]] = {}
    given = ""
    for leader in summary.leaders:
        label = "as given" if leader.preset else f"trial {leader.number}"
        given = label if leader.preset else given
        runs = [one for one in trials.values() if one.overrides == leader.overrides and one.state == "finished"]
        table[label] = []
        for run in sorted(runs, key=lambda one: one.seed):
            scores = score(options.search, run.key, {**run.overrides, "seed": run.seed}, sets, options.draws)
            table[label].append(scores)
            print(label, leader.overrides, f"seed {run.seed}", {k: round(v, 2) for k, v in scores.items()}, flush=True)
    print("| | " + " | ".join(sets) + " |\n|---|" + "---|" * len(sets))
    for label, scores in table.items():
        cells = []
        for name in sets:
            own, base = [one[name] for one in scores], [one[name] for one in table.get(given, [])]
            cell = f"{statistics.fmean(own):.2f} ± {statistics.stdev(own) if len(own) > 1 else 0:.2f}"
            if base and label != given and len(own) > 1:
                gain = statistics.fmean(own) - statistics.fmean(base)
                cell += f" ({gain:+.2f}, p {ttest_ind(own, base, equal_var=False).pvalue:.3f})"
            cells.append(cell)
        print(f"| {label} | " + " | ".join(cells) + " |")


class _Score:
    """The first score of a search, as its tune.json states it."""

    def __init__(self, search: Path) -> None:
        import json

        stated = json.loads((search / "tune.json").read_text("utf-8"))
        self.name, self.mode = stated["score_name"], stated["score_mode"]
        self.definition = stated["score_definition"]


if __name__ == "__main__":
    main()
