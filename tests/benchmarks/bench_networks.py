"""What the networks cost: parameters, multiply-accumulates, receptive field, and CPU seconds on one thread.

    .venv/bin/python tests/benchmarks/bench_networks.py

Every kind at its default size is counted and timed, larger ones are counted only. Timed are one whole 256x256 image in
float32 as `unveil denoise` computes it (masked Swin with seeded attention masks), and forward and backward of training
with 4 crops of 64x64 (attention masks and stochastic depth on). Interleaved rounds, medians of CPU seconds; random
weights, on which time does not depend.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from models import InferenceSpec, NafnetSpec, RestormerSpec, build, default_specs, denoise, describe
from models.build import NetworkSpec
from pipeline.config import load_config

PAPERS: dict[str, NetworkSpec] = {
    "preset masked_swin_small": load_config(preset="masked_swin_small").network,
    "preset masked_swin_large": load_config(preset="masked_swin_large").network,
    "NAFNet, paper, width 32": NafnetSpec(width=32, encoder=(2, 2, 4, 8), middle=12, decoder=(2, 2, 2, 2), window=0),
    "Restormer, paper, denoising": RestormerSpec(dim=48, blocks=(4, 6, 6, 8), refinement=4),
}


def inference(spec: NetworkSpec) -> Callable[[], object]:
    network = build(spec).eval()
    image = torch.rand(1, spec.channels, 256, 256, generator=torch.Generator().manual_seed(0))
    return lambda: denoise(network, image, InferenceSpec())


def training(spec: NetworkSpec) -> Callable[[], object]:
    network = build(spec).train()
    image = torch.rand(4, spec.channels, 64, 64, generator=torch.Generator().manual_seed(0))
    seeds = torch.arange(4)

    def step() -> None:
        network.zero_grad()
        (network(image, seeds=seeds) - image).abs().mean().backward()

    return step


def medians(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for index in range(rounds + 1):
        for name, job in jobs.items():
            start = time.process_time()
            job()
            if index:  # the first is for warming up
                seconds[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def row(name: str, spec: NetworkSpec, *times: str) -> str:
    facts = describe(spec)
    side = facts["receptive_field"]
    cells = [
        name,
        f"{facts['parameters']:,}",
        f"{facts['macs_per_pixel']:,}",
        f"{facts['macs_512x512'] / 1e9:,.1f} G",
        "whole image" if side is None else str(side),
        *times,
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    specs = default_specs()
    inferences = medians({kind: inference(spec) for kind, spec in specs.items()}, rounds)
    trainings = medians({kind: training(spec) for kind, spec in specs.items()}, rounds)
    off = medians({"off": inference(replace(specs["masked_swin"], attention_ratio=0.0))}, 2)["off"]
    print("| | parameters | MACs a pixel | 512x512 | receptive field | 256x256, CPU s | step, CPU s |")
    print("|---|---|---|---|---|---|---|")
    for kind, spec in specs.items():
        print(row(f"`{kind}`", spec, f"{inferences[kind]:.2f}", f"{trainings[kind]:.2f}"))
    for name, spec in PAPERS.items():
        print(row(name, spec, "", ""))
    print(f"\nmasked_swin without attention masks: {off:.2f} CPU s; torch {torch.__version__}, one thread")


if __name__ == "__main__":
    main()
