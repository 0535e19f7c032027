"""The report of a run folder: its history and settings, what was measured, pictures, and the noise of its data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.data.folders import SourceFile, file_hash, scan
from pipeline.data.paths import shown
from pipeline.errors import UserError
from pipeline.evaluation.case_sets import data_set, unique_names
from pipeline.evaluation.cases import CaseSet
from pipeline.evaluation.contenders import OURS, Model
from pipeline.evaluation.evaluate import DEFAULT_BASELINES, measure_sets
from pipeline.evaluation.evaluation_report import pictures_of_sets, sheet_rows, write_picture
from pipeline.evaluation.pictures import Picture, pictures_of_photos, pictures_of_set, sheet_numbers
from pipeline.evaluation.report import check_place, command_line, write_report
from pipeline.evaluation.report_data import ReportData
from pipeline.evaluation.run_noise import noise_of_run, photos_set
from pipeline.evaluation.stored_evaluations import Evaluation, is_current, joined, read_evaluation, read_object
from pipeline.inference.denoiser import WEIGHTS_NAME, NetworkDenoiser, find_weights
from pipeline.training.history import Tail

CONFIG_NAME, EVALUATION_NAME, TUNE_NAME = "config.json", "evaluation.json", "tune.json"
_HELD_OUT = "trust_loss"


def report_run(
    run_dir: Path,
    *,
    data: Sequence[Path] = (),
    photos: Sequence[SourceFile] | None = None,
    evaluations: Sequence[Path] = (),
    analysis: Path | None = None,
    tune: Path | None = None,
    out: Path | None = None,
    title: str | None = None,
    baselines: Sequence[str] = DEFAULT_BASELINES,
    limit: int | None = None,
    device: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the report of a run.

    Args:
        run_dir: made by ``unveil train``: config.json, log.jsonl, weights/, maybe evaluation.json.
        data: folders of pairs or photos, measured anew; none shows evaluation.json, and its pictures if they are still
            there.
        photos: shown instead of ``data``: photos without a clean partner, already listed.
        evaluations: written by ``unveil evaluate --out``, laid beside.
        analysis: written by ``unveil analyze``.
        tune: folder of ``unveil tune``.
        out: HTML file; None writes report.html into the run folder.
        title: heading; None names the run folder, and the data if given.
        baselines: classical denoisers to measure beside the model.
        limit: at most this many pictures of each folder, evenly spaced.
        device: where the model runs.
        on_progress: called as (done, total) while pictures are measured.

    Returns:
        report, json and picture (paths; the picture is the report's crops as one PNG beside it), notes (lines for
        people), and the headline numbers of the first set with clean pictures, None where nothing was measured.

    Raises:
        UserError: no run folder, no pictures in ``data``, or a file that is not what it should be.
    """
    if not run_dir.is_dir():
        found = "a file" if run_dir.exists() else "nothing there"
        raise UserError(f"{shown(run_dir)}: expected a run folder made by `unveil train`, found {found}")
    out = out or run_dir / "report.html"
    check_place(out)
    weights = find_weights(str(run_dir))
    config = _optional(run_dir / CONFIG_NAME)
    given = [read_evaluation(path) for path in evaluations]
    extra = {
        "analysis": None if analysis is None else read_object(analysis, "an analysis written by `unveil analyze`"),
        "tune": None if tune is None else read_object(_tune_file(tune), "tune.json of a search by `unveil tune`"),
    }
    denoiser = NetworkDenoiser(weights, device)
    model = Model(label=OURS, denoiser=denoiser, ref=str(run_dir))
    notes: list[str] = []
    sheet: list[dict[str, Any]] = []
    pictures: list[Picture]
    if data:
        sets = unique_names([_set_of(path, limit) for path in data])
        measured = measure_sets(
            [model],
            sets,
            baselines=baselines,
            crops=lambda one: sheet_numbers(one, len(sets)),
            on_progress=on_progress,
        )
        pictures, sheet = pictures_of_sets(sets, measured.result, model), sheet_rows(measured, model.label)
        given.insert(0, measured.result)
    elif photos:
        sets = [photos_set(photos, "photos")]
        pictures = pictures_of_photos(denoiser, list(photos))
    else:
        given = [*_stored(run_dir, notes), *given]
        sets, pictures = _still_there(given, model, weights)
    evaluation = joined(given) if given else None
    name = run_dir.resolve().name
    history, held_out = _log(run_dir)
    report = ReportData(
        title=title or f"{name}{' on ' + ', '.join(path.resolve().name for path in data) if data else ''}",
        run={
            "history": history,
            "held_out": held_out,
            "config": config,
            "card": denoiser.card,
            "parameters": sum(values.numel() for values in denoiser.network.parameters()),
            "facts": {"run": str(run_dir), "weights SHA-256": file_hash(weights / WEIGHTS_NAME)},
            "gate": denoiser.card.get("gate"),
        },
        evaluation=evaluation,
        pictures=pictures,
        sheet=sheet,
        noise=noise_of_run(sets, config),
        masks=_masks(config),
        commands=[
            *_training(config, run_dir),
            command_line(
                "report", run_dir, data=data, evaluation=evaluations, analysis=analysis, tune=tune, limit=limit
            ),
        ],
        **extra,
    )
    write_report(out, report)
    picture = write_picture(out, pictures)
    paths = {"report": str(out), "json": str(out.with_suffix(".json")), "picture": str(picture) if picture else None}
    return {**paths, "notes": notes, **_headline(evaluation)}


