"""How right the gate's estimates are: a run's network, non-local means and total variation on its held-out crops.

    OMP_NUM_THREADS=1 python tests/benchmarks/gate_of_runs.py NAME=DATA:RUN ...

RUN is a finished run on noisy photos, DATA holds the same photos with their clean partners, which only this script
reads: the squared error over that of the noisy crops, as it is and as it was estimated without them.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from models import load
from pipeline.data.held_out import MEASURE_BATCH
from pipeline.data.images import read_image, to_float, without_alpha
from pipeline.data.source import BatchSource
from pipeline.evaluation.baselines import nlm, tv
from pipeline.evaluation.datasets import find_pairs
from pipeline.evaluation.trust import denoise_with, filter_with, measure_trust
from pipeline.evaluation.trust_gate import judge
from pipeline.training.intake import read_source
from pipeline.training.rundir import read_config


def rows(name: str, data: str, run: Path) -> list[str]:
    """Return a row of Markdown for each denoiser."""
    config = read_config(run)
    source, _ = read_source(config, lambda *_: None)
    crops = BatchSource(source).batch(MEASURE_BATCH, range(config.trust.crops))
    noisy, images = torch.from_numpy(crops["noisy"]), np.asarray(crops["images"])
    partner = {pair.noisy.name: pair.clean for pair in find_pairs(data).pairs}
    parts = []
    for area in source.measured[: len(noisy)]:
        whole = to_float(without_alpha(read_image(partner[Path(area.file).name]).pixels))
        parts.append(whole[area.top : area.top + area.height, area.left : area.left + area.width].transpose(2, 0, 1))
    clean = torch.from_numpy(np.stack(parts))
    loaded = load(run / "weights")
    of_nlm = measure_trust(filter_with(nlm), noisy, images).estimated_error
    found = []
    for label, denoiser in {
        "ours, one pass": denoise_with(loaded.network, loaded.inference),
        "NLM, estimated sigma": filter_with(nlm),
        "TV, estimated sigma": filter_with(tv),
    }.items():
        measures = replace(measure_trust(denoiser, noisy, images), error_of_nlm=of_nlm)
        with torch.inference_mode():
            output = denoiser(noisy, torch.arange(len(noisy)))
        true = float((output - clean).square().mean() / (noisy - clean).square().mean())
        gate = judge(measures)
        found.append(
            f"| {name} | {label} | {true:.2f} | {measures.estimated_error:.2f} | {measures.noise_left:.2f} "
            f"| {measures.structure_lost:.2f} | {'passed' if gate.passed else gate.why.split(':')[0]} |"
        )
    return found


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="NAME=DATA:RUN")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| set | denoiser | error | estimated | noise left | structure lost | gate |\n|---|---|---|---|---|---|---|")
    for text in options.sets:
        name, _, places = text.partition("=")
        data, _, run = places.rpartition(":")
        print("\n".join(rows(name, data, Path(run))), flush=True)


if __name__ == "__main__":
    main()
