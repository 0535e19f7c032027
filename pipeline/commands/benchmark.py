"""``unveil benchmark``: submissions to SIDD and DND, checked before anyone uploads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.options import Attention, Device, Draws, Json, Model, Offset

if TYPE_CHECKING:
    from pipeline.inference.denoiser import Denoiser

benchmark_app = typer.Typer(help="Write submissions to public benchmarks, and check them.", no_args_is_help=True)

_Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the submission.")]
_About = Annotated[
    str | None, typer.Option(help="For the OptionalData of --old-server; the method is unveil.", show_default=False)
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is in --out already.")]


@benchmark_app.command()
def sidd(
    model: Model,
    data: Annotated[Path, typer.Option(metavar="FILE.mat", help="BenchmarkNoisyBlocksSrgb.mat, or its folder.")],
    out: _Out,
    old_server: Annotated[
        bool, typer.Option("--old-server", help="Also write SubmitSrgb.mat, as the server at York took it.")
    ] = False,
    method_name: _About = None,
    authors: _About = None,
    paper_title: _About = None,
    venue: _About = None,
    overwrite: _Overwrite = False,
    attention: Attention = None,
    draws: Draws = None,
    offset: Offset = None,
    device: Device = "auto",
    json_output: Json = False,
) -> None:
    """Denoise SIDD's benchmark blocks into SubmitSrgb.csv for Kaggle, read it again and check it."""
    from pipeline.benchmarks.sidd import check_free, open_benchmark, submit_sidd
    from pipeline.console import console, print_json, progress
    from pipeline.data.paths import shown
    from pipeline.errors import UserError

    about = {"MethodName": method_name, "Authors": authors, "PaperTitle": paper_title, "Venue": venue}
    told = {name: text for name, text in about.items() if text is not None}
    if told and not old_server:
        raise UserError("--method-name, --authors, --paper-title, --venue: only the file of --old-server says them")
    # Before the model is loaded: a mistake in the paths should not cost the wait.
    check_free(out, old_server=old_server, overwrite=overwrite)
    blocks = open_benchmark(data)
    denoiser = _denoiser(model, device, attention, draws, offset)
    with progress() as bar:
        task = bar.add_task("blocks", total=len(blocks))
        result = submit_sidd(
            denoiser,
            blocks,
            out,
            old_server=old_server,
            about=told,
            overwrite=overwrite,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    result["model"] = model
    if json_output:
        print_json(result)
        return
    for path in (result["csv"], result["mat"]):
        if path:
            console.print(
                f"{result['blocks']} blocks, read again and equal: {shown(path)}", markup=False, soft_wrap=True
            )
    console.print(f"{result['seconds_per_megapixel']:.2f} s a megapixel", style="dim", markup=False)
    if not result["complete"]:
        text = f"not the published 40x32 blocks of 256x256x3 but {result['shape']}: Kaggle will not take it"
        console.print(text, style="yellow", markup=False, soft_wrap=True)
    else:
        where = "kaggle.com/competitions/sidd-benchmark-srgb-psnr and sidd-benchmark-srgb-ssim take the same CSV"
        console.print(where, markup=False, soft_wrap=True)


@benchmark_app.command()
def dnd(
    model: Model,
    data: Annotated[Path, typer.Option(metavar="DIR", help="DND folder: info.mat and images_srgb/.")],
    out: _Out,
    overwrite: _Overwrite = False,
    attention: Attention = None,
    draws: Draws = None,
    offset: Offset = None,
    device: Device = "auto",
    json_output: Json = False,
) -> None:
    """Denoise DND's 1000 boxes into the 50 files of a submission, read them again and check them.

    Files that are there are left alone, so that a call that was stopped goes on where it was.

    Exit code 3: some images failed, 1: all failed.
    """
    from pipeline.benchmarks.dnd import open_dnd
    from pipeline.benchmarks.dnd_bundle import submit_dnd
    from pipeline.console import console, print_json, progress
    from pipeline.data.paths import shown

    opened = open_dnd(data)
    denoiser = _denoiser(model, device, attention, draws, offset)
    with progress() as bar:
        task = bar.add_task("boxes", total=sum(map(len, opened.boxes)))
        bundle = submit_dnd(
            denoiser,
            opened,
            out,
            overwrite=overwrite,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if json_output:
        print_json({**bundle.to_dict(), "model": model})
    else:
        lines = [*bundle.files.told(shown(out)), f"{bundle.checked} read again and as DND wants them"]
        if not bundle.files.count("failed"):
            lines.append("upload 0001.mat to 0050.mat at noise.visinf.tu-darmstadt.de (with an account)")
        for line in lines:
            console.print(line, markup=False, soft_wrap=True)
    raise typer.Exit(bundle.files.exit_code())


@benchmark_app.command()
def check(
    submission: Annotated[
        Path, typer.Argument(metavar="PATH", help="Folder of a submission, or a SubmitSrgb.csv or .mat.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="BenchmarkNoisyBlocksSrgb.mat or DND folder: sizes, order and noise are compared too."
        ),
    ] = None,
    json_output: Json = False,
) -> None:
    """Say whether the servers of SIDD and DND would take a submission, made by unveil or by anything else.

    Exit code 0: all of it, 1: something would be refused.
    """
    from pipeline.benchmarks.check import check_submission, made_by
    from pipeline.console import console, print_json, progress
    from pipeline.data.paths import shown

    with progress() as bar:
        task = bar.add_task("blocks and files", total=None)
        verdicts = check_submission(submission, data, on_progress=lambda: bar.update(task, advance=1))
    maker = made_by(submission if submission.is_dir() else submission.parent)
    if json_output:
        print_json({"submissions": [verdict.to_dict() for verdict in verdicts], "made_by": maker})
    else:
        for verdict in verdicts:
            good = not verdict.problems
            line = f"{shown(verdict.path)}: {verdict.kind}: {'would be taken' if good else 'would be refused'}"
            console.print(line, markup=False, style="green" if good else "red", soft_wrap=True)
            for text in (*verdict.problems, *(f"note: {text}" for text in verdict.warnings)):
                console.print(f"  {text}", markup=False, soft_wrap=True)
            if good:
                console.print(f"  {verdict.upload}", markup=False, style="dim", soft_wrap=True)
        if maker is not None and maker.get("weights_sha256"):
            console.print(f"made with weights {shown(str(maker['weights_sha256']))}", markup=False, style="dim")
    raise typer.Exit(1 if any(verdict.problems for verdict in verdicts) else 0)


def _denoiser(ref: str, device: str, attention: str | None, draws: int | None, offset: str | None) -> Denoiser:
    from pipeline.console import console
    from pipeline.data.allocator import keep_freed_memory
    from pipeline.inference.denoiser import load_denoiser
    from pipeline.inference.modes import with_mode

    keep_freed_memory()
    denoiser, warning = with_mode(load_denoiser(ref, device), attention=attention, draws=draws, offset=offset)
    if warning:
        console.print(f"note: {warning}", markup=False, style="yellow", soft_wrap=True)
    return denoiser
