"""``unveil denoise``: files and folders in, denoised files out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from pipeline.commands.options import Attention, Draws, Json, Offset

if TYPE_CHECKING:
    from pipeline.data.depth import BitDepth
    from pipeline.data.folders import SourceFile
    from pipeline.inference.denoiser import Denoiser
    from pipeline.inference.files import FilesSummary
    from pipeline.inference.fit import FitOptions
    from pipeline.inference.outputs import OutputOptions


def denoise(
    sources: Annotated[list[Path], typer.Argument(metavar="SRC...", help="Pictures, or folders of them.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write; the tree is mirrored there.")],
    model: Annotated[
        str | None, typer.Option(metavar="REF", help="Weights folder, run folder, or models:/name@alias.")
    ] = None,
    fit: Annotated[bool, typer.Option("--fit", help="No model: train a network on each photo alone.")] = False,
    minutes: Annotated[float | None, typer.Option(help="With --fit: time for each photo; by default by size.")] = None,
    steps: Annotated[
        int | None, typer.Option(help="With --fit: steps for each photo, instead of a time; repeatable to the byte.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="With --fit: decides everything random.")] = None,
    suffix: Annotated[str, typer.Option(help="Put between the stem and the suffix of every output.")] = "",
    format: Annotated[
        str | None,
        typer.Option(
            help="png, tiff, jpeg or exr; by default each file keeps its own. A model trained on raw writes dng unless "
            "told otherwise."
        ),
    ] = None,
    bit_depth: Annotated[
        str | None, typer.Option(metavar="8|16|float", help="Depth of the outputs; by default each file's own.")
    ] = None,
    strength: Annotated[
        float, typer.Option(help="Share of the denoised picture in the output, 0 to 1; the rest is the noisy one.")
    ] = 1.0,
    attention: Attention = None,
    draws: Draws = None,
    offset: Offset = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    json_output: Json = False,
) -> None:
    """Denoise pictures with a model, or with --fit without one; size, bit depth and metadata stay.

    No input is ever overwritten. Exit code 0: all done, 3: some files failed, 1: all failed.
    """
    from pipeline.console import console, print_json
    from pipeline.data.allocator import keep_freed_memory
    from pipeline.data.folders import scan
    from pipeline.data.images import DENOISED_SUFFIXES
    from pipeline.inference.denoiser import NetworkDenoiser, load_denoiser
    from pipeline.inference.modes import in_words, with_mode
    from pipeline.inference.outputs import OutputOptions, plan_outputs
    from pipeline.inference.raw_files import is_for_raw

    options = OutputOptions(
        suffix=suffix,
        format=format,
        overwrite=overwrite,
        bit_depth=cast("BitDepth | None", bit_depth),  # checked there
        strength=strength,
    )
    fitting = _fit_options(
        model, fit=fit, minutes=minutes, steps=steps, seed=seed, attention=attention, draws=draws, offset=offset
    )
    files = scan(sources, exclude=_earlier_outputs(sources, out, suffix), suffixes=DENOISED_SUFFIXES)
    if model is not None and is_for_raw(model):
        from pipeline.commands.denoise_raw import run_raw

        code = run_raw(
            files,
            model,
            out,
            options,
            attention=attention,
            draws=draws,
            offset=offset,
            device=device,
            json_output=json_output,
        )
        raise typer.Exit(code)
    # Before the model is loaded: a mistake in the paths should not cost the wait.
    plan_outputs(files, out, options)
    keep_freed_memory()
    if fitting is not None:
        from pipeline.commands.denoise_fit import run_fit

        raise typer.Exit(run_fit(files, out, replace(fitting, device=device), options, json_output=json_output))
    assert model is not None  # _fit_options has seen to it
    denoiser, warning = with_mode(load_denoiser(model, device), attention=attention, draws=draws, offset=offset)
    if warning:
        console.print(f"note: {warning}", markup=False, style="yellow", soft_wrap=True)
    summary = _run(files, denoiser, out, options)
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


def _fit_options(
    model: str | None,
    *,
    fit: bool,
    minutes: float | None,
    steps: int | None,
    seed: int | None,
    attention: str | None,
    draws: int | None,
    offset: str | None,
) -> FitOptions | None:
    """Check that the options go together; return those of the fit, or None with a model."""
    from pipeline.errors import UserError
    from pipeline.inference.fit import FitOptions

    if (model is None) != fit:
        raise UserError(
            "--model, --fit: expected one of the two, a model or a fit to each photo alone, found "
            + ("both" if fit else "neither")
        )
    if not fit:
        for option, value in (("minutes", minutes), ("steps", steps), ("seed", seed)):
            if value is not None:
                raise UserError(f"--{option}: expected with --fit only, found it with --model")
        return None
    if attention is not None:
        raise UserError("--attention: expected with --model only; the network of a fit has no attention masks")
    if minutes is not None and steps is not None:
        raise UserError("--minutes, --steps: expected one of the two, found both")
    for option, given, low, high in (
        ("minutes", minutes, 0.05, 1440),
        ("steps", steps, 1, 10_000_000),
        ("seed", seed, 0, 2**63 - 1),
        ("draws", draws, 1, 1024),
    ):
        if given is not None and not low <= given <= high:
            raise UserError(f"--{option}: expected {low:g} to {high:g}, found {given}")
    if offset not in (None, "keep", "level"):
        raise UserError(f"--offset: expected one of keep, level, found {offset!r}")
    correction: Literal["keep", "level"] = "level" if offset == "level" else "keep"
    return FitOptions(minutes=minutes, steps=steps, draws=draws, offset=correction, seed=seed or 0)


def _earlier_outputs(sources: list[Path], out: Path, suffix: str) -> list[str | Path]:
    """Say what a scan must leave out, so that a second run leaves the first one's results."""
    import glob

    if not any(source.resolve().is_relative_to(out.resolve()) for source in sources):
        return [out]
    return [f"*{glob.escape(suffix)}.*"] if suffix else []


def _run(files: list[SourceFile], denoiser: Denoiser, out: Path, options: OutputOptions) -> FilesSummary:
    from pipeline.console import file_progress
    from pipeline.inference.files import denoise_files

    with file_progress("denoise", len(files)) as tell:
        return denoise_files(files, denoiser, out, options, on_progress=tell)


def _tell(summary: FilesSummary, out: Path) -> None:
    from pipeline.console import console
    from pipeline.data.paths import shown

    for line in summary.told(shown(out)):
        console.print(line, markup=False, soft_wrap=True)
