"""``unveil evaluate``: numbers on pairs of noisy and clean pictures, beside classical baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.commands.options import Attention, Draws, Json, Offset


def evaluate(
    model: Annotated[str, typer.Option(metavar="REF", help="Weights folder, run folder, or models:/name@alias.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder of noisy and clean pictures.")],
    layout: Annotated[
        str,
        typer.Option(
            help="auto; pairs: noisy/ and clean/ with equal stems; polyu: *_real.* and *_mean.*; sidd: *NOISY_SRGB* "
            "and *GT_SRGB*; nind: NIND_<scene>_ISO<value>; blocks: SIDD's two validation .mat files."
        ),
    ] = "auto",
    baselines: Annotated[
        str, typer.Option(help="Classical denoisers, comma-separated: nlm, tv, wavelet, bm3d; or empty.")
    ] = "nlm,tv",
    limit: Annotated[int | None, typer.Option(help="Evaluate this many pairs, evenly spaced.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Also write the result here.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Also write a self-contained report here.")
    ] = None,
    attention: Attention = None,
    draws: Draws = None,
    offset: Offset = None,
    record: Annotated[
        bool, typer.Option("--record", help="Write mode and numbers into the model's card, as validated.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Threads; 0 takes one a core.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    json_output: Json = False,
) -> None:
    """Measure a model on pairs; every number names its definition."""
    import json

    from pipeline.console import console, print_json, progress
    from pipeline.data.images import write_bytes
    from pipeline.data.paths import shown
    from pipeline.evaluation import evaluate as evaluation
    from pipeline.evaluation.validated import check_recordable, record_validation
    from pipeline.inference.modes import with_mode

    names = [name.strip() for name in baselines.split(",") if name.strip()]
    if record:
        check_recordable(model)
    denoiser, _ = with_mode(evaluation.load_denoiser(model, device), attention=attention, draws=draws, offset=offset)
    with progress() as bar:
        task = bar.add_task("evaluate", total=None)
        result = evaluation.evaluate(
            denoiser,
            data,
            layout=layout,
            baselines=names,
            limit=limit,
            workers=workers,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    result["model"] = model
    if record:
        record_validation(denoiser, result)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out, (json.dumps(result, indent=1) + "\n").encode())
    if report is not None:
        from pipeline.evaluation.pictures import pictures_of_pairs
        from pipeline.evaluation.report import command_line, write_report

        write_report(
            report,
            title=f"{model} on {data.name}",
            run=None,
            evaluation=result,
            pictures=pictures_of_pairs(denoiser, result),
            commands=[
                command_line(
                    "evaluate",
                    model=model,
                    data=data,
                    layout=None if layout == "auto" else layout,
                    baselines=baselines,
                    limit=limit,
                    attention=attention,
                    draws=draws,
                    offset=offset,
                )
            ],
        )
        console.print(f"report: {shown(report)}", markup=False, soft_wrap=True)
    for path in result["unpaired"]:
        console.print(f"no partner, left out: {shown(path)}", markup=False, style="yellow", soft_wrap=True)
    if json_output:
        print_json(result)
    else:
        _tell(result)


def _tell(result: dict[str, Any]) -> None:
    from rich.table import Table

    from pipeline.console import console
    from pipeline.evaluation.metrics import DEFINITIONS
    from pipeline.inference.modes import in_words

    table = Table(title=f"{result['n']} of {result['available']} pairs, layout {result['layout']}")
    table.add_column("")
    for name in DEFINITIONS:
        table.add_column(name, justify="right")
    rows = {"noisy input": result["noisy"], **result["baselines"], "ours": result}
    mended = result["mode"] is not None and result["mode"]["offset"] == "level"
    if result["visible_offsets"]:
        other, label = ("keep", "ours, offset kept") if mended else ("level", "ours with --offset level")
        rows[label] = result["by_offset"][other]
    for label, values in rows.items():
        cells = [_number(name, values[name]) for name in DEFINITIONS]
        table.add_row(label, *cells, style="bold" if label == "ours" else None)
    console.print(table)
    if result["visible_offsets"]:
        console.print(
            f"brightness or colour: visibly off in {result['visible_offsets']} of {result['n']} images"
            + (", mended" if mended else ""),
            markup=False,
            style="yellow",
        )
    if result["mode"] is not None:
        cost = f"{result['mode']['passes']} x the network, {result['seconds_per_megapixel']:.1f} s a megapixel"
        console.print(f"mode: {in_words(result['mode'])}; {cost}", style="dim", markup=False, soft_wrap=True)
    console.print(f"protocol: {result['protocol']}", style="dim", markup=False)


def _number(metric: str, value: float | None) -> str:
    if value is None:  # equal images: infinite decibels
        return "-"
    return f"{value:.2f} dB" if metric.startswith("psnr") else f"{value:.4f}"
