"""``unveil analyze``: how a model's features change when the noise does, in numbers and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import Attention, Draws, Json


def analyze(
    model: Annotated[
        list[str],
        typer.Option(metavar="REF", help="Weights folder, run folder, models:/name@alias or default; repeatable."),
    ],
    clean: Annotated[Path, typer.Option(metavar="DIR", help="Folder of clean pictures.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Gets analysis.json and figures.")],
    noise: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RECIPE[:LEVEL]",
            help="Noise to compare with the reference (see synth --list); repeatable. By default speckle:0.03, "
            "spatial:55, poisson:3 and mixture:3.",
            show_default=False,
        ),
    ] = None,
    reference: Annotated[
        str, typer.Option(metavar="RECIPE[:LEVEL]", help="The noise the models were trained on.")
    ] = "gaussian:15",
    patches: Annotated[int, typer.Option(help="How many; the paper's measure wants at least 300.")] = 300,
    patch: Annotated[int, typer.Option(help="Side of the patches in pixels.")] = 128,
    seed: Annotated[int, typer.Option(help="Decides places and noise.")] = 0,
    attention: Attention = None,
    draws: Draws = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an analysis that is there.")] = False,
    json_output: Json = False,
) -> None:
    """Compare what networks see under the noise they were trained on and under other noise.

    CKA of all layers between noises and between models, SRGA and histograms of the deepest features.
    """
    from pipeline.console import console, print_json, progress
    from pipeline.data.paths import shown
    from pipeline.errors import UserError
    from pipeline.evaluation.analysis import NOISES, analyze
    from pipeline.evaluation.analysis_files import check_out, write_analysis
    from pipeline.evaluation.analysis_patches import read_noises
    from pipeline.evaluation.analysis_subject import load_subjects

    check_out(out, clean, overwrite=overwrite)
    noises = read_noises(noise or NOISES)
    expected, *more = read_noises([reference], "--reference")
    if more:
        raise UserError(f"--reference: expected one noise, found {reference!r}")
    subjects = load_subjects(model, device=device, attention=attention, draws=draws)
    with progress() as bar:
        task = bar.add_task("analyze", total=None)
        result = analyze(
            subjects,
            clean,
            reference=expected,
            noises=noises,
            patches=patches,
            side=patch,
            seed=seed,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    files = write_analysis(result, out)
    if json_output:
        print_json({**result, "files": [str(path) for path in files]})
        return
    for line in (*result["conclusion"], *result["protocol"]["notes"]):
        console.print(line, markup=False, soft_wrap=True)
    for path in files:
        console.print(shown(path), markup=False, style="dim", soft_wrap=True)
