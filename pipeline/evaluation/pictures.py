"""Which crops a report shows, chosen by a stated rule so that nobody can pick the flattering ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypedDict

import numpy as np
from numpy.typing import NDArray

from pipeline.data.folders import SourceFile
from pipeline.data.images import from_float, read_image, to_float, without_alpha
from pipeline.errors import UserError
from pipeline.evaluation.baselines import BASELINES
from pipeline.evaluation.cases import CaseSet, PhotoCase
from pipeline.evaluation.contact_sheet import lay_out
from pipeline.evaluation.contenders import OURS, Model
from pipeline.evaluation.windows import choose_window, detail, local_detail, visible
from pipeline.inference.denoiser import Denoiser

_LOOKED_AT = 12
SHEET: Final = 100
"""About how many pictures a contact sheet shows."""

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
    model_name: str
    clean: FloatImage | None
    residual: dict[str, Any] | None
    """Of `pipeline.evaluation.blind.residual_panel`, of the whole picture."""


def pictures_of_set(
    one: CaseSet, summary: Mapping[str, Any], model: Model, baselines: Sequence[str], *, baseline: str | None = None
) -> list[Picture]:
    """Denoise the pictures of an evaluated set that the rules choose, and cut their windows.

    Args:
        one: the set; its files must still be there.
        summary: what the evaluation says of it.
        model: who is shown; one of those that were evaluated.
        baselines: classical denoisers that were evaluated.
        baseline: which of them to show; None takes the best, else NLM.
    """
    from pipeline.evaluation.blind import residual_panel

    if one.kind == "photos":
        files = [SourceFile(case.photo, Path(case.name)) for case in one.cases if isinstance(case, PhotoCase)]
        return pictures_of_photos(model.denoiser, files, label=model.label)
    cases = {case.name: case for case in one.cases}
    baseline = baseline or best_baseline(summary, baselines) or "nlm"
    pictures = []
    for rule, row in choose_rows(summary["images"], model.label).items():
        noisy, clean = cases[row["name"]].read()
        assert clean is not None
        denoised, classical = model.denoiser(noisy), BASELINES[baseline](noisy)
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
                model_name=model.label,
                clean=clean[window],
                residual=residual_panel(noisy, denoised),
            )
        )
    return pictures


def sheet_numbers(one: CaseSet, sets: int) -> list[int]:
    """Return which pictures of a set a contact sheet shows: evenly spaced, about a hundred over all sets."""
    count = min(len(one.cases), max(SHEET // max(sets, 1), 2))
    return [index * len(one.cases) // count for index in range(count)]


def pictures_of_photos(
    denoiser: Denoiser, sources: list[SourceFile], *, label: str = OURS, baseline: str = "nlm"
) -> list[Picture]:
    """The same for photos without clean partners."""
    from pipeline.evaluation.baselines import noise_sigma
    from pipeline.evaluation.blind import residual_panel

    chosen = [sources[index * len(sources) // _LOOKED_AT] for index in range(_LOOKED_AT)]
    chosen = list(dict.fromkeys(chosen))
    photos = [(source, _read(source.path)) for source in chosen]
    ranked = sorted(photos, key=lambda photo: noise_sigma(photo[1]), reverse=True)
    by_detail = sorted(photos, key=lambda photo: (not visible(float(photo[1].mean())), detail(_blurred(photo[1]))))
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
                model_name=label,
                clean=None,
                residual=residual_panel(noisy, denoised),
            )
        )
    return pictures


def choose_rows(rows: Sequence[Mapping[str, Any]], label: str) -> dict[str, Mapping[str, Any]]:
    """Return rule -> row of a set's images; every row at most once, so few images give few pictures.

    Args:
        rows: ``images`` of a set with clean pictures.
        label: of the model that the rules are about.
    """

    def score(row: Mapping[str, Any], who: str) -> float:
        value = next(iter(row["methods"][who]["metrics"].values()))
        return float("inf") if value is None else float(value)

    gains = [score(row, label) - score(row, "noisy") for row in rows]
    middle = float(np.median([gain for gain in gains if np.isfinite(gain)] or [0.0]))
    orders = {
        "hardest": sorted(rows, key=lambda row: score(row, label)),
        "flattest": sorted(rows, key=lambda row: (not visible(row["brightness"]), float(row["detail"]))),
        "typical": sorted(rows, key=lambda row: abs(score(row, label) - score(row, "noisy") - middle)),
    }
    chosen: dict[str, Mapping[str, Any]] = {}
    for rule, order in orders.items():
        taken = [row["name"] for row in chosen.values()]
        free = [row for row in order if row["name"] not in taken]
        if free:
            chosen[rule] = free[0]
    return {rule: chosen[rule] for rule in RULES if rule in chosen}


def best_baseline(summary: Mapping[str, Any], baselines: Sequence[str]) -> str | None:
    """Return the classical denoiser with the highest headline metric on a set, or None if there is none."""
    scores = {name: next(iter(summary["methods"][name]["metrics"].values()))["mean"] for name in baselines}
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


def _blurred(image: FloatImage) -> FloatImage:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(image, (2, 2, 0)), dtype=np.float32)


def _read(path: Path) -> FloatImage:
    image = without_alpha(to_float(read_image(path).pixels))
    if min(image.shape[:2]) < 2:
        raise UserError(f"{path}: expected a photo to show in the report, found one of {image.shape[:2]} pixels")
    return image
