"""The ablations of the two papers, each a table whose rows are overrides of one preset.

Masked image training: Chen et al., CVPR 2023, Tables 1, 2 and 3a (measured there on CBSD68 with mixture noise, after
200,000 steps). Asymmetric masks: AMSNet, ECCV 2024, the tables over the mask ratio and over the PD strides.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import UserError
from tuning.objective import trial_config
from tuning.space import SEED

if TYPE_CHECKING:
    from tuning.plan import Plan
    from tuning.summary import Summary, Trial

_SSIM = "ssim_gauss11_rgb"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table."""

    cells: tuple[str, ...]
    overrides: dict[str, Any]
    paper: tuple[float, float] | None = None
    """PSNR in dB and SSIM as printed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ablation:
    """A table of a paper."""

    preset: str
    title: str
    columns: tuple[str, ...]
    """Heads of what differs between the rows."""

    rows: tuple[Row, ...]


def _input(low: float, high: float, paper: tuple[float, float]) -> Row:
    cell = f"{100 * low:.0f} %" if low == high else f"{100 * low:.0f}-{100 * high:.0f} %"
    return Row((cell,), {"method.input_ratio": [low, high]}, paper)


_OFF: Final[dict[str, dict[str, Any]]] = {
    "input": {"method.input_ratio": [0.0, 0.0]},
    "attention": {"network.attention_ratio": 0.0},
}

ABLATIONS: Final[dict[str, Ablation]] = {
    "table1": Ablation(
        preset="masked_swin",
        title="Masked image training, Table 1: the two masks",
        columns=("input mask", "attention mask"),
        rows=(
            Row(("no", "no"), _OFF["input"] | _OFF["attention"]),
            Row(("no", "yes"), _OFF["input"], (29.17, 0.8227)),
            Row(("yes", "no"), _OFF["attention"], (26.96, 0.8202)),
            Row(("yes", "yes"), {}, (29.74, 0.8672)),
        ),
    ),
    "table2": Ablation(
        preset="masked_swin",
        title="Masked image training, Table 2: the attention mask's ratio",
        columns=("attention ratio",),
        rows=tuple(
            Row((f"{100 * ratio:.0f} %",), {"network.attention_ratio": ratio}, paper)
            for ratio, paper in ((0.65, (29.57, 0.8657)), (0.75, (29.76, 0.8678)), (0.85, (28.84, 0.8548)))
        ),
    ),
    "table3a": Ablation(
        preset="masked_swin",
        title="Masked image training, Table 3a: the input mask's ratio",
        columns=("input ratio",),
        rows=(
            _input(0.75, 0.75, (29.17, 0.8132)),
            _input(0.85, 0.85, (29.44, 0.8545)),
            _input(0.95, 0.95, (19.60, 0.7273)),
            _input(0.7, 0.8, (29.86, 0.8593)),
            _input(0.75, 0.85, (30.04, 0.8756)),
            _input(0.75, 0.9, (29.87, 0.8728)),
            _input(0.75, 0.95, (29.26, 0.8607)),
            _input(0.8, 0.9, (29.74, 0.8672)),
        ),
    ),
    "amsnet-ratio": Ablation(
        preset="amsnet",
        title="AMSNet: the mask ratio",
        columns=("mask ratio",),
        rows=tuple(
            Row((f"1/{count}",), {"method.mask_count": count, "inference.mask_count": count}) for count in (2, 3, 4, 5)
        ),
    ),
    "amsnet-pd": Ablation(
        preset="amsnet",
        title="AMSNet: PD strides of training and inference",
        columns=("training", "inference"),
        rows=tuple(
            Row((str(train), str(test)), {"method.pd_stride": train, "inference.pd_stride": test})
            for train, test in ((5, 2), (5, 1), (4, 2), (2, 2), (1, 1), (5, 5))
        ),
    ),
}
"""By the name that is given to ``--ablation``."""


def pick_ablation(name: str) -> Ablation:
    """Return a table.

    Raises:
        UserError: unknown; lists what exists.
    """
    if name not in ABLATIONS:
        raise UserError(f"--ablation: expected one of {', '.join(ABLATIONS)}, found {name!r}")
    return ABLATIONS[name]


def rows_of(plan: Plan) -> list[dict[str, Any]]:
    """Return the overrides of every row for every seed, all rows with the first seed first.

    Raises:
        UserError: the configuration does not allow a row.
    """
    ablation = pick_ablation(plan.ablation or "")
    config = plan.base()
    for row in ablation.rows:
        trial_config(config, row.overrides)
    seeds = range(config.seed, config.seed + plan.seeds)
    return [{**row.overrides, SEED: seed} for seed in seeds for row in ablation.rows]


def table_of(plan: Plan, summary: Summary) -> dict[str, Any]:
    """Return the table with what was measured, as JSON holds it."""
    ablation = pick_ablation(plan.ablation or "")
    runs = [*summary.trials, *summary.repeats]
    return {
        "ablation": plan.ablation,
        "title": ablation.title,
        "columns": list(ablation.columns),
        "score": summary.score_name,
        "definition": summary.score_definition,
        "steps": plan.base().training.steps,
        "rows": [_measured(row, [run for run in runs if run.overrides == row.overrides]) for row in ablation.rows],
    }


def _measured(row: Row, runs: list[Trial]) -> dict[str, Any]:
    ended = [run for run in runs if run.state == "finished" and run.score is not None]
    scores = [run.score for run in ended if run.score is not None]
    parts = {name: statistics.fmean(run.parts[name] for run in ended) for name in (ended[0].parts if ended else {})}
    return {
        "cells": list(row.cells),
        "overrides": row.overrides,
        "mean": statistics.fmean(scores) if scores else None,
        "sd": statistics.stdev(scores) if len(scores) > 1 else None,
        "seeds": [run.seed for run in ended],
        "parts": parts,
        "paper": list(row.paper) if row.paper else None,
    }


def table_as_markdown(table: Mapping[str, Any]) -> str:
    """Return a table as Markdown, in the paper's shape, with its number beside ours."""
    rows = table["rows"]
    parts = list(next((row["parts"] for row in rows if row["parts"]), {}))
    ssim = _SSIM in parts
    sets = [name for name in parts if name != _SSIM]
    paper = any(row["paper"] for row in rows)
    heads = [*table["columns"], table["score"], *(["SSIM"] if ssim else []), *sets, *(["paper"] if paper else [])]
    lines = [f"# {table['title']}", "", _line(heads), _line(["---"] * len(heads))]
    for row in rows:
        mine = "-" if row["mean"] is None else f"{row['mean']:.4g}"
        mine += "" if row["sd"] is None else f" ± {row['sd']:.2g}"
        cells = [*row["cells"], mine]
        cells += [f"{row['parts'][_SSIM]:.4f}" if row["parts"] else "-"] if ssim else []
        cells += [f"{row['parts'][name]:.2f}" if row["parts"] else "-" for name in sets]
        cells += ["{:.2f} / {:.4f}".format(*row["paper"]) if row["paper"] else "-"] if paper else []
        lines.append(_line(cells))
    seeds = len(rows[0]["seeds"])
    definition = table["definition"]
    lines += ["", f"{definition[:1].upper()}{definition[1:]}. Steps: {table['steps']:,}; seeds: {seeds}."]
    if paper:
        lines.append(
            "Paper: PSNR / SSIM on CBSD68 with mixture noise after 200,000 steps; only the order of the rows can be "
            "compared, and only after as many steps."
        )
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
