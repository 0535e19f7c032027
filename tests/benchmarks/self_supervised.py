"""Score runs on noisy photos alone against the truth, and draw the hardest images of each set.

    python tests/benchmarks/self_supervised.py --out runs/scores polyu=../shared/data/dev/polyu:runs/polyu ...

Each argument is NAME=DATA:RUN. For each set: noisy, NLM, TV and wavelet with our estimated sigma, the teacher as its
card says, what its targets are made of it, and the student; full images, mean of per-image values; and what their
gates say. Clean images are read here only. Pictures: the images with the lowest, the median and the highest gain of
the student over the noisy input; noisy, student, reference, residual (four times, around grey).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.data.images import Image, from_float, write_image
from pipeline.evaluation.baselines import BASELINES
from pipeline.evaluation.cases import PairCase
from pipeline.evaluation.datasets import find_pairs, spread
from pipeline.evaluation.metrics import measure
from pipeline.inference.averaged import average_strides, brightened
from pipeline.inference.denoiser import load_denoiser

CLASSICAL = ("nlm", "tv", "wavelet")
SIDE = 160


def methods(run: Path, classical: bool) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return every denoiser that is scored, by name."""
    found: dict[str, Callable[[np.ndarray], np.ndarray]] = {"noisy": lambda image: image}
    if classical:
        found |= {name: BASELINES[name] for name in CLASSICAL if name in BASELINES}
    if (run / "teacher").is_dir():
        teacher = load_denoiser(str(run / "teacher"))

        def averaged(noisy: np.ndarray) -> np.ndarray:
            def at(stride: int) -> np.ndarray:
                return teacher.using(replace(teacher.inference, pd_stride=stride))(noisy)

            return brightened(noisy, average_strides(noisy, at))

        found |= {"teacher": teacher, "targets": averaged}
    return {**found, "ours (one pass)": load_denoiser(str(run))}


def score(name: str, data: str, run: Path, *, limit: int | None, classical: bool) -> dict[str, object]:
    """Measure every method on every pair."""
    pairs = spread(find_pairs(data).pairs, limit)
    denoisers = methods(run, classical)
    rows = []
    for number, pair in enumerate(pairs):
        noisy, clean = PairCase(*pair).read()
        row: dict[str, object] = {"name": pair.name, "pixels": noisy.shape[0] * noisy.shape[1]}
        for label, run_one in denoisers.items():
            start = time.process_time()
            output = np.clip(run_one(noisy), 0, 1)
            row[label] = {**measure(output, clean), "cpu_seconds": time.process_time() - start}
        rows.append(row)
        print(f"{name} {number + 1}/{len(pairs)}", flush=True)
    means = {
        label: {key: float(np.mean([row[label][key] for row in rows])) for key in rows[0][label]}  # type: ignore[index]
        for label in denoisers
    }
    return {"set": name, "n": len(rows), "means": means, "images": rows, "gates": gates(run, rows)}


def gates(run: Path, rows: list[dict[str, object]]) -> list[str]:
    """Say how teacher and student were judged: the error, in parts of the noisy one, as estimated and as it is."""
    told = []
    for label, folder in (("teacher", run / "teacher"), ("ours (one pass)", run)):
        path = folder / "weights" / "model.json"
        gate = json.loads(path.read_text("utf-8"))["card"].get("gate") if path.is_file() else None
        if gate is None:
            continue
        ours, noisy = (
            sum(10 ** (-row[key]["psnr_rgb_u8"] / 10) for row in rows)  # type: ignore[index]
            for key in (label, "noisy")
        )
        estimate = gate["measures"]["estimated_error"]
        verdict = "passed" if gate["passed"] else "failed"
        told.append(f"{label}: {verdict}: {gate['why']}; error {estimate:.2f} estimated, {ours / noisy:.2f} measured")
    return told


def draw(name: str, data: str, run: Path, result: dict[str, object], out: Path) -> None:
    """Draw the images with the lowest, the median and the highest gain, at the square of most detail in each."""
    rows = sorted(
        result["images"],  # type: ignore[call-overload]
        key=lambda row: row["ours (one pass)"]["psnr_rgb_u8"] - row["noisy"]["psnr_rgb_u8"],
    )
    chosen = [rows[0], rows[len(rows) // 2], rows[-1]]
    by_name = {pair.name: pair for pair in find_pairs(data).pairs}
    student = load_denoiser(str(run))
    strips = []
    for row in chosen:
        noisy, clean = PairCase(*by_name[row["name"]]).read()
        output = np.clip(student(noisy), 0, 1)
        top, left = most_detail(clean)
        window = (slice(top, top + SIDE), slice(left, left + SIDE))
        residual = np.clip(0.5 + 4 * (noisy - output), 0, 1)
        strips.append(np.concatenate([part[window] for part in (noisy, output, clean, residual)], axis=1))
    write_image(out / f"{name}.png", Image(pixels=from_float(np.concatenate(strips, axis=0), np.uint8)))


def most_detail(image: np.ndarray) -> tuple[int, int]:
    """Return the top and left of the square whose neighbours differ most."""
    grey = image.mean(axis=2)
    steps = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    total = np.pad(steps, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    sums = total[SIDE:, SIDE:] - total[:-SIDE, SIDE:] - total[SIDE:, :-SIDE] + total[:-SIDE, :-SIDE]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(top), int(left)


def table(results: list[dict[str, object]]) -> str:
    """Return the means as Markdown."""
    labels = list(dict.fromkeys(label for result in results for label in result["means"]))  # type: ignore[attr-defined]
    lines = ["| | " + " | ".join(f"{result['set']} ({result['n']})" for result in results) + " |"]
    lines.append("|---|" + "---|" * len(results))
    for label in labels:
        cells = []
        for result in results:
            mean = result["means"].get(label)  # type: ignore[attr-defined]
            cells.append(f"{mean['psnr_rgb_u8']:.2f} / {mean['ssim_gauss11_rgb']:.4f}" if mean else "")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Score what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", metavar="NAME=DATA:RUN")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--no-classical", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = []
    for text in options.sets:
        name, _, places = text.partition("=")
        data, _, run = places.rpartition(":")
        result = score(name, data, Path(run), limit=options.limit, classical=not options.no_classical)
        draw(name, data, Path(run), result, options.out)
        results.append(result)
        (options.out / f"{name}.json").write_text(json.dumps(result, indent=1), "utf-8")
    print(table(results))
    for result in results:
        print("\n".join(f"{result['set']}, {line}" for line in result["gates"]))  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