def _set_of(path: Path, limit: int | None) -> CaseSet:
    if path.is_file():
        return photos_set(scan([path]), path.name)
    return data_set(path, "auto", limit)


def _stored(run_dir: Path, notes: list[str]) -> list[Evaluation]:
    """What lies in the run folder, if it can be shown."""
    path = run_dir / EVALUATION_NAME
    if not path.exists():
        return []
    value = read_object(path)
    if is_current(value):
        return [value]
    notes.append(f"{shown(path)}: left out, an evaluation of an older version; run `unveil evaluate` again")
    return []


def _still_there(evaluations: Sequence[Evaluation], model: Model, weights: Path) -> tuple[list[CaseSet], list[Picture]]:
    """The first evaluated folder of this model that is as it was, with its pictures by rule."""
    own = file_hash(weights / WEIGHTS_NAME)
    for evaluation in evaluations:
        label = next((one["label"] for one in evaluation["models"] if one.get("sha256") in (own, None)), None)
        for summary in evaluation["sets"] if label is not None else []:
            folder = Path(summary["data"])
            if summary["kind"] == "synthetic" or not folder.is_dir():
                continue
            try:
                one = data_set(folder, summary["layout"])
            except UserError:  # it holds something else by now
                continue
            if {row["name"] for row in summary["images"]} <= {case.name for case in one.cases}:
                named = replace(model, label=str(label))
                return [one], pictures_of_set(one, summary, named, evaluation["baselines"])
    return [], []


def _masks(config: dict[str, Any]) -> list[dict[str, Any]]:
    from pipeline.evaluation.report_masks import mask_pictures

    return mask_pictures(config)


def _training(config: dict[str, Any], run_dir: Path) -> list[str]:
    from pipeline.evaluation.train_command import train_command

    line = train_command(config, run_dir) if config else None
    return [line] if line else []


def _log(run_dir: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the training, and the held-out loss by step."""
    rows = Tail(run_dir).new_rows()
    held_out = [
        {"step": row["step"], "value": row[_HELD_OUT]}
        for row in rows
        if row.get("event") == "trust" and _HELD_OUT in row
    ]
    return [row for row in rows if "event" not in row], held_out


def _headline(evaluation: Evaluation | None) -> dict[str, Any]:
    """Numbers of the first model on the first set with clean pictures."""
    sets = [one for one in (evaluation or {}).get("sets", []) if one["kind"] != "photos"]
    labels = [model["label"] for model in (evaluation or {}).get("models", [])]
    row = next((sets[0]["methods"][label] for label in labels if label in sets[0]["methods"]), None) if sets else None
    found = {} if row is None else {name: values["mean"] for name, values in row["metrics"].items()}
    return {"n": sets[0]["n"] if sets else None, "psnr_rgb_u8": None, "ssim_gauss11_rgb": None, **found}


def _tune_file(tune: Path) -> Path:
    return tune / TUNE_NAME if tune.is_dir() else tune


def _optional(path: Path) -> dict[str, Any]:
    return read_object(path) if path.exists() else {}
