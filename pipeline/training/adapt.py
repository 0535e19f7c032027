"""Settings that follow from the noise of the photographs: measured, chosen, and told with their reasons.

Which stride breaks the correlation of neighbours, and which share of the pixels is best hidden, depends on the noise
(MASH, CVPR 2024; asymmetric masks, ECCV 2024, chose 5 and 2 for one data set). What a user has set is never changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.data.source import SourceSpec
    from pipeline.schema import TrainConfig
    from pipeline.training.intake import Listener

STRONG_SIGMA = 10.0
"""Noise in grey levels above which stride 2 takes away more than it blurs."""

LEAST_STRIDE = 4
"""Of training on correlated noise: on SIDD crops 2 dB better than the 2 at which neighbours seem independent."""

_SUB_IMAGE = 16
"""Smallest side of a sub-image that a network learns from."""

_DRAWS = 4

_MEASURED_FILES = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What the choices rest on: medians over the photographs."""

    sigma: float
    """Standard deviation in units of 1/255."""

    correlation: float
    """Of horizontal and vertical neighbours, mean."""

    pd_stride: int
    """Smallest stride at which neighbours are nearly independent."""

    mask_ratio: float
    """Share of hidden pixels that suits the correlation."""


Choice = tuple[Any, str]
"""Value, and why."""


def training_stride(noise: Measured, crop: int) -> Choice:
    """Return the PD stride to train on: what a stride leaves of correlated noise is learnt, so rather a large one."""
    if noise.pd_stride == 1:
        return 1, f"neighbours are nearly independent (correlation {noise.correlation:.2f})"
    wanted = max(noise.pd_stride, LEAST_STRIDE)
    stride = min(wanted, crop // _SUB_IMAGE)
    if stride < wanted:
        return stride, f"the noise asks for {wanted}, a crop of {crop} allows no more"
    return stride, f"neighbours correlate by {noise.correlation:.2f}, and noise has a long tail"


def inference_stride(noise: Measured, crop: int) -> Choice:
    """Return the PD stride to denoise on: stride 2 takes correlated noise away better, and costs detail."""
    if training_stride(noise, crop)[0] == 1:
        return 1, "as in training"
    if noise.sigma < STRONG_SIGMA:
        return 1, f"noise of {noise.sigma:.1f} grey levels hides less detail than stride 2 would cost"
    return 2, f"the noise is correlated and strong ({noise.sigma:.1f} grey levels)"


def masks(noise: Measured, _crop: int) -> Choice:
    """Return the number of complementary masks."""
    if noise.mask_ratio < 0.5:
        return 4, f"white noise (correlation {noise.correlation:.2f}) gains from hiding a quarter of the pixels"
    return 2, f"correlated noise (correlation {noise.correlation:.2f}) wants half of the pixels hidden"


def layout(noise: Measured, _crop: int) -> Choice:
    """Return where the masks of inference hide: a lattice leaves the nearest neighbours, whose noise is related."""
    if noise.sigma < STRONG_SIGMA:
        return "lattice", "with weak noise the nearest neighbours tell most: 2 passes do what 16 random ones do"
    return "random", f"strong noise ({noise.sigma:.1f} grey levels) that neighbours share spoils a lattice"


def draws(noise: Measured, crop: int) -> Choice:
    """Return the number of draws to average."""
    if layout(noise, crop)[0] == "lattice":
        return 1, "a lattice hardly varies"
    return _DRAWS, "random masks are averaged"


CHOICES: dict[str, Callable[[Measured, int], Choice]] = {
    "method.pd_stride": training_stride,
    "inference.pd_stride": inference_stride,
    "method.mask_count": masks,
    "inference.mask_count": masks,
    "inference.layout": layout,
    "inference.draws": draws,
}
"""Dotted key -> what chooses its value."""


def adapted(config: TrainConfig, source: SourceSpec, listen: Listener) -> TrainConfig:
    """Return the configuration with every key of `adapt` set by measurement, and the reasons in `adapted`."""
    from pipeline.config import apply_overrides, check, dump

    if not config.adapt:
        return config
    noise = measure(source, listen)
    tree = dump(config)
    reasons: dict[str, str] = {}
    if noise is None:
        listen("say", {"text": "noise: could not be measured; the preset's settings stay"})
    else:
        listen(
            "say", {"text": f"noise: sigma {noise.sigma:.1f} of 255, neighbours correlate by {noise.correlation:.2f}"}
        )
        chosen = {key: CHOICES[key](noise, config.data.crop) for key in config.adapt}
        tree = apply_overrides(tree, [f"{key}={value}" for key, (value, _) in chosen.items()], None)
        for key, (value, reason) in chosen.items():
            reasons[key] = reason
            listen("say", {"text": f"chosen: {key}={value}, since {reason}"})
    return check({**tree, "adapt": [], "adapted": reasons})


def as_stored(config: TrainConfig, stored: TrainConfig) -> TrainConfig:
    """Return the configuration of a resumed run with what its start has chosen."""
    from pipeline.config import apply_overrides, check, dump, flatten

    if not config.adapt:
        return config
    before = flatten(dump(stored))
    tree = apply_overrides(dump(config), [f"{key}={before[key]}" for key in config.adapt if key in before], None)
    return check({**tree, "adapt": [], "adapted": dict(stored.adapted)})


def measure(source: SourceSpec, listen: Listener) -> Measured | None:
    """Measure some of the photographs; None if there is none to measure."""
    from pipeline.data.folders import SourceFile
    from pipeline.evaluation.survey import survey

    files = [SourceFile(Path(file), Path(Path(file).name)) for file in source.files]
    few = [files[index * len(files) // _MEASURED_FILES] for index in range(_MEASURED_FILES)]
    files = few if len(files) > _MEASURED_FILES else files
    done = 0

    def tell() -> None:
        nonlocal done
        done += 1
        value = {"task": "measuring noise", "done": done, "total": len(files), "seconds_left": 0.0}
        listen("progress", value)

    pooled = survey(files, on_progress=tell)["pooled"]
    if pooled is None:
        return None
    return Measured(
        sigma=pooled["sigma"],
        correlation=pooled["correlation"],
        pd_stride=pooled["pd_stride"],
        mask_ratio=pooled["mask_ratio"],
    )
