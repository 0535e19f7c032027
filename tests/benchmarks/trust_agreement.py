"""How well the measures that see no clean image agree with PSNR, on real noisy photos and small networks.

    OMP_NUM_THREADS=1 .venv/bin/python tests/benchmarks/trust_agreement.py --data ../shared/data/dev --out runs/trust

Trains small U-Nets on the noisy sides alone, in several configurations, and measures each as `unveil train` does. Only
this script reads the clean sides, to score every measured checkpoint. Prints, for each measure, its rank correlation
with PSNR and how many dB are lost by choosing with it: among the checkpoints of a run, and among finished runs and
their inference strides. With `--filters` the denoisers are blurs, non-local means and total variation of many
strengths, which takes two minutes. Called again it goes on where it was. Results: docs/results/trust.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pipeline.evaluation.trust_gate import Gate
    from pipeline.evaluation.trust_measures import TrustMeasures

Row = dict[str, Any]

SETS = {"sidd_crops": 1, "cc60": 3, "polyu": 5}
"""Folder, and which every so many-th pair is used."""

COMMON = (
    "network.width=12",
    "network.depth=2",
    "data.crop=96",
    "training.batch=4",
    "training.minutes=0",
    "optimizer.ema_decay=0.99",
    "inference.draws=2",
    "trust.crops=8",
    "cluster.workers=0",
)
VARIANTS: dict[str, tuple[str, ...]] = {
    "pd2": ("method.pd_stride=2",),
    "pd1": ("method.pd_stride=1",),
    "pd3": ("method.pd_stride=3",),
    "pd2 unstable": ("method.pd_stride=2", "optimizer.lr=3e-2", 'optimizer.schedule="constant"'),
    "pd2 zero": ("method.pd_stride=2", "method.fill=zero", "inference.fill=zero", "network.residual=false"),
    "pd2 wide": ("method.pd_stride=2", "network.width=24"),
}
STRIDES = (1, 2)
BIASES = ("trust_bias_1", "trust_bias_2", "trust_bias_3")
MEASURES: dict[str, Callable[[Row], float]] = {
    "held-out loss": lambda row: row["trust_loss"],
    "held-out loss at inference": lambda row: row["trust_loss_inference"],
    "estimated error": lambda row: row["trust_estimated_error"],
    "noise left + structure lost": lambda row: row["trust_noise_left"] + row["trust_structure_lost"],
    "noise left": lambda row: row["trust_noise_left"],
    "residual lag 1 off the noise's": lambda row: abs(
        row["trust_residual_correlation_1"] - row["trust_noise_correlation_1"]
    ),
    "detail correlation": lambda row: abs(row["trust_detail_correlation"]),
    "bias": lambda row: max(abs(value) for name, value in row.items() if name in BIASES),
}
"""Smaller is better for all of them."""

SCORED_SIDE = 128


def pairs(folder: Path, every: int) -> list[tuple[Path, Path]]:
    """Return (noisy, clean) files."""
    if (folder / "noisy").is_dir():
        found = [(path, folder / "clean" / path.name) for path in sorted((folder / "noisy").iterdir())]
    else:
        found = [(path, path.with_name(path.name.replace("_real", "_mean"))) for path in sorted(folder.glob("*_real*"))]
    return found[::every]


def middles(files: list[Path]) -> torch.Tensor:
    """Return the middle of each image, (B, 3, side, side)."""
    from pipeline.data.images import read_image, to_float

    cut = []
    for file in files:
        pixels = to_float(read_image(file).pixels[..., :3])
        top, left = ((size - SCORED_SIDE) // 2 for size in pixels.shape[:2])
        cut.append(pixels[top : top + SCORED_SIDE, left : left + SCORED_SIDE].transpose(2, 0, 1))
    return torch.from_numpy(np.stack(cut).astype(np.float32))


def psnr(image: torch.Tensor, clean: torch.Tensor) -> float:
    """Return the mean over pictures of PSNR over RGB, 8 bit."""
    error = (255 * image.clamp(0, 1)).round() - (255 * clean).round()
    return float((20 * np.log10(255) - 10 * torch.log10(error.square().mean((1, 2, 3)))).mean())


def run(folder: Path, name: str, every: int, variant: str, options: argparse.Namespace) -> list[Row]:
    """Train one network; return a row for each measured checkpoint, and one for each stride of the last weights."""
    from models import denoise
    from pipeline.config import load_config
    from pipeline.data.images import read_size
    from pipeline.data.source import SourceSpec
    from pipeline.training.history import Log
    from pipeline.training.loop import new_state, step_settings
    from pipeline.training.rank import local_rank
    from pipeline.training.schedule import run_progress
    from pipeline.training.step import train_step
    from pipeline.training.trust import Watch
    from pipeline.training.trust_split import hold_out

    out = options.out / f"{name} {variant}"
    stored = out / "rows.json"
    if stored.is_file():
        return list(json.loads(stored.read_text()))
    out.mkdir(parents=True, exist_ok=True)
    ends = (f"training.steps={options.steps}", f"trust.every={options.steps // options.checks}")
    config = load_config(preset="quick", overrides=[*COMMON, *VARIANTS[variant], *ends], data=str(folder))
    both = pairs(folder, every)
    noisy, clean = middles([pair[0] for pair in both]), middles([pair[1] for pair in both])
    files = [str(pair[0]) for pair in both]
    apart = hold_out(files, [read_size(file) for file in files], config, lambda *_: None)
    spec = SourceSpec(
        files=apart.training,
        seed=config.seed,
        crop=config.data.crop,
        channels=3,
        recipe=None,
        cache_bytes=1 << 29,
        max_pixels=config.data.max_pixels,
        held_out=apart.corners,
        measured=apart.crops,
    )
    rank, state = local_rank(spec, config.training.batch), new_state(config)
    (out / "log.jsonl").unlink(missing_ok=True)
    rows: list[Row] = []

    def look(kind: str, stride: int) -> None:
        inference = replace(config.inference, pd_stride=stride)
        watch = Watch(config.model_copy(update={"inference": inference}), out, {}, rank, Log(out))
        watch.look(state)
        row = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
        score = psnr(denoise(state.average, noisy, inference), clean)
        known = {"set": name, "variant": variant, "kind": kind, "stride": stride, "psnr": score}
        rows.append({**row, **known, "noisy": psnr(noisy, clean)})

    feed, start, measured = rank.feed(0), time.process_time(), 0.0
    while state.step < config.training.steps:
        batch = {key: torch.from_numpy(np.array(value)) for key, value in next(feed).items()}
        progress = run_progress(state.step, 0, steps=config.training.steps, minutes=0)
        train_step(state, batch, config.method, step_settings(config), progress)
        if state.step % config.trust.every == 0:
            before = time.process_time()
            look("checkpoint", 1)
            measured += time.process_time() - before
    for stride in STRIDES:
        look("final", stride)
    stored.write_text(json.dumps(rows))
    spent = time.process_time() - start
    print(f"{name}, {variant}: {rows[-len(STRIDES)]['psnr']:.2f} dB, {spent:.0f} CPU-seconds", flush=True)
    return rows


def filters() -> dict[str, Callable[[NDArray[np.float32]], Any]]:
    """Return denoisers without weights, from too weak to too strong."""
    from scipy.ndimage import gaussian_filter
    from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

    def blur(width: float, picture: NDArray[np.float32]) -> Any:
        return gaussian_filter(picture, (width, width, 0))

    def nlm(level: float, picture: NDArray[np.float32]) -> Any:
        return denoise_nl_means(
            picture, patch_size=5, patch_distance=6, h=level / 255, sigma=level / 255, fast_mode=True, channel_axis=2
        )

    def tv(weight: float, picture: NDArray[np.float32]) -> Any:
        return denoise_tv_chambolle(picture, weight=weight, channel_axis=2)

    found: dict[str, Callable[[NDArray[np.float32]], Any]] = {"nothing": lambda picture: picture}
    found |= {f"blur {width}": partial(blur, width) for width in (0.5, 0.7, 1.0, 1.5, 2.0, 3.0)}
    found |= {f"nlm {level}": partial(nlm, level) for level in (3, 5, 8, 12, 20, 30)}
    found |= {f"tv {weight}": partial(tv, weight) for weight in (0.01, 0.02, 0.05, 0.1, 0.2)}
    found["nlm 8, cast"] = lambda picture: found["nlm 8"](picture) + np.array([4, 0, -4], np.float32) / 255
    return found


def filtered(folder: Path, name: str, every: int) -> list[Row]:
    """Measure and score the filters on the middles of the pictures."""
    from pipeline.evaluation.trust import measure_trust
    from pipeline.evaluation.trust_measures import measures_as_json
    from pipeline.training.trust import flat_numbers

    both = pairs(folder, every)
    noisy, clean = middles([pair[0] for pair in both]), middles([pair[1] for pair in both])
    rows: list[Row] = []
    for who, apply in filters().items():

        def denoiser(crops: torch.Tensor, _: torch.Tensor, apply: Any = apply) -> torch.Tensor:
            done = [apply(crop.numpy().transpose(1, 2, 0)).transpose(2, 0, 1) for crop in crops]
            return torch.from_numpy(np.stack(done).astype(np.float32))

        measures = measure_trust(denoiser, noisy, np.arange(len(noisy)))
        numbers = flat_numbers(measures_as_json(measures))
        score = psnr(denoiser(noisy, torch.arange(len(noisy))), clean)
        rows.append({**numbers, "set": name, "variant": who, "psnr": score, "noisy": psnr(noisy, clean)})
    return rows


def spearman(first: list[float], second: list[float]) -> float:
    """Return the rank correlation."""
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)


def compare(groups: list[list[Row]]) -> Iterator[tuple[str, float, float, float]]:
    """Yield for each measure: rank correlation with -PSNR, dB lost by choosing with it, mean and worst over groups."""
    for name, measure in MEASURES.items():
        if "loss" in name and "trust_loss" not in groups[0][0]:
            continue
        ranks, lost = [], []
        for group in groups:
            values: NDArray[np.float64] = np.array([measure(row) for row in group])
            scores = np.array([row["psnr"] for row in group])
            ranks.append(spearman(list(values), list(-scores)))
            lost.append(float(scores.max() - scores[int(np.argmin(values))]))
        yield name, float(np.mean(ranks)), float(np.mean(lost)), float(np.max(lost))


def table(title: str, groups: list[list[Row]]) -> str:
    """Markdown."""
    lines = [f"| {title} | rank correlation | dB lost, mean | dB lost, worst |", "|---|---|---|---|"]
    lines += [f"| {name} | {rank:.2f} | {mean:.2f} | {worst:.2f} |" for name, rank, mean, worst in compare(groups)]
    spread = [np.array([row["psnr"] for row in group]) for group in groups]
    chance, worst_choice = (
        float(np.mean([values.max() - pick(values) for values in spread])) for pick in (np.mean, np.min)
    )
    lines.append(f"| *any, on average* | 0 | {chance:.2f} | {worst_choice:.2f} |")
    lasts = [float(values.max() - values[-1]) for values in spread]
    lines.append(f"| *the last* | | {np.mean(lasts):.2f} | {np.max(lasts):.2f} |")
    return "\n".join(lines)


def every_final(rows: list[Row]) -> str:
    """Markdown of all finished runs."""
    from pipeline.evaluation.trust_gate import judge

    lines = ["| set | denoiser | PSNR | estimated error | noise left | structure lost | gate |", "|---" * 7 + "|"]
    for row in rows:
        measures = measures_of(row)
        who = row["variant"] + (f", PD{row['stride']}" if "stride" in row else "")
        lines.append(
            f"| {row['set']} | {who} | {row['psnr']:.2f} "
            f"({row['psnr'] - row['noisy']:+.2f}) | {measures.estimated_error:.2f} | {measures.noise_left:.2f} "
            f"| {measures.structure_lost:.2f} | {verdict(judge(measures))} |"
        )
    return "\n".join(lines)


def verdict(gate: Gate) -> str:
    """Return a gate in a few words."""
    return "passed" if gate.passed else "failed: " + "; ".join(reason.split(":")[0] for reason in gate.why.split("; "))


def measures_of(row: Row) -> TrustMeasures:
    """Return the measures of a row of the log, where lists are numbered."""
    from pipeline.evaluation.trust_measures import HeldOutLosses, TrustMeasures

    numbers = {name.removeprefix("trust_"): value for name, value in row.items() if name.startswith("trust_")}
    losses = {name: numbers.pop(name) for name in list(numbers) if name.startswith("loss")}
    lists: dict[str, Any] = {}
    for name in ("noise_correlation", "residual_correlation", "bias"):
        count = 5 if "correlation" in name else 3
        lists[name] = tuple(numbers.pop(f"{name}_{index + 1}") for index in range(count))
    return TrustMeasures(losses=HeldOutLosses(**losses) if losses else None, **lists, **numbers)


def main() -> None:
    """Train what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with sidd_crops, cc60 and polyu")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--checks", type=int, default=5)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--filters", action="store_true", help="measure filters only; trains nothing")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.filters:
        found = [filtered(options.data / name, name, SETS[name]) for name in options.sets.split(",")]
        print(table("filters on one set", found) + "\n\n" + every_final([row for group in found for row in group]))
        return
    rows: list[Row] = []
    for variant in options.variants.split(","):
        for name in options.sets.split(","):
            rows += run(options.data / name, name, SETS[name], variant, options)
    runs = [
        [row for row in rows if row["kind"] == "checkpoint" and (row["set"], row["variant"]) == key]
        for key in sorted({(row["set"], row["variant"]) for row in rows})
    ]
    finals = [row for row in rows if row["kind"] == "final"]
    by_set = [[row for row in finals if row["set"] == name] for name in options.sets.split(",")]
    at_one = [[row for row in group if row["stride"] == 1] for group in by_set]
    print("\n" + table("checkpoints of one run", runs))
    print("\n" + table("finished runs, inference at PD1", at_one))
    print("\n" + table("finished runs, inference at PD1 and PD2", by_set))
    print("\n" + every_final(finals))


if __name__ == "__main__":
    main()
