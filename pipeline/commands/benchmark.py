"""``unveil benchmark``: submissions to SIDD and DND, checked before anyone uploads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.options import Attention, Draws, Json, Offset

if TYPE_CHECKING:
    from pipeline.inference.denoiser import Denoiser

benchmark_app = typer.Typer(help="Write submissions to public benchmarks, and check them.", no_args_is_help=True)

_Model = Annotated[str, typer.Option(metavar="REF", help="Weights folder, run folder, or models:/name@alias.")]
_Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the submission.")]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is in --out already.")]
_Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]


@benchmark_app.command()
def sidd(
    model: _Model,
    data: Annotated[Path, typer.Option(metavar="FILE.mat", help="BenchmarkNoisyBlocksSrgb.mat, or its folder.")],
    out: _Out,
    old_server: Annotated[
        bool, typer.Option("--old-server", help="Also write SubmitSrgb.mat, as the server at York took it.")
    ] = False,
    overwrite: _Overwrite = False,
    attention: Attention = None,
    draws: Draws = None,
    offset: Offset = None,
    device: _Device = "auto",
    json_output: Json = False,
) -> None:
    """Denoise SIDD's benchmark blocks into SubmitSrgb.csv for Kaggle, read it again and check it."""
    from pipeline.benchmarks.sidd import check_free, open_benchmark, submit_sidd
    from pipeline.console import console, print_json, progress
    from pipeline.data.paths import shown

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
    model: _Model,
    data: Annotated[Path, typer.Option(metavar="DIR", help="DND folder: info.mat and images_srgb/.")],
    out: _Out,
    overwrite: _Overwrite = False,
    attention: Attention = None,
    draws: Draws = None,
    offset: Offset = None,
    device: _Device = "auto",
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
    from pipeline.inference.results import FileResult

    opened = open_dnd(data)
    denoiser = _denoiser(model, device, attention, draws, offset)
    with progress() as bar:
        task = bar.add_task("boxes", total=sum(map(len, opened.boxes)))

        def tell(file: FileResult) -> None:
            if file.status == "failed":
                console.print(f"failed: {file.error}", markup=False, style="red", soft_wrap=True)

        result = submit_dnd(
            denoiser,
            opened,
            out,
            overwrite=overwrite,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
            on_file=tell,
        )
    result["model"] = model
    if json_output:
        print_json(result)
    else:
        _tell_dnd(result, shown(out))
    if result["failed"]:
        raise typer.Exit(1 if result["failed"] == len(result["files"]) else 3)


def _tell_dnd(result: dict[str, Any], out: str) -> None:
    from pipeline.console import console

    there = f", {result['skipped']} there already and left alone" if result["skipped"] else ""
    failed = f", {result['failed']} failed" if result["failed"] else ""
    files = "1 file" if result["ok"] == 1 else f"{result['ok']} files"
    checked = f"{result['checked']} read again and as DND wants them"
    lines = [f"{files} written to {out}{there}{failed}; {checked}"]
    if result["complete"]:
        lines.append("upload 0001.mat to 0050.mat at noise.visinf.tu-darmstadt.de (with an account)")
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


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
