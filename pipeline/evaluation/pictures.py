"""Which crops a report shows, chosen by a stated rule so that nobody can pick the flattering ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from pipeline.data.folders import SourceFile
from pipeline.data.images import from_float, read_image, to_float, without_alpha
from pipeline.errors import UserError
from pipeline.evaluation.baselines import BASELINES
from pipeline.evaluation.contact_sheet import lay_out
from pipeline.evaluation.datasets import find_pairs
from pipeline.evaluation.evaluate import detail, read_pair
from pipeline.inference.denoiser import Denoiser

CROP = 192
_LOOKED_AT = 12

FloatImage = NDArray[np.float32]

RULES = {
    "hardest": "the image with our lowest PSNR, and in it the window where our error is largest",
    "typical": "the image whose gain over the noisy input is the median, and its window of median error",
    "flattest": "the image of least detail that is neither black nor white, and its window of least detail",
}
"""How pictures with a clean partner are chosen."""

BLIND_RULES = {
    "noisiest": "the photo with the highest estimated noise, and its window of most detail",
    "typical": "the photo of median estimated noise, and its window of median detail",
    "flattest": "the photo with the least detail that is neither black nor white, and its flattest window",
}
"""How photos without a clean partner are chosen (among at most 12, evenly spaced)."""


class Picture(TypedDict):
    """One row of crops: all (H, W, 1 or 3) float32 of one shape, on the [0, 1] scale."""

    name: str
    rule: str
    reason: str
    noisy: FloatImage
    baseline: FloatImage | None
    baseline_name: str | None
    denoised: FloatImage
    clean: FloatImage | None


def pictures_of_pairs(denoiser: Denoiser, evaluation: dict[str, Any], *, baseline: str | None = None) -> list[Picture]:
    """Denoise the images that the rules choose from an evaluation, and cut their windows.

    Args:
        denoiser: the model that was evaluated.
        evaluation: what `pipeline.evaluation.evaluate.evaluate` returned; its data must still be there.
        baseline: which classical denoiser to show; None takes the best of those evaluated, else NLM.
    """
    pairs = {pair.name: pair for pair in find_pairs(evaluation["data"], evaluation["layout"]).pairs}
    baseline = baseline or best_baseline(evaluation) or "nlm"
    pictures = []
    for rule, row in choose_rows(evaluation["images"]).items():
        if row["name"] not in pairs:
            raise UserError(f"{evaluation['data']}: expected the evaluated pictures, found no {row['name']!r}")
        noisy, clean = read_pair(pairs[row["name"]])
        denoised, classical = denoiser(noisy), BASELINES[baseline](noisy)
        error = ((denoised - clean) ** 2).mean(axis=2)
        window = choose_window(clean, error, rule)
        pictures.append(
            Picture(
                name=row["name"],
                rule=rule,
                reason=RULES[rule],
                noisy=noisy[window],
                baseline=classical[window],
                baseline_name=baseline,
                denoised=denoised[window],
                clean=clean[window],
            )
        )
    return pictures


def pictures_of_photos(denoiser: Denoiser, sources: list[SourceFile], *, baseline: str = "nlm") -> list[Picture]:
    """The same for photos without clean partners."""
    from pipeline.evaluation.baselines import noise_sigma

    chosen = [sources[index * len(sources) // _LOOKED_AT] for index in range(_LOOKED_AT)]
    chosen = list(dict.fromkeys(chosen))
    photos = [(source, _read(source.path)) for source in chosen]
    ranked = sorted(photos, key=lambda photo: noise_sigma(photo[1]), reverse=True)
    by_detail = sorted(photos, key=lambda photo: (not _visible(float(photo[1].mean())), detail(_blurred(photo[1]))))
    picks: dict[str, tuple[SourceFile, FloatImage]] = {}
    for rule, order in (
        ("noisiest", ranked),
        ("typical", ranked[len(ranked) // 2 :] + ranked),
        ("flattest", by_detail),
    ):
        taken = {picked[0] for picked in picks.values()}
        free = [photo for photo in order if photo[0] not in taken]
        if free:
            picks[rule] = free[0]
    pictures = []
    for rule, (source, noisy) in picks.items():
        denoised = denoiser(noisy)
        window = choose_window(denoised, local_detail(denoised), rule)
        pictures.append(
            Picture(
                name=source.relative.as_posix(),
                rule=rule,
                reason=BLIND_RULES[rule],
                noisy=noisy[window],
                baseline=BASELINES[baseline](noisy)[window],
                baseline_name=baseline,
                denoised=denoised[window],
                clean=None,
            )
        )
    return pictures


def choose_rows(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return rule -> row of the evaluation; every row at most once, so few images give few pictures."""

    def score(row: dict[str, Any], who: str) -> float:
        value = row[who]["psnr_rgb_u8"]
        return float("inf") if value is None else float(value)

    gains = [score(row, "model") - score(row, "noisy") for row in rows]
    middle = float(np.median([gain for gain in gains if np.isfinite(gain)] or [0.0]))
    orders = {
        "hardest": sorted(rows, key=lambda row: score(row, "model")),
        "flattest": sorted(rows, key=lambda row: (not _visible(row["brightness"]), float(row["detail"]))),
        "typical": sorted(rows, key=lambda row: abs(score(row, "model") - score(row, "noisy") - middle)),
    }
    chosen: dict[str, dict[str, Any]] = {}
    for rule, order in orders.items():
        taken = [row["name"] for row in chosen.values()]
        free = [row for row in order if row["name"] not in taken]
        if free:
            chosen[rule] = free[0]
    return {rule: chosen[rule] for rule in RULES if rule in chosen}


