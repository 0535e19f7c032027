"""The report of an evaluation: its numbers, pictures by rule of its first and last set, and a contact sheet of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.images import Image, write_image
from pipeline.evaluation.baselines import BASELINES
from pipeline.evaluation.cases import CaseSet
from pipeline.evaluation.contenders import NOISY, Model
from pipeline.evaluation.evaluate import Evaluation
from pipeline.evaluation.pictures import Picture, contact_sheet, pictures_of_set
from pipeline.evaluation.report import write_report
from pipeline.evaluation.report_data import ReportData


def report_evaluation(
    path: Path, found: Evaluation, sets: Sequence[CaseSet], models: Sequence[Model], *, commands: Sequence[str]
) -> Path | None:
    """Write the report of an evaluation; the first model is the one that pictures show, or the first baseline.

    Args:
        path: HTML file.
        found: with crops of the pictures that the contact sheet is to show.
        sets: that were evaluated; their files must still be there.
        models: that were evaluated.
        commands: what to type to get this again.

    Returns:
        The picture beside it, see `write_picture`.
    """
    result = found.result
    who = shown_model(models, result["baselines"])
    names = ", ".join(model.label for model in models) or "classical denoisers"
    title = f"{names} on {sets[0].name}" + (f" and {len(sets) - 1} more sets" if len(sets) > 1 else "")
    pictures = pictures_of_sets(sets, result, who)
    sheet = sheet_rows(found, who.label)
    data = ReportData(title=title, evaluation=result, pictures=pictures, sheet=sheet, commands=commands)
    write_report(path, data)
    return write_picture(path, pictures)


def write_picture(report: Path, pictures: Sequence[Picture]) -> Path | None:
    """Write the pictures of a report as one PNG beside it, and return its path; None without any."""
    if not pictures:
        return None
    path = report.with_suffix(".png")
    write_image(path, Image(pixels=contact_sheet(list(pictures))))
    return path


def shown_model(models: Sequence[Model], baselines: Sequence[str]) -> Model:
    """Return whose pictures are shown."""
    return models[0] if models else Model(label=baselines[0], denoiser=BASELINES[baselines[0]])


def pictures_of_sets(sets: Sequence[CaseSet], result: Mapping[str, Any], who: Model) -> list[Picture]:
    """Return the pictures by rule of the first and the last set, named with their set where there are several."""
    pictures: list[Picture] = []
    for at in dict.fromkeys((0, len(sets) - 1)):
        for picture in pictures_of_set(sets[at], result["sets"][at], who, result["baselines"]):
            name = picture["name"] if len(sets) == 1 else f"{sets[at].name}: {picture['name']}"
            pictures.append({**picture, "name": name})
    return pictures


def sheet_rows(found: Evaluation, label: str) -> list[dict[str, Any]]:
    """Return the rows of a contact sheet, see `pipeline.evaluation.report_sheet.sheet_board`."""
    headline = found.result["metrics"][0]
    rows = []
    for one in found.result["sets"]:
        for image in one["images"]:
            crops = found.crops.get((one["name"], image["name"]))
            if crops is None:
                continue
            scores = {who: image["methods"][who]["metrics"].get(headline) for who in (NOISY, label)}
            rows.append(
                {
                    "name": image["name"],
                    "set": one["name"],
                    "noisy": crops[NOISY],
                    "denoised": crops[label],
                    "clean": crops.get("clean"),
                    "psnr_noisy": scores[NOISY],
                    "psnr_denoised": scores[label],
                }
            )
    return rows
