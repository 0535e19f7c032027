"""One self-contained HTML file: numbers with their definitions, pictures chosen by rule, curves, provenance."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pipeline
from pipeline.data.images import write_bytes
from pipeline.data.paths import shown
from pipeline.errors import UserError
from pipeline.evaluation.encoding import array_url, diverging_css, diverging_tables
from pipeline.evaluation.gate_board import gate_board
from pipeline.evaluation.report_analysis import analysis_board
from pipeline.evaluation.report_data import ReportData
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


def check_place(path: Path) -> None:
    """Refuse a report whose numbers, which get its name with ``.json``, would replace a file that is not a report's.

    Raises:
        UserError: there is such a file.
    """
    beside = path.with_suffix(".json")
    if not beside.exists():
        return
    try:
        value = json.loads(beside.read_text("utf-8"))
    except (OSError, ValueError):
        value = None
    if not isinstance(value, dict) or "html_sha256" not in value:
        raise UserError(
            f"{shown(beside)}: expected nothing, or the numbers of an earlier report, found another file; "
            "give the report another name"
        )


def write_report(path: Path, data: ReportData) -> None:
    """Write the report, and the same numbers as JSON beside it.

    Args:
        path: HTML file, written atomically; its folder is created. The JSON has the same stem.
        data: what to show.

    Raises:
        UserError: as for `check_place`.
    """
    check_place(path)
    content = page_content(data)
    # File names may hold bytes that are no text.
    html = render_page(content).encode("utf-8", "replace")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, html)
    sections = [section["id"] for section in content["sections"]]
    numbers = report_json(data, written=content["written"], verdict=content["verdict"], sections=sections, html=html)
    write_bytes(path.with_suffix(".json"), numbers)


def render_report(data: ReportData) -> str:
    """Return the report as HTML; everything that is not ours is escaped."""
    return render_page(page_content(data))


def page_content(data: ReportData) -> dict[str, Any]:
    """Return everything that the page shows; a section without data is None or empty."""
    run, evaluation = data.run, data.evaluation
    scores = score_boards(evaluation) if evaluation and evaluation["sets"] else None
    if scores and evaluation:
        in_charts = charted(evaluation)
        for board, one in zip(scores["boards"], evaluation["sets"], strict=True):
            board["charted"] = one["name"] in in_charts
    content: dict[str, Any] = {
        "scores": scores,
        "levels": level_charts(evaluation) if evaluation else [],
        "pictures": gallery(data.pictures),
        "sheet": sheet_board(data.sheet),
        "gate": gate_board(run.get("gate")),
        "noise": noise_charts(data.noise),
        "masks": [_mask(mask) for mask in data.masks],
        "training": training_charts(run.get("history") or [], run.get("held_out") or ()),
        "tune": tune_board(data.tune),
        "analysis": analysis_board(data.analysis),
        "images": image_tables(evaluation) if evaluation else [],
        "again": True,
    }
    blind = (content["pictures"] or content["sheet"]) and not scores
    verdict = scores["verdict"] if scores else ""
    if blind:
        verdict = "No clean image to compare with: judge by eye, and by what was removed."
    return {
        **content,
        "title": _printable(data.title),
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "version": pipeline.__version__,
        "verdict": verdict,
        "sections": [{"id": key, "name": name} for key, name in _SECTIONS if content[key]],
        "facts": run_facts(run, evaluation),
        "commands": [_printable(command) for command in data.commands],
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
