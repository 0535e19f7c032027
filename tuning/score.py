"""What makes one trial better than another, measured on data that no trial trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from models import AsymmetricMasks
from pipeline.data.held_out import MEASURE_BATCH
from pipeline.data.source import BatchSource, SourceSpec
from pipeline.errors import UserError
from tuning.effort import Effort, judging_effort

if TYPE_CHECKING:
    from pipeline.schema import TrainConfig
    from tuning.plan import Plan

CROPS: Final = 32
PAIRS: Final = 6
SUITE_PICTURES: Final = 2
PICTURE_SIDE: Final = 256
SUITE_SEED: Final = 1
_MIN_FILES_TO_SPLIT = 4
_MAX_HELD_OUT = 16

Kind = Literal["pairs", "suite", "synthetic", "trust", "blind"]

TRUST: Final[dict[str, str]] = {
    "trust": "noise left plus structure lost, in parts of the noise's energy",
    "noise_left": "noise left, in parts of the noise's energy",
    "structure_lost": "structure lost, in parts of the noise's energy",
    "estimated_error": "estimated squared error, in parts of that of the noisy pictures",
}
OBJECTIVES: Final = ("psnr", *TRUST, "blind_l1")
"""What can be asked for with ``--objective``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A number with its definition, equal for all trials of a search."""

    kind: Kind
    """Which judge measures it."""

    name: str
    """What tables, plots and MLflow call it."""

    mode: Literal["max", "min"]
    """Whether larger or smaller is better."""

    definition: str
    """What it is, in words."""

    count: int
    """Crops or pictures that are judged on, at most."""

    side: int
    """Of each of them, in pixels."""

    effort: Effort
    """How much of them, and at how many draws, at the end of a trial."""

    data: str = ""
    """Folder of pairs, for `pairs`, or of clean pictures, for `suite`."""

    suite: str = ""
    """Name of the noises, for `suite`."""

    pd_stride: int = 1
    """PD stride that all trials are judged at, for `blind`."""


def choose_scores(plan: Plan) -> list[Score]:
    """Return what was asked for, or the most telling score that the data allow.

    Raises:
        UserError: data that an objective needs are missing.
    """
    if (plan.suite is None) != (plan.clean is None):
        raise UserError("--suite, --clean: expected both, a suite's noises are put on clean pictures; found one")
    config = plan.base()
    if plan.objectives:
        if len(set(plan.objectives)) < len(plan.objectives):
            raise UserError(f"--objective: expected each once, found {', '.join(plan.objectives)}")
        return [_score(name, plan) for name in plan.objectives]
    known = plan.suite is not None or plan.pairs is not None or config.noise is not None
    return [_score("psnr" if known else "trust", plan)]


def _score(name: str, plan: Plan) -> Score:
    config = plan.base()
    if name == "psnr":
        return _psnr(config, plan)
    if name not in OBJECTIVES:
        raise UserError(f"--objective: expected one of {', '.join(OBJECTIVES)}, found {name!r}")
    if config.noise is not None or not isinstance(config.method, AsymmetricMasks):
        raise UserError(f"--objective {name}: expected noisy photos and method.kind 'asymmetric'; use psnr")
    side = config.data.crop
    if name == "blind_l1":
        stride = config.method.pd_stride
        effort = judging_effort(plan, CROPS, side**2)
        what = (
            f"mean absolute difference, in [0, 1], between {_parts(effort, side)} of {CROPS} held-out noisy crops "
            f"and their prediction without the pixel's own value, at PD stride {stride} for all trials"
        )
        return _defined("blind", f"blind_l1_pd{stride}", "min", what, effort, CROPS, side, pd_stride=stride)
    if not config.trust.every:
        raise UserError(f"trust.every: expected above 0 for --objective {name}, which measures what is held out")
    count = config.trust.crops
    # Half of the crops are denoised again, with more noise.
    effort = judging_effort(plan, count, round(1.5 * side**2))
    what = f"{TRUST[name]}, on {_parts(effort, side)} of {count} held-out noisy crops at most"
    return _defined("trust", name, "min", what, effort, count, side)


def _psnr(config: TrainConfig, plan: Plan) -> Score:
    if plan.suite is not None and plan.clean is not None:
        from pipeline.evaluation.case_sets import noised_sets, suite_noises

        noises = suite_noises(plan.suite)
        found = len(noised_sets(Path(plan.clean), noises[:1], SUITE_SEED, SUITE_PICTURES)[0].cases)
        effort = judging_effort(plan, found, len(noises) * PICTURE_SIDE**2)
        what = (
            f"mean psnr_rgb_u8 in dB over the {len(noises)} noises of suite {plan.suite} on {found} clean pictures, "
            f"of each {_centre(effort)}"
        )
        name, more = f"psnr_{plan.suite}", {"data": plan.clean, "suite": plan.suite}
        return _defined("suite", name, "max", what, effort, found, PICTURE_SIDE, **more)
    if plan.pairs is not None:
        from pipeline.evaluation.datasets import find_pairs

        pairs = Path(plan.pairs)
        found = min(PAIRS, len(find_pairs(pairs).pairs))
        effort = judging_effort(plan, found, PICTURE_SIDE**2)
        what = f"mean psnr_rgb_u8 in dB over {found} pairs, of each {_centre(effort)}"
        folder = str(pairs.expanduser().resolve())
        return _defined("pairs", "psnr_rgb_u8", "max", what, effort, found, PICTURE_SIDE, data=folder)
    if config.noise is not None:
        side = config.data.crop
        effort = judging_effort(plan, CROPS, side**2)
        parts = _parts(effort, side)
        what = f"mean psnr_rgb_u8 in dB over {parts} of {CROPS} held-out crops with noise of the recipe"
        return _defined("synthetic", "psnr_synthetic", "max", what, effort, CROPS, side)
    raise UserError("--objective psnr: expected clean pictures to compare with: --pairs, or --suite and --clean")


def _defined(
    kind: Kind, name: str, mode: Literal["max", "min"], what: str, effort: Effort, count: int, side: int, **more: Any
) -> Score:
    """Return a score whose definition says what it is, at how many draws, and which way is better."""
    text = f"{what}, {effort.at_draws}; {'larger' if mode == 'max' else 'smaller'} is better"
    return Score(kind=kind, name=name, mode=mode, definition=text, effort=effort, count=count, side=side, **more)


def _centre(effort: Effort) -> str:
    side = effort.side(PICTURE_SIDE)
    return f"the centre, {side}x{side} at most"


def _parts(effort: Effort, length: int) -> str:
    side = effort.side(length)
    return "the whole" if side == length else f"the middles, {side}x{side} pixels,"


def measurable(source: SourceSpec, config: TrainConfig) -> bool:
    """Say whether the noise of any held-out photo can be measured, which the trust measures need."""
    import numpy as np

    from pipeline.evaluation.blind import LEAST_ENERGY
    from pipeline.evaluation.trust_flat import find_flat_areas

    if not source.measured:
        return False
    batch = BatchSource(source).batch(MEASURE_BATCH, range(config.trust.crops))
    crops = np.ascontiguousarray(batch["noisy"].transpose(0, 2, 3, 1))
    found = [find_flat_areas(crops[batch["images"] == image]) for image in np.unique(batch["images"])]
    return any(areas is not None and areas.reliable and areas.energy > LEAST_ENERGY for areas in found)


def split_source(source: SourceSpec, scores: Sequence[Score]) -> tuple[SourceSpec, SourceSpec]:
    """Return (training, held-out) images: every fourth is held out where there are at least four.

    With fewer, other crops (and other noise) of the same images are held out. Nothing more is held out for pairs and
    suites, and for trust measures, which have the part of the photos that `trust.held_out` keeps from every run.
    """
    own = all(score.kind in ("pairs", "suite", "trust") for score in scores)
    if own or len(source.files) < _MIN_FILES_TO_SPLIT:
        return source, source
    held_out = source.files[::4][:_MAX_HELD_OUT]
    training = tuple(file for file in source.files if file not in held_out)
    return replace(source, files=training), replace(source, files=held_out)
