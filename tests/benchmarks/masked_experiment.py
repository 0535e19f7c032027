"""Masked training, small and honest: a narrow masked Swin with and without masks, tested on noise it never saw.

    .venv/bin/python tests/benchmarks/masked_experiment.py --data ../shared/data/train/clean/bsds500 \\
        --test ../shared/data/dev/kodak24 --out runs/masked --steps 1200 --seeds 3

Trains through `unveil train`'s own door on Gaussian noise of sigma 15, makes the test sets as `unveil synth` does,
scores as `unveil evaluate` does, and prints the tables of docs/results/masked-training.md. Called again it goes on
where it was. Two controls that learn nothing: a Gaussian blur of the width that is best at the trained noise, and the
blur (wider) that is there as good as the network with both masks.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PRESET = "masked_swin"
NETWORK = (
    "network.dim=24",
    "network.depths=[2,2]",
    "network.heads=[2,2]",
    "network.drop_path=0",
    # A quarter of 24 channels, as in "3conv", is too narrow a neck.
    'network.group_conv="1conv"',
    "network.mask_token=zero",
    "method.site=token",
)
TRAINING = (
    "data.crop=48",
    "training.batch=4",
    "optimizer.lr=5e-3",
    "optimizer.schedule=cosine",
    "optimizer.warmup_steps=50",
    "cluster.workers=0",
    "cluster.threads=1",
    "training.log_every=50",
    "training.picture_seconds=86400",
    "training.checkpoint_seconds=60",
)
VARIANTS: dict[str, tuple[str, ...]] = {
    "none": ("method.input_ratio=[0.0,0.0]", "network.attention_ratio=0"),
    "both": ("method.input_ratio=[0.75,0.85]", "network.attention_ratio=0.75"),
    "input": ("method.input_ratio=[0.75,0.85]", "network.attention_ratio=0"),
    "attention": ("method.input_ratio=[0.0,0.0]", "network.attention_ratio=0.75"),
}
"""Table 1 of the paper; the input ratio is the best of its Table 3a."""

MAIN = ("none", "both")
MODES: dict[str, dict[str, Any]] = {
    "off": {"attention": "off", "draws": 1},
    "seeded": {"attention": "seeded", "draws": 1},
    "off, offset=level": {"attention": "off", "draws": 1, "offset": "level"},
    "seeded, offset=level": {"attention": "seeded", "draws": 1, "offset": "level"},
    "ensemble 8": {"attention": "ensemble", "draws": 8},
}
NOISES: dict[str, tuple[str, str]] = {
    "Gaussian 15": ("gaussian", "15"),
    "Poisson 2": ("poisson", "2"),
    "Poisson 3.5": ("poisson", "3.5"),
    "speckle 0.03": ("speckle", "0.03"),
    "spatial 55": ("spatial", "55"),
    "s&p 0.02": ("salt_pepper", "0.02"),
    "mixture 3": ("mixture", "3"),
    "mixture 5": ("mixture", "5"),
    "Gaussian 50": ("gaussian", "50"),
}
SEEN = "Gaussian 15"
METRICS = ("psnr_rgb_u8", "ssim_gauss11_rgb")

FloatImage = NDArray[np.float32]
Scores = dict[str, dict[str, float]]
"""Noise -> metric -> mean over the pictures."""


class Network:
    """A trained network in one mode of its attention masks, as a denoiser of (H, W, 3) pictures."""

    def __init__(self, weights: Path, mode: dict[str, Any]) -> None:
        from models import load

        self._model = load(weights)
        self._spec = dataclasses.replace(self._model.inference, **mode)

    def __call__(self, image: FloatImage, /) -> FloatImage:
        import torch

        from models import denoise

        batch = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
        output: FloatImage = denoise(self._model.network, batch, self._spec)[0].numpy().transpose(1, 2, 0)
        return output


class Blur:
    """A Gaussian blur."""

    def __init__(self, sigma: float) -> None:
        self._sigma = sigma

    def __call__(self, image: FloatImage, /) -> FloatImage:
        from scipy.ndimage import gaussian_filter

        return np.asarray(gaussian_filter(image, (self._sigma, self._sigma, 0)), np.float32)


def train(name: str, seed: int, options: argparse.Namespace) -> Path:
    """Train one variant, or go on with it, or find it trained; return its run folder."""
    from pipeline.config import load_config
    from pipeline.training.launch import train as launch
    from pipeline.training.rundir import read_config

    run = options.out / "runs" / f"{name}-{seed}"
    ends = (f"training.steps={options.steps}", f"training.minutes={options.minutes}", f"seed={seed}")
    overrides = (*NETWORK, *TRAINING, *VARIANTS[name], *ends, f"tracking.model=masked-{name}")
    config = load_config(preset=PRESET, overrides=overrides, data=str(options.data))
    if (run / "weights" / "model.json").is_file():
        if read_config(run) != config:
            raise SystemExit(f"{run}: trained with other settings; give another --out")
        return run
    start, cpu = time.monotonic(), time.process_time()
    result = launch(config, run, resume=(run / "config.json").is_file())
    wall, spent = time.monotonic() - start, time.process_time() - cpu
    print(
        f"{run.name}: {result.steps} steps, loss {result.final_loss:.4f}, {wall:.0f} s ({spent:.0f} CPU-seconds)",
        flush=True,
    )
    return run


def make_tests(options: argparse.Namespace) -> dict[str, Path]:
    """Cut the middle out of the clean pictures, and put each noise on them."""
    from pipeline.data.folders import scan
    from pipeline.data.images import Image, read_image, write_image
    from pipeline.data.synth_files import find_clean, synthesise
    from pipeline.data.synth_recipes import make_recipe

    folder = options.out / "test"
    source = folder / "source"
    if not source.is_dir():
        source.mkdir(parents=True)
        for file in scan([options.test])[:: options.every]:
            pixels = read_image(file.path).pixels[..., :3]
            top, left = ((size - options.crop) // 2 for size in pixels.shape[:2])
            cut = pixels[top : top + options.crop, left : left + options.crop]
            write_image(source / f"{file.path.stem}.png", Image(pixels=cut))
    sets = {}
    for name, (kind, level) in NOISES.items():
        sets[name] = folder / f"{kind}-{level}"
        if not (sets[name] / "manifest.json").is_file():
            synthesise(find_clean(source, sets[name], None, overwrite=True), sets[name], make_recipe(kind, level), 1)
    return sets


def score(denoiser: Any, sets: dict[str, Path], baselines: Sequence[str] = ()) -> dict[str, Scores]:
    """Scores of a denoiser, of the noisy pictures and of classical denoisers: who -> noise -> metric."""
    from pipeline.evaluation.contenders import NOISY, OURS
    from pipeline.evaluation.evaluate import evaluate
    from pipeline.evaluation.summary import mean_of

    scores: dict[str, Scores] = {"noisy": {}, "model": {}, **{name: {} for name in baselines}}
    for noise, folder in sets.items():
        result = evaluate(denoiser, folder, layout="pairs", baselines=baselines, threads=1)
        for who, label in (("model", OURS), ("noisy", NOISY), *((name, name) for name in baselines)):
            scores[who][noise] = {metric: mean_of(result, label, metric) for metric in METRICS}
    return scores


def score_run(run: Path, mode: str, sets: dict[str, Path]) -> Scores | None:
    """Scores of one trained network in one mode, kept beside it; None for masks that it does not have."""
    stored = run / "scores.json"
    weights = json.loads((run / "weights" / "model.json").read_text())
    if mode != "off" and weights["network"]["attention_ratio"] == 0:
        return None
    kept = json.loads(stored.read_text()) if stored.is_file() else {}
    modes: dict[str, Scores] = kept["modes"] if kept.get("sha256") == weights["sha256"] else {}
    missing = {noise: folder for noise, folder in sets.items() if noise not in modes.get(mode, {})}
    if missing:
        start = time.process_time()
        modes[mode] = modes.get(mode, {}) | score(Network(run / "weights", MODES[mode]), missing)["model"]
        stored.write_text(json.dumps({"sha256": weights["sha256"], "modes": modes}, indent=1))
        print(f"{run.name}, {mode}: scored in {time.process_time() - start:.0f} CPU-seconds", flush=True)
    return modes[mode]


def blurs(sets: dict[str, Path], target: float) -> dict[str, Scores]:
    """The two controls."""
    seen = {SEEN: sets[SEEN]}
    widths = np.arange(0.3, 4.01, 0.1)
    found = [score(Blur(float(width)), seen)["model"][SEEN][METRICS[0]] for width in widths]
    best = int(np.argmax(found))
    wide = next((index for index in range(best, len(widths)) if found[index] <= target), best)
    return {
        f"blur {widths[index]:.1f} ({why})": score(Blur(float(widths[index])), sets)["model"]
        for index, why in ((best, "best at Gaussian 15"), (wide, "there as good as both"))
    }


def table(rows: dict[str, list[Scores]], metric: str) -> str:
    """Markdown: mean over seeds, and their standard deviation where there are several."""
    lines = [f"| {metric} | " + " | ".join(NOISES) + " |", "|---" * (1 + len(NOISES)) + "|"]
    digits = 2 if metric.startswith("psnr") else 3
    for who, seeds in rows.items():
        cells = []
        for noise in NOISES:
            values = [one[noise][metric] for one in seeds]
            spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.{digits}f}{spread}")
        lines.append(f"| {who} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def report(runs: dict[tuple[str, int], Path], sets: dict[str, Path]) -> str:
    """All tables."""
    rows: dict[str, list[Scores]] = {}
    for mode in MODES:
        for (name, _), run in runs.items():
            scores = score_run(run, mode, sets)
            if scores is not None:
                rows.setdefault(f"{name}, {mode}" if name in ("both", "attention") else name, []).append(scores)
    controls: dict[str, list[Scores]] = {}
    if "both, seeded" in rows:
        target = float(np.mean([one[SEEN][METRICS[0]] for one in rows["both, seeded"]]))
        made = score(Blur(0.8), sets, ("nlm",))
        controls = {"noisy": [made["noisy"]], "non-local means": [made["nlm"]]}
        controls |= {who: [scores] for who, scores in blurs(sets, target).items()}
    whole = controls | dict(sorted(rows.items(), key=lambda row: list(VARIANTS).index(row[0].split(",")[0])))
    return "\n\n".join(table(whole, metric) for metric in METRICS)


def main() -> None:
    """Train what is missing, score what is missing, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="clean pictures to train on")
    parser.add_argument("--test", type=Path, required=True, help="clean pictures to test on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1200, help="of every network")
    parser.add_argument("--minutes", type=float, default=0, help="stop each network after this long; 0 for never")
    parser.add_argument("--seeds", type=int, default=3, help="networks of `none` and of `both`")
    parser.add_argument("--other-seeds", type=int, default=1, help="networks of `input` and of `attention`")
    parser.add_argument("--every", type=int, default=2, help="test on every so many-th picture")
    parser.add_argument("--crop", type=int, default=160, help="side of the middle that is tested on")
    options = parser.parse_args()
    options.out = options.out.resolve()
    os.environ["UNVEIL_HOME"] = str(options.out / "home")

    import torch

    torch.set_num_threads(1)
    sets = make_tests(options)
    runs: dict[tuple[str, int], Path] = {}
    wanted = [(name, seed) for seed in range(options.seeds) for name in MAIN]
    wanted += [(name, seed) for seed in range(options.other_seeds) for name in VARIANTS if name not in MAIN]
    for name, seed in wanted:
        runs[name, seed] = train(name, seed, options)
    text = report(runs, sets)
    (options.out / "tables.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
