"""What a report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Dicts = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportData:
    """Everything that a report may show; sections without data are left out."""

    title: str
    """Heading."""

    run: Mapping[str, Any] = field(default_factory=dict)
    """``history`` (rows of log.jsonl), ``held_out`` (dicts with step and value), ``config`` (resolved, nested),
    ``card`` (of the weights), ``parameters``, ``facts`` (label -> value) and ``gate`` (of the card: passed, why,
    measures); every key may be missing."""

    evaluation: Mapping[str, Any] | None = None
    """``result`` of `pipeline.evaluation.evaluate.measure_sets`."""

    pictures: Dicts = ()
    """Of `pipeline.evaluation.pictures`: dicts with name, noisy, baseline, denoised and clean (the last and the
    baseline may be None), optionally rule, reason, baseline_name, model_name and residual."""

    sheet: Dicts = ()
    """As for `pipeline.evaluation.report_sheet.sheet_board`."""

    analysis: Mapping[str, Any] | None = None
    """What ``unveil analyze`` wrote."""

    tune: Mapping[str, Any] | None = None
    """What ``unveil tune`` wrote to tune.json."""

    noise: Dicts = ()
    """As for `pipeline.evaluation.report_noise.noise_charts`."""

    masks: Dicts = ()
    """Of `pipeline.evaluation.report_masks.mask_pictures`."""

    commands: Sequence[str] = ()
    """What to type to get this again."""
