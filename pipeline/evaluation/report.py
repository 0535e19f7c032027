"""One self-contained HTML file: numbers with their definitions, pictures chosen by rule, curves, provenance."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pipeline
from pipeline.data.images import write_bytes
from pipeline.data.paths import shown
from pipeline.evaluation.encoding import array_url, diverging_css, diverging_tables
from pipeline.evaluation.gate_board import gate_board
from pipeline.evaluation.report_analysis import analysis_board
from pipeline.evaluation.report_json import report_json
from pipeline.evaluation.report_levels import charted, level_charts
from pipeline.evaluation.report_noise import noise_charts
from pipeline.evaluation.report_page import render_page
from pipeline.evaluation.report_pictures import gallery
from pipeline.evaluation.report_run import flat, provenance, run_facts
from pipeline.evaluation.report_sheet import sheet_board
from pipeline.evaluation.report_table import image_tables
from pipeline.evaluation.report_training import training_charts
from pipeline.evaluation.report_tune import tune_board
from pipeline.evaluation.scores import score_boards

Dicts = Sequence[Mapping[str, Any]]

_SECTIONS = (
    ("scores", "Scores"),
    ("levels", "By noise level"),
    ("pictures", "Pictures by rule"),
    ("sheet", "Contact sheet"),
    ("gate", "Gate"),
    ("noise", "Noise"),
    ("masks", "Masks"),
    ("training", "Training"),
    ("tune", "Search"),
    ("analysis", "Why it generalises"),
    ("images", "Every image"),
    ("again", "How to get this again"),
)


def write_report(
    path: Path,
    *,
    title: str,
    run: Mapping[str, Any] | None,
    evaluation: Mapping[str, Any] | None,
    pictures: Dicts,
    sheet: Dicts = (),
    analysis: Mapping[str, Any] | None = None,
    tune: Mapping[str, Any] | None = None,
    noise: Dicts | None = None,
    masks: Dicts | None = None,
    commands: Sequence[str],
) -> None:
    """Write the report, and the same numbers as JSON beside it; sections without data are left out.

    Args:
        path: HTML file, written atomically; its folder is created. The JSON has the same stem.
        title: heading.
        run: ``history`` (rows of log.jsonl), ``held_out`` (dicts with step and value), ``config`` (resolved, nested),
            ``card`` (of the weights), ``parameters``, ``facts`` (label -> value) and ``gate`` (of the card: passed,
            why, measures); every key may be missing.
        evaluation: what `pipeline.evaluation.evaluate.evaluate` returned, format 2.
        pictures: what `pipeline.evaluation.pictures` returned: dicts with name, noisy, baseline, denoised and clean
            (the last and the baseline may be None), optionally rule, reason, baseline_name and residual (what
            `pipeline.evaluation.blind.residual_panel` returned).
        sheet: as for `pipeline.evaluation.report_sheet.sheet_board`.
        analysis: what ``unveil analyze`` wrote.
        tune: what ``unveil tune`` wrote to tune.json.
        noise: as for `pipeline.evaluation.report_noise.noise_charts`.
        masks: what `pipeline.evaluation.report_masks.mask_pictures` returned.
        commands: what to type to get this again.
    """
    content = page_content(
        title=title,
        run=run,
        evaluation=evaluation,
        pictures=pictures,
        sheet=sheet,
        analysis=analysis,
        tune=tune,
        noise=noise,
        masks=masks,
        commands=commands,
    )
    # File names may hold bytes that are no text.
    html = render_page(content).encode("utf-8", "replace")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, html)
    write_bytes(
        path.with_suffix(".json"),
        report_json(
            title=title,
            written=content["written"],
            verdict=content["verdict"],
            sections=[section["id"] for section in content["sections"]],
            run=run or {},
            evaluation=evaluation,
            pictures=pictures,
            sheet=sheet,
            analysis=analysis,
            tune=tune,
            noise=noise or (),
            commands=commands,
            html=html,
        ),
    )


def render_report(
    *,
    title: str,
    run: Mapping[str, Any] | None,
    evaluation: Mapping[str, Any] | None,
    pictures: Dicts,
    sheet: Dicts = (),
    analysis: Mapping[str, Any] | None = None,
    tune: Mapping[str, Any] | None = None,
    noise: Dicts | None = None,
    masks: Dicts | None = None,
    commands: Sequence[str],
) -> str:
    """Return the report as HTML, see `write_report`; everything that is not ours is escaped."""
    return render_page(
        page_content(
            title=title,
            run=run,
            evaluation=evaluation,
            pictures=pictures,
            sheet=sheet,
            analysis=analysis,
            tune=tune,
            noise=noise,
            masks=masks,
            commands=commands,
        )
    )


def page_content(
    *,
    title: str,
    run: Mapping[str, Any] | None,
    evaluation: Mapping[str, Any] | None,
    pictures: Dicts,
    sheet: Dicts,
    analysis: Mapping[str, Any] | None,
    tune: Mapping[str, Any] | None,
    noise: Dicts | None,
    masks: Dicts | None,
    commands: Sequence[str],
) -> dict[str, Any]:
    """Return everything that the page shows; a section without data is None or empty."""
    run = run or {}
    scores = score_boards(evaluation) if evaluation and evaluation["sets"] else None
    if scores and evaluation:
        in_charts = charted(evaluation)
        for board, one in zip(scores["boards"], evaluation["sets"], strict=True):
            board["charted"] = one["name"] in in_charts
    content: dict[str, Any] = {
        "scores": scores,
        "levels": level_charts(evaluation) if evaluation else [],
        "pictures": gallery(pictures),
        "sheet": sheet_board(sheet),
        "gate": gate_board(run.get("gate")),
        "noise": noise_charts(noise or ()),
        "masks": [_mask(mask) for mask in masks or ()],
        "training": training_charts(run.get("history") or [], run.get("held_out") or ()),
        "tune": tune_board(tune),
        "analysis": analysis_board(analysis),
        "images": image_tables(evaluation) if evaluation else [],
        "again": True,
    }
    blind = (content["pictures"] or content["sheet"]) and not scores
    verdict = scores["verdict"] if scores else ""
    if blind:
        verdict = "No clean image to compare with: judge by eye, and by what was removed."
    return {
        **content,
        "title": _printable(title),
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "version": pipeline.__version__,
        "verdict": verdict,
        "sections": [{"id": key, "name": name} for key, name in _SECTIONS if content[key]],
        "facts": run_facts(run, evaluation),
        "commands": [_printable(command) for command in commands],
        "provenance": provenance(run, evaluation),
        "settings": flat(run.get("config") or {}),
        "scale": diverging_css(),
        "tables": diverging_tables(),
    }


def command_line(command: str, *arguments: object, **options: object) -> str:
    """Return an `unveil` command as a shell line.

    Options that are None, False or empty are left out, True gives the bare option, and a list repeats it.
    """
    words = ["unveil", command, *(str(argument) for argument in arguments)]
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            if one is not None and one is not False and one != "":
                words += [option, str(one)]
    return shlex.join(words)


def _mask(mask: Mapping[str, Any]) -> dict[str, Any]:
    return {"title": mask["title"], "caption": mask["caption"], "url": array_url(mask["pixels"])}


def _printable(text: str) -> str:
    return shown(text) if text else ""
