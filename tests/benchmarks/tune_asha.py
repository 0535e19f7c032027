"""What early stopping saves, what it costs in quality, and what a search takes beside its training steps.

    OMP_NUM_THREADS=1 .venv/bin/python tests/benchmarks/tune_asha.py --data ../shared/data/dev/sidd_crops --out asha

The folder holds pairs, of which training sees the noisy sides. Runs the same search twice, the same trials with the
same seeds: every trial to the end, and with ASHA. A trial ends the same in both, so the first tells what ASHA's
winner is worth beside the best there was. Trials are judged by `trust`; PSNR on the middles of the pairs, which no
trial is chosen by, tells what that choice costs. Prints a Markdown table and the time that was neither training nor
judging. Called again it goes on where it was. Results: docs/results/tune.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuning.summary import Summary

SEARCH = ["method.mask_count", "method.pd_stride", "inference.pd_stride", "optimizer.lr"]
COMMON = [
    "network.width=8",
    "network.depth=2",
    "data.crop=60",
    "training.batch=4",
    "training.minutes=0",
    "inference.draws=2",
    "optimizer.warmup_steps=5",
    "optimizer.ema_decay=0.98",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--steps", type=int, default=108)
    arguments = parser.parse_args()
    from pipeline.cluster import start_ray

    started = start_ray(1)
    rows = {}
    pairs = _middles(Path(arguments.data), arguments.out / "pairs")
    for scheduler in ("none", "asha"):
        out = arguments.out / scheduler
        fresh = not out.exists()
        begun = time.monotonic()
        summary = _run(arguments.data, pairs, out, scheduler, arguments.samples, arguments.steps)
        rows[scheduler] = {
            "summary": summary,
            "wall": time.monotonic() - begun,
            "slots": int(started.cpus) if fresh else 0,
        }
    started.leave()
    _tell(rows)


def _middles(data: Path, out: Path) -> Path:
    """Write the middle 128x128 pixels of each pair."""
    import imageio.v3 as iio

    from pipeline.evaluation.case_sets import data_set

    for number, case in enumerate(data_set(data).cases):
        for side, image in zip(("noisy", "clean"), case.read(), strict=True):
            (out / side).mkdir(parents=True, exist_ok=True)
            assert image is not None
            top, left = ((size - 128) // 2 for size in image.shape[:2])
            pixels = (255 * image[top : top + 128, left : left + 128]).round().astype("uint8")
            iio.imwrite(out / side / f"{number}.png", pixels)
    return out


def _run(data: str, pairs: Path, out: Path, scheduler: str, samples: int, steps: int) -> Summary:
    from pipeline.config import dump, load_config
    from tuning.plan import Plan
    from tuning.search import search

    lines = [*COMMON, f"training.steps={steps}"]
    config = load_config(preset="tune_masks", overrides=lines, data=data)
    # One seed each: what is asked is whether the same trial is found.
    plan = Plan(
        config=dump(config),
        samples=samples,
        seed=0,
        search=SEARCH,
        scheduler=scheduler,
        objectives=["trust", "psnr"],
        pairs=str(pairs.resolve()),
    )
    return search(plan, out, resume=(out / "search.json").exists())


def _tell(rows: dict[str, dict[str, Any]]) -> None:
    whole = {trial.key: trial.score for trial in rows["none"]["summary"].trials}
    psnr = {trial.key: trial.scores["psnr_rgb_u8"] for trial in rows["none"]["summary"].trials}
    order = sorted(whole, key=lambda key: whole[key])
    print("| | steps | s of training | s of judging | best trial | its trust at the end | its place | its PSNR |")
    print("|---|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        trials, best = row["summary"].trials, row["summary"].best
        steps, training = sum(one.step for one in trials), sum(one.seconds for one in trials)
        judging = sum(one.judging for one in trials)
        cells = [name, steps, f"{training:.0f}", f"{judging:.0f}", best.key, f"{whole[best.key]:.4f}"]
        print(f"| {' | '.join(map(str, cells))} | {order.index(best.key) + 1} of {len(order)} | {psnr[best.key]:.2f} |")
    base = next(one for one in rows["none"]["summary"].trials if one.preset)
    scores = sorted(whole.values())
    best = max(psnr.values())
    print(f"\nPSNR: best {best:.2f}, as given {psnr[base.key]:.2f}, worst {min(psnr.values()):.2f}")
    from scipy.stats import spearmanr

    agreement = spearmanr([-whole[key] for key in whole], [psnr[key] for key in whole]).statistic
    print(f"rank correlation of trust and PSNR over {len(whole)} trials: {agreement:.2f}")
    print(f"trust: as given {whole[base.key]:.4f}; median {statistics.median(scores):.4f}; worst {scores[-1]:.4f}")
    # Of a search that goes on, what was trained before would count.
    for name, row in ((name, row) for name, row in rows.items() if row["slots"]):
        trials = row["summary"].trials
        busy = sum(one.seconds + one.judging for one in trials)
        rest = row["slots"] * row["wall"] - busy
        print(
            f"{name}: {row['wall']:.0f} s of the clock on {row['slots']} slots, {busy:.0f} s trained or judged, "
            f"{rest / len(trials):.1f} s a trial of anything else (processes, Ray, MLflow, waiting, pictures)"
        )
    print(json.dumps(rows["asha"]["summary"].conclusion, indent=1))


if __name__ == "__main__":
    main()
