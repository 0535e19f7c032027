"""``unveil denoise``: files and folders in, denoised files out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.options import Attention, Draws, Json, Offset

if TYPE_CHECKING:
    from pipeline.data.folders import SourceFile
    from pipeline.inference.denoiser import Denoiser
    from pipeline.inference.files import FilesSummary


def denoise(
    sources: Annotated[list[Path], typer.Argument(metavar="SRC...", help="Pictures, or folders of them.")],
    model: Annotated[str, typer.Option(metavar="REF", help="Weights folder, run folder, or models:/name@alias.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write; the tree is mirrored there.")],
    suffix: Annotated[str, typer.Option(help="Put between the stem and the suffix of every output.")] = "",
    format: Annotated[str | None, typer.Option(help="png, tiff or jpeg; by default each file keeps its own.")] = None,
    attention: Attention = None,
    draws: Draws = None,
    offset: Offset = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    json_output: Json = False,
) -> None:
    """Denoise pictures; size, bit depth and metadata stay, and no input is ever overwritten.

    Exit code 0: all done, 3: some files failed, 1: all failed.
    """
    from pipeline.console import console, print_json
    from pipeline.data.allocator import keep_freed_memory
    from pipeline.data.folders import scan
    from pipeline.inference.denoiser import NetworkDenoiser, load_denoiser
    from pipeline.inference.files import plan_outputs
    from pipeline.inference.modes import in_words, with_mode

    files = scan(sources, exclude=_earlier_outputs(sources, out, suffix))
    # Before the model is loaded: a mistake in the paths should not cost the wait.
    plan_outputs(files, out, suffix=suffix, format=format)
    keep_freed_memory()
    denoiser, warning = with_mode(load_denoiser(model, device), attention=attention, draws=draws, offset=offset)
    if warning:
        console.print(f"note: {warning}", markup=False, style="yellow", soft_wrap=True)
    summary = _run(files, denoiser, out, suffix=suffix, format=format, overwrite=overwrite)
    mode = denoiser.describe() if isinstance(denoiser, NetworkDenoiser) else None
    if json_output:
        print_json({**summary.to_dict(), "mode": mode, "warning": warning})
    else:
        _tell(summary, out)
        if mode and mode["passes"] > 1:
            console.print(f"{in_words(mode)}: {mode['passes']} passes of the network", markup=False, soft_wrap=True)
    failed = summary.count("failed")
    if failed:
        raise typer.Exit(1 if failed == len(summary.files) else 3)


def _earlier_outputs(sources: list[Path], out: Path, suffix: str) -> list[str | Path]:
    """Say what a scan must leave out, so that a second run leaves the first one's results."""
    import glob

    if not any(source.resolve().is_relative_to(out.resolve()) for source in sources):
        return [out]
    return [f"*{glob.escape(suffix)}.*"] if suffix else []


def _run(
    files: list[SourceFile],
    denoiser: Denoiser,
    out: Path,
    *,
    suffix: str,
    format: str | None,
    overwrite: bool,
) -> FilesSummary:
    from pipeline.console import console, progress
    from pipeline.data.paths import shown
    from pipeline.inference.files import FileResult, denoise_files

    with progress() as bar:
        task = bar.add_task("denoise", total=len(files))

        def tell(result: FileResult) -> None:
            if result.status == "failed":
                console.print(f"failed: {result.error}", markup=False, style="red", soft_wrap=True)
            bar.update(task, advance=1, description=f"denoise {shown(Path(result.source).name)}")

        return denoise_files(files, denoiser, out, suffix=suffix, format=format, overwrite=overwrite, on_progress=tell)


def _tell(summary: FilesSummary, out: Path) -> None:
    from pipeline.console import console
    from pipeline.data.paths import shown

    for line in summary.told(shown(out)):
        console.print(line, markup=False, soft_wrap=True)
