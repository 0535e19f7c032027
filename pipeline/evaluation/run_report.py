"""The report of a run folder: its history and settings, an evaluation if there are pairs, and crops."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.folders import SourceFile, file_hash, manifest_hash, scan
from pipeline.data.images import Image, write_image
from pipeline.data.paths import shown
from pipeline.errors import UserError
from pipeline.evaluation.datasets import data_files, holds_pairs
from pipeline.evaluation.evaluate import DEFAULT_BASELINES, evaluate
from pipeline.evaluation.pictures import Picture, contact_sheet, pictures_of_pairs, pictures_of_photos
from pipeline.evaluation.report import command_line, write_report
from pipeline.inference.denoiser import WEIGHTS_NAME, NetworkDenoiser, find_weights
from pipeline.training.history import read_history

CONFIG_NAME, EVALUATION_NAME = "config.json", "evaluation.json"


def report_run(
    run_dir: Path,
    *,
    data: Path | None = None,
    photos: Sequence[SourceFile] | None = None,
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
        data: pairs (measured anew) or photos without a clean partner (shown only); None shows the pairs of
            evaluation.json if they are still there.
        photos: shown instead of ``data``: photos without a clean partner, already listed.
        out: HTML file; None writes report.html into the run folder.
        title: heading; None names the run folder, and the data if given.
        baselines: classical denoisers to measure beside the model.
        limit: at most this many pairs, evenly spaced.
        device: where the model runs.
        on_progress: called as (done, total) while pairs are measured.

    Returns:
        report and picture (paths; the picture is the report's crops as one PNG beside it), and the headline
        numbers, None where nothing was measured.

    Raises:
        UserError: no run folder, or no pictures in ``data``.
    """
    if not run_dir.is_dir():
        found = "a file" if run_dir.exists() else "nothing there"
        raise UserError(f"{shown(run_dir)}: expected a run folder made by `unveil train`, found {found}")
    weights = find_weights(str(run_dir))
    denoiser = NetworkDenoiser(weights, device)
    evaluation = _stored_evaluation(run_dir)
    pictures: list[Picture] = []
    facts = {"run": str(run_dir), "weights SHA-256": file_hash(weights / WEIGHTS_NAME)}
    if data is not None and holds_pairs(data):
        evaluation = evaluate(denoiser, data, baselines=baselines, limit=limit, device=device, on_progress=on_progress)
        evaluation["model"] = str(run_dir)
        pictures = pictures_of_pairs(denoiser, evaluation)
        facts["data manifest SHA-256"] = manifest_hash(data_files(data))
    elif data is not None or photos:
        evaluation = None
        pictures = pictures_of_photos(denoiser, list(photos) if photos else scan([data] if data else []))
    elif evaluation is not None and Path(evaluation["data"]).is_dir():
        pictures = pictures_of_pairs(denoiser, evaluation)
    out = out or run_dir / "report.html"
    write_report(
        out,
        title=title or f"{run_dir.resolve().name}" + (f" on {data.resolve().name}" if data else ""),
        run={
            "history": read_history(run_dir),
            "config": _read_json(run_dir / CONFIG_NAME) or {},
            "facts": facts,
            "gate": denoiser.card.get("gate"),
        },
        evaluation=evaluation,
        pictures=pictures,
        commands=[command_line("report", run_dir, data=data, limit=limit)],
    )
    picture = out.with_suffix(".png") if pictures else None
    if picture:
        write_image(picture, Image(pixels=contact_sheet(pictures)))
    return {
        "report": str(out),
        "picture": str(picture) if picture else None,
        "n": evaluation["n"] if evaluation else None,
        "psnr_rgb_u8": evaluation["psnr_rgb_u8"] if evaluation else None,
        "ssim_gauss11_rgb": evaluation["ssim_gauss11_rgb"] if evaluation else None,
    }


def _stored_evaluation(run_dir: Path) -> dict[str, Any] | None:
    stored = _read_json(run_dir / EVALUATION_NAME)
    needed = {"images", "noisy", "baselines", "data", "layout", "protocol", "n", "available"}
    return stored if stored is not None and needed <= stored.keys() else None


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{shown(path)}: expected a JSON file, found a damaged one") from error
    return value if isinstance(value, dict) else None
