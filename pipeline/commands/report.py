"""``unveil report``: one HTML file that shows what a run has learnt, and its numbers as JSON beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import Json


def report(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder that `unveil train` wrote.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Noisy and clean pairs to measure, or photos to show; may be repeated."),
    ] = None,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE.json", help="What `unveil evaluate --out` wrote, shown beside; may be repeated."),
    ] = None,
    analysis: Annotated[Path | None, typer.Option(metavar="FILE.json", help="What `unveil analyze` wrote.")] = None,
    tune: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder that `unveil tune` wrote.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Default: RUN_DIR/report.html.")] = None,
    baselines: Annotated[str, typer.Option(help="Classical denoisers, comma-separated.")] = "nlm,tv",
    limit: Annotated[int | None, typer.Option(help="Measure this many pictures of each folder, evenly spaced.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    json_output: Json = False,
) -> None:
    """Write a self-contained report: numbers, crops under a slider, residuals, noise, masks, training, search."""
    from pipeline.console import console, print_json, progress
    from pipeline.data.paths import shown
    from pipeline.evaluation.run_report import report_run

    with progress() as bar:
        task = bar.add_task("report", total=None)
        result = report_run(
            run_dir,
            data=data or [],
            evaluations=evaluation or [],
            analysis=analysis,
            tune=tune,
            out=out,
            baselines=[name.strip() for name in baselines.split(",") if name.strip()],
            limit=limit,
            device=device,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for note in result["notes"]:
        console.print(note, markup=False, style="yellow", soft_wrap=True)
    if json_output:
        print_json(result)
    else:
        console.print(f"report: {shown(result['report'])}", markup=False, soft_wrap=True)
