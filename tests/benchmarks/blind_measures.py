"""How well the measures of one picture without its clean partner agree with PSNR, over filters good and bad.

    OMP_NUM_THREADS=1 python tests/benchmarks/blind_measures.py --data ../shared/data/dev --sets cc60,sidd_crops,polyu

For each picture, every method is measured by `pipeline.evaluation.blind` on the noisy side alone and scored by
psnr_rgb_u8 with the clean one. A measure is good if it ranks the methods of a picture as PSNR does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.baselines import nlm, noise_sigma, tv
from pipeline.evaluation.blind import blind_measures
from pipeline.evaluation.cases import PairCase
from pipeline.evaluation.datasets import find_pairs, spread
from pipeline.evaluation.metrics import psnr_rgb_u8

Array = NDArray[np.float32]
SIDE = 256


def blur(deviation: float) -> Callable[[Array], Array]:
    from scipy.ndimage import gaussian_filter

    return lambda image: np.asarray(gaussian_filter(image, (deviation, deviation, 0)), np.float32)


METHODS: dict[str, Callable[[Array], Array]] = {
    "noisy": lambda image: image,
    "nlm, half": lambda image: nlm(image, 0.5 * noise_sigma(image)),
    "nlm": nlm,
    "nlm, double": lambda image: nlm(image, 2 * noise_sigma(image)),
    "tv, half": lambda image: tv(image, 0.5 * noise_sigma(image)),
    "tv": tv,
    "tv, double": lambda image: tv(image, 2 * noise_sigma(image)),
    "blur 1": blur(1),
    "blur 3": blur(3),
    "nlm, 4/255 red": lambda image: nlm(image) + np.float32([4 / 255, 0, 0]),
}

COSTS: dict[str, Callable[[dict[str, float]], float]] = {
    "left_and_lost": lambda m: m["left_and_lost"],
    "noise_left": lambda m: m["noise_left"],
    "structure_lost": lambda m: abs(m["structure_lost"]),
    "residual_ratio, from 1": lambda m: abs(m["residual_ratio"] - 1),
    "residual_ratio_flat, from 1": lambda m: abs(m["residual_ratio_flat"] - 1),
    "histogram_distance_255": lambda m: m["histogram_distance_255"],
    "correlation_gap": lambda m: m["correlation_gap"],
    "detail_correlation, size": lambda m: abs(m["detail_correlation"]),
    "structure, size": lambda m: abs(m["structure"]),
    "drift_255, size": lambda m: abs(m["drift_255"]),
}
"""What is to be low."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--sets", default="cc60,sidd_crops,polyu")
    options.add_argument("--limit", type=int, default=12, help="pictures a set, evenly spaced")
    options.add_argument("--out", type=Path, help="keep all rows here, as JSON")
    given = options.parse_args()
    rows: dict[str, list[dict[str, dict[str, float]]]] = {}
    for name in given.sets.split(","):
        rows[name] = [
            measured(*map(middle, PairCase(*pair).read()))
            for pair in spread(find_pairs(given.data / name).pairs, given.limit)
        ]
    if given.out is not None:
        given.out.write_text(json.dumps(rows, indent=1), "utf-8")
    for name, pictures in rows.items():
        tell_medians(name, pictures)
    tell_agreement(rows)


def middle(image: Array) -> Array:
    top, left = (max(size - SIDE, 0) // 2 for size in image.shape[:2])
    return np.ascontiguousarray(image[top : top + SIDE, left : left + SIDE])


def measured(noisy: Array, clean: Array) -> dict[str, dict[str, float]]:
    found = {}
    for name, run in {**METHODS, "clean": lambda _: clean}.items():
        denoised = np.clip(run(noisy), 0, 1)
        found[name] = blind_measures(noisy, denoised) | {"psnr": psnr_rgb_u8(denoised, clean)}
    return found


def tell_medians(title: str, pictures: list[dict[str, dict[str, float]]]) -> None:
    names = ("psnr", "noise_before_255", "noise_after_255", "noise_left", "structure_lost", "left_and_lost")
    names += ("residual_ratio", "histogram_distance_255", "correlation_gap", "detail_correlation", "drift_255")
    told = sum(bool(picture["noisy"]["reliable"]) for picture in pictures)
    print(f"\n{title}: {len(pictures)} pictures, {told} reliable; medians\n")
    print("| |" + "|".join(names) + "|\n|" + "---|" * (len(names) + 1))
    for method in pictures[0]:
        cells = []
        for name in names:
            known = [picture[method][name] for picture in pictures if picture[method][name] is not None]
            sized = np.abs(known) if name == "drift_255" else np.asarray(known)
            cells.append("-" if not known or np.isinf(known).any() else f"{np.median(sized):.2f}")
        print(f"|{method}|" + "|".join(cells) + "|")


def tell_agreement(rows: dict[str, list[dict[str, dict[str, float]]]]) -> None:
    print("\n| |" + "|".join(f"{name}, rank|dB lost" for name in rows) + "|\n|" + "---|" * (2 * len(rows) + 1))
    for name, cost in COSTS.items():
        cells = []
        for pictures in rows.values():
            ranks, lost = zip(*(agreement(picture, cost) for picture in pictures), strict=True)
            cells += [f"{np.nanmean(ranks):.2f}", f"{np.nanmean(lost):.2f}"]
        print(f"|{name}|" + "|".join(cells) + "|")


def agreement(picture: dict[str, dict[str, float]], cost: Callable[[dict[str, float]], float]) -> tuple[float, float]:
    """Spearman's rank correlation with PSNR, and the PSNR lost by taking the method of least cost."""
    from scipy.stats import spearmanr

    pairs = []
    for name in METHODS:
        try:
            pairs.append((-cost(picture[name]), picture[name]["psnr"]))
        except TypeError:  # not told, such as the correlation of a residual that is zero
            continue
    if len(pairs) < 3:
        return float("nan"), float("nan")
    good, psnr = np.asarray(pairs).T
    return float(spearmanr(good, psnr).statistic), float(psnr.max() - psnr[good.argmax()])


if __name__ == "__main__":
    main()
