"""One picture and all who denoise it: metrics against the truth, measures without one, time."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.images import from_float
from pipeline.errors import UserError
from pipeline.evaluation.baselines import BASELINES, noise_sigma
from pipeline.evaluation.blind import blind_measures
from pipeline.evaluation.cases import Case, FloatImage, Sides, checked
from pipeline.evaluation.contenders import Contender
from pipeline.evaluation.metrics import least_side, measure
from pipeline.evaluation.windows import choose_window, detail, local_detail
from pipeline.inference.denoiser import Denoiser, NetworkDenoiser
from pipeline.inference.offset import mended, offset_of

if TYPE_CHECKING:
    from pipeline.inference.denoiser import FloatImage as Picture

Row = dict[str, Any]
Crops = dict[str, NDArray[np.uint8]]
"""Label -> (h, w, 1 or 3); the truth is ``clean``."""


@dataclass(kw_only=True, slots=True)
class Scored:
    """What is known of one picture."""

    facts: dict[str, Any]
    """``pixels``, ``detail`` (`pipeline.evaluation.windows.detail`) and ``brightness`` (mean, white 1)."""

    rows: dict[str, Row] = field(default_factory=dict)
    """Label -> ``metrics``, ``seconds``, ``offset``, ``by_offset`` and ``blind``."""

    crops: Crops | None = None


def score_case(
    case: Case,
    contenders: Sequence[Contender],
    metrics: Sequence[str],
    denoisers: Mapping[str, Denoiser],
    *,
    one_at_a_time: threading.Lock | None = None,
    crops: bool = False,
) -> Scored:
    """Denoise one picture with everybody and measure the results.

    Args:
        case: the picture.
        contenders: who.
        metrics: names of `pipeline.evaluation.metrics.METRICS`; not used for a photo without truth.
        denoisers: label -> model.
        one_at_a_time: held while a model works, so that models do not share their threads.
        crops: also cut a window out of all pictures: of median error of the last contender, or of median detail.

    Raises:
        UserError, ValueError: the picture cannot be read, is too small, or somebody returned none.
    """
    sides = checked(case, least_side(metrics))
    shown_side = sides.noisy if sides.clean is None else sides.clean
    scored = Scored(
        facts={
            "pixels": int(np.prod(sides.noisy.shape[:2])),
            "detail": round(detail(shown_side), 4),
            "brightness": round(float(shown_side.mean()), 4),
        }
    )
    results: dict[str, FloatImage] = {}
    noise = _Noise(sides.noisy)
    for one in contenders:
        scored.rows[one.label], results[one.label] = _score(
            case, sides, one, metrics, denoisers, noise, one_at_a_time or threading.Lock()
        )
    if crops:
        scored.crops = _cut(sides, results)
    return scored


class _Noise:
    """The noise of a picture as classical denoisers estimate it, once for all of them."""

    def __init__(self, noisy: FloatImage) -> None:
        self._noisy = noisy
        self._seconds: float | None = None
        self.sigma = 0.0

    def measured(self) -> float:
        """Measure it if nobody has, and return the seconds that it took the first one beside its own."""
        if self._seconds is not None:
            return self._seconds
        start = time.perf_counter()
        self.sigma = noise_sigma(self._noisy)
        self._seconds = time.perf_counter() - start
        return 0.0


def _score(
    case: Case,
    sides: Sides,
    one: Contender,
    metrics: Sequence[str],
    denoisers: Mapping[str, Denoiser],
    noise: _Noise,
    one_at_a_time: threading.Lock,
) -> tuple[Row, FloatImage]:
    noisy, clean = sides
    network = denoisers.get(one.label)
    correction = network.inference.offset if isinstance(network, NetworkDenoiser) else "keep"
    start = time.perf_counter()
    if one.kind == "noisy":
        denoised = noisy
    elif one.kind == "classical":
        start -= noise.measured()
        denoised = BASELINES[one.name](noisy, noise.sigma)
    else:
        assert network is not None
        with one_at_a_time:
            start = time.perf_counter()
            denoised = network.uncorrected(noisy) if isinstance(network, NetworkDenoiser) else network(noisy)
    seconds = time.perf_counter() - start
    if denoised.shape != noisy.shape or not np.isfinite(denoised).all():
        raise UserError(f"{case.place}: {one.label} returned no picture of the same size with finite values")
    row: Row = {"seconds": None if one.kind == "noisy" else round(seconds, 4), "metrics": {}}
    final = denoised
    if one.kind == "model":
        final = mended(noisy, denoised, correction)
        level = final if correction == "level" else mended(noisy, denoised, "level")
        row["offset"] = offset_of(noisy, denoised, corrected=correction != "keep")
        if clean is not None:
            kept = measure(denoised, clean, metrics)
            same = np.array_equal(level, denoised)
            row["by_offset"] = {"keep": kept, "level": kept if same else measure(level, clean, metrics)}
            row["metrics"] = row["by_offset"][correction]
    elif clean is not None:
        row["metrics"] = measure(final, clean, metrics)
    if one.kind != "noisy" and (one.kind == "model" or clean is None):
        row["blind"] = blind_measures(noisy, final)
    return row, final


def _cut(sides: Sides, results: Mapping[str, Picture]) -> Crops:
    last = list(results.values())[-1]
    truth = sides.clean
    shown_side = last if truth is None else truth
    error = local_detail(last) if truth is None else np.square(last - truth).mean(axis=2)
    window = choose_window(shown_side, error, "typical")
    pictures = dict(results) if truth is None else {**results, "clean": truth}
    return {label: from_float(picture[window], np.uint8) for label, picture in pictures.items()}
