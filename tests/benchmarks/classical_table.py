"""Classical denoisers on crops of the real-photo sets, with our estimated sigma and tuned on the ground truth.

    OMP_NUM_THREADS=1 python tests/benchmarks/classical_table.py --shared ../shared/data --out classical.json \\
        [--model runs/mine ...] [--sets polyu cc60 sidd_crops renoir]

Scored are centre crops of 256x256 (or the whole picture, where it is smaller) of every 4th picture of PolyU, every 3rd
of CC60, and all of the SIDD crops and RENOIR: mean over the crops of `psnr_rgb_u8` and `ssim_gauss11_rgb`. Sigma is
estimated by `noise.measure` on the whole noisy picture. "tuned" is the one factor on that sigma, of a few, whose mean
PSNR over the set is best, "tuned per picture" the best factor of each picture: both read the clean pictures, so they
are upper bounds and no results. A model denoises the whole picture, which is cropped then.

Goes on where an earlier call with the same --out stopped. Also writes the tables as Markdown beside the JSON file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.images import read_image, to_float, without_alpha
from pipeline.evaluation import baselines
from pipeline.evaluation.datasets import find_pairs
from pipeline.evaluation.metrics import measure

FloatImage = NDArray[np.float32]
SETS = {"polyu": 4, "cc60": 3, "sidd_crops": 1, "renoir": 1}
"""Folder below `dev/` -> every so many-th picture."""

SIDE = 256
FACTORS = {"nlm": (0.5, 0.75, 1.0, 1.5, 2.0, 3.0), "bm3d": (1.0, 1.5, 2.0, 3.0, 5.0)}
"""Denoiser -> factors on the estimated sigma that tuning chooses from."""

METRICS = ("psnr_rgb_u8", "ssim_gauss11_rgb")


class Case(NamedTuple):
    """One picture of one set."""

    set: str
    name: str
    noisy: FloatImage
    clean: FloatImage


def centre(image: FloatImage) -> FloatImage:
    """The middle SIDE x SIDE pixels, or all where there are fewer."""
    top, left = (max(length - SIDE, 0) // 2 for length in image.shape[:2])
    return image[top : top + SIDE, left : left + SIDE]


def cases(shared: Path, sets: list[str]) -> Iterator[Case]:
    """The pictures, one of each set in turn, so that an early stop leaves a bit of everything."""
    found = [[(name, pair) for pair in find_pairs(shared / "dev" / name).pairs[:: SETS[name]]] for name in sets]
    for name, pair in filter(None, chain.from_iterable(zip_longest(*found))):
        noisy, clean = (to_float(without_alpha(read_image(path).pixels)) for path in (pair.noisy, pair.clean))
        yield Case(name, pair.name, noisy, clean)


def classical(case: Case, sigma: float) -> Iterator[tuple[str, Callable[[], FloatImage]]]:
    """Row name and what computes the crop."""
    crop = centre(case.noisy)
    yield "noisy", lambda: crop
    runs: dict[str, Callable[[FloatImage, float], FloatImage]] = {
        name: getattr(baselines, name) for name in ("nlm", "tv", "wavelet", "bm3d") if name in baselines.BASELINES
    }
    for name, run in runs.items():
        for factor in FACTORS.get(name, (1.0,)):
            yield f"{name} x{factor:g}", lambda run=run, factor=factor: run(crop, factor * sigma)


def score(options: argparse.Namespace, kept: dict[str, Any]) -> Iterator[str]:
    """Fill in what is missing in ``kept`` (set/name -> row -> numbers); yield a line a picture."""
    from pipeline.inference.denoiser import load_denoiser

    models = {ref: load_denoiser(ref) for ref in options.model}
    for case in cases(options.shared, options.sets):
        entry = kept.setdefault(f"{case.set}/{case.name}", {"rows": {}})
        sigma = entry.setdefault("sigma", baselines.noise_sigma(case.noisy))
        clean = centre(case.clean)
        todo: list[tuple[str, Callable[[], FloatImage]]] = list(classical(case, sigma))
        todo += [(ref, lambda run=run, noisy=case.noisy: centre(run(noisy))) for ref, run in models.items()]
        new = []
        for row, run in todo:
            if row in entry["rows"]:
                continue
            start = time.process_time()
            output = run()
            seconds = time.process_time() - start
            entry["rows"][row] = {**measure(output, clean), "cpu_seconds": round(seconds, 2)}
            new.append(f"{row} {entry['rows'][row]['psnr_rgb_u8']:.2f}")
        if new:
            yield f"{case.set} {case.name}: sigma {255 * sigma:.1f}; " + ", ".join(new)


def table(kept: dict[str, Any], sets: list[str], metric: str) -> str:
    """Markdown: one line a denoiser, one column a set."""
    of_set = {name: [entry["rows"] for key, entry in kept.items() if key.split("/")[0] == name] for name in sets}
    lines = [f"| {metric} | " + " | ".join(f"{name} ({len(of_set[name])})" for name in sets) + " |"]
    lines.append("|---" * (1 + len(sets)) + "|")
    digits = 2 if metric.startswith("psnr") else 4
    rows = list(dict.fromkeys(row for entry in kept.values() for row in entry["rows"]))

    def add(label: str, cell: Callable[[list[dict[str, Any]]], str]) -> None:
        lines.append(f"| {label} | " + " | ".join(cell(of_set[name]) if of_set[name] else "" for name in sets) + " |")

    def mean(row: str, which: str, entries: list[dict[str, Any]]) -> float:
        return float(np.mean([entry[row][which] for entry in entries]))

    def tuned(name: str, entries: list[dict[str, Any]]) -> str:
        best = max(FACTORS[name], key=lambda factor: mean(f"{name} x{factor:g}", METRICS[0], entries))
        return f"{mean(f'{name} x{best:g}', metric, entries):.{digits}f} (x{best:g})"

    def tuned_each(name: str, entries: list[dict[str, Any]]) -> str:
        names = [f"{name} x{factor:g}" for factor in FACTORS[name]]
        best = [entry[max(names, key=lambda row: entry[row][METRICS[0]])][metric] for entry in entries]
        return f"{np.mean(best):.{digits}f}"

    for row in rows:
        name, _, factor = row.rpartition(" x")
        if name not in FACTORS or factor == "1":
            label = f"{name}, estimated sigma" if factor == "1" and name else row
            add(label, lambda entries, row=row: f"{mean(row, metric, entries):.{digits}f}")
        if name in FACTORS and row == f"{name} x{FACTORS[name][-1]:g}":
            add(f"{name}, tuned on the clean pictures", lambda entries, name=name: tuned(name, entries))
            add(f"{name}, tuned per picture", lambda entries, name=name: tuned_each(name, entries))
    return "\n".join(lines)


def main() -> None:
    """Score what is missing, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder that holds dev/")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; the tables go beside it")
    parser.add_argument("--model", action="append", default=[], metavar="REF", help="a model to stand beside; again")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    for name in ("wavelet", "bm3d"):
        if name not in baselines.BASELINES:
            print(f"{name}: its package is not installed, so its lines are left out", flush=True)
    kept = json.loads(options.out.read_text()) if options.out.is_file() else {}
    for line in score(options, kept):
        print(line, flush=True)
        options.out.write_text(json.dumps(kept, indent=1) + "\n")
        text = "\n\n".join(table(kept, options.sets, metric) for metric in METRICS)
        options.out.with_suffix(".md").write_text(text + "\n")
    print("\n\n".join(table(kept, options.sets, metric) for metric in METRICS))


if __name__ == "__main__":
    main()