def best_baseline(evaluation: dict[str, Any]) -> str | None:
    """Return the classical denoiser with the highest PSNR of an evaluation, or None if it has none."""
    scores = {name: values["psnr_rgb_u8"] for name, values in evaluation["baselines"].items()}
    finite = {name: score for name, score in scores.items() if score is not None}
    return max(finite, key=lambda name: float(finite[name])) if finite else None


def contact_sheet(pictures: list[Picture]) -> NDArray[np.uint8]:
    """Lay the crops out for a quick look: a row each, columns noisy, classical, ours and (if known) clean.

    Returns:
        (H, W, 3) uint8; crops smaller than the largest stand on white.
    """
    rows = []
    for picture in pictures:
        crops = [picture[key] for key in ("noisy", "baseline", "denoised", "clean")]
        rows.append([from_float(crop, np.uint8) for crop in crops if crop is not None])
    return lay_out(rows)


def _visible(brightness: float) -> bool:
    return 0.15 <= brightness <= 0.85


def choose_window(image: FloatImage, measure: NDArray[np.floating[Any]], rule: str) -> tuple[slice, slice]:
    """Choose a CROP x CROP window (or what fits) on a grid of half-overlapping ones."""
    height, width = image.shape[:2]
    windows = [(slice(top, top + CROP), slice(left, left + CROP)) for top in _starts(height) for left in _starts(width)]
    if rule == "flattest":
        return min(windows, key=lambda at: (not _visible(float(image[at].mean())), detail(image[at])))
    ordered = sorted(windows, key=lambda window: float(measure[window].mean()))
    return ordered[len(ordered) // 2] if rule == "typical" else ordered[-1]


def _starts(length: int) -> list[int]:
    last = max(length - CROP, 0)
    return [*range(0, last, CROP // 2), last]


def local_detail(image: FloatImage) -> NDArray[np.floating[Any]]:
    """Return (H, W): the sum of the absolute gradients across and down, of the mean of the channels."""
    across, down = np.gradient(image.mean(axis=2))
    return np.asarray(np.abs(across) + np.abs(down))


def _blurred(image: FloatImage) -> FloatImage:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(image, (2, 2, 0)), dtype=np.float32)


def _read(path: Path) -> FloatImage:
    image = without_alpha(to_float(read_image(path).pixels))
    if min(image.shape[:2]) < 2:
        raise UserError(f"{path}: expected a photo to show in the report, found one of {image.shape[:2]} pixels")
    return image
