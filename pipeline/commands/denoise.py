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
    from pipeline.inference.fit import FitOptions
    from pipeline.inference.outputs import OutputOptions
    from pipeline.inference.results import FilesSummary
    from pipeline.inference.spread import Spread


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
    tile: Annotated[
        str, typer.Option(metavar="auto|N", help="Side of the tiles of a large picture; auto fits the free memory.")
    ] = "auto",
    verify_tiles: Annotated[
        bool, typer.Option("--verify-tiles", help="Write nothing; compare tiles with one piece.")
    ] = False,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing",
            help="Go on where an earlier run stopped: skip outputs that this very source, model and options made, by "
            "the manifest in DIR, and that are whole; make others again, but leave alone what was not made here.",
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace outputs that exist, whoever made them; with --skip-existing all but those up to date. By "
            "default what exists is left alone.",
        ),
    ] = False,
    workers: Annotated[
        str,
        typer.Option(
            metavar="auto|N",
            help="Worker processes, through Ray; 0: this process alone. auto: workers on a cluster (RAY_ADDRESS, or a "
            "submitted job) for more than a handful of files, and on this machine for minutes of work.",
        ),
    ] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be read, written, skipped and refused; write nothing.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Denoise pictures with a model, or with --fit without one; size, bit depth and metadata stay.

    No input is ever overwritten. Exit code 0: all done, 3: some files failed, 1: all failed, 130: stopped by Ctrl-C or
    SIGTERM, which leaves what is finished and nothing else.
    """
    from pipeline.commands.denoise_tiles import run_verify, tile_side
    from pipeline.console import console, print_json, tell_lines
    from pipeline.data.allocator import keep_freed_memory
    from pipeline.data.folders import scan
    from pipeline.data.images import DENOISED_SUFFIXES
    from pipeline.data.paths import shown
    from pipeline.errors import UserError
    from pipeline.inference.denoiser import NetworkDenoiser, load_denoiser
    from pipeline.inference.modes import in_words, with_mode
    from pipeline.inference.outputs import OutputOptions, plan_outputs
    from pipeline.inference.raw_files import is_for_raw
    from pipeline.inference.spread import Spread, workers_of
    from pipeline.inference.threads import choose_threads

    side = tile_side(tile)
    if fit and (side is not None or verify_tiles):
        raise UserError("--tile, --verify-tiles: expected with --model only, found one of them with --fit")
    options = OutputOptions(
        suffix=suffix,
        format=format,
        overwrite=overwrite,
        skip_existing=skip_existing,
        bit_depth=cast("BitDepth | None", bit_depth),  # checked there
        strength=strength,
    )
    spread = Spread(workers=workers_of(workers), say=lambda line: console.print(line, markup=False, soft_wrap=True))
    fitting = _fit_options(
        model, fit=fit, minutes=minutes, steps=steps, seed=seed, attention=attention, draws=draws, offset=offset
    )
    files = scan(sources, exclude=_earlier_outputs(sources, out, suffix), suffixes=DENOISED_SUFFIXES)
    if model is not None and is_for_raw(model):
        from pipeline.commands.denoise_raw import run_raw

        if side is not None or verify_tiles:
            raise UserError("--tile, --verify-tiles: expected a model for pictures, found one for raw files")
        code = run_raw(
            files,
            model,
            out,
            options,
            attention=attention,
            draws=draws,
            offset=offset,
            device=device,
            spread=spread,
            dry_run=dry_run,
            json_output=json_output,
        )
        raise typer.Exit(code)
    # Before the model is loaded: a mistake in the paths should not cost the wait.
    outputs = plan_outputs(files, out, options)
    keep_freed_memory()
    if fitting is not None:
        if spread.workers:
            raise UserError("--workers: expected with --model only; a fit uses all threads for one photo")
        from pipeline.commands.denoise_fit import run_dry_fit, run_fit

        run = run_dry_fit if dry_run else run_fit
        raise typer.Exit(run(files, out, replace(fitting, device=device), options, json_output=json_output))
    assert model is not None  # _fit_options has seen to it
    denoiser, warning = with_mode(load_denoiser(model, device), attention=attention, draws=draws, offset=offset)
    threads = choose_threads()
    if isinstance(denoiser, NetworkDenoiser):
        denoiser.tile = side
        if verify_tiles:
            raise typer.Exit(run_verify(denoiser, files, json_output=json_output))
    if warning:
        console.print(f"note: {warning}", markup=False, style="yellow", soft_wrap=True)
    if dry_run:
        from pipeline.commands.denoise_plan import run_dry
        from pipeline.inference.dry_run import measured_speed
        from pipeline.inference.files import made_with

        speed = measured_speed(denoiser) if isinstance(denoiser, NetworkDenoiser) else None
        known = made_with(denoiser, options)
        raise typer.Exit(run_dry(files, outputs, out, options, known, speed, json_output=json_output))
    summary = _run(files, denoiser, out, options, spread)
    mode = denoiser.describe() if isinstance(denoiser, NetworkDenoiser) else None
    if json_output:
        tell_lines(summary.failures())
        print_json({**summary.to_dict(), "mode": mode, "threads": threads, "warning": warning})
    else:
        tell_lines(summary.told(shown(out)))
        if mode and mode["passes"] > 1:
            console.print(f"{in_words(mode)}: {mode['passes']} passes of the network", markup=False, soft_wrap=True)
    raise typer.Exit(summary.exit_code())


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


def _run(
    files: list[SourceFile], denoiser: Denoiser, out: Path, options: OutputOptions, spread: Spread
) -> FilesSummary:
    from pipeline.console import file_progress
    from pipeline.inference.files import denoise_files

    with file_progress("denoise", len(files)) as tell:
        return denoise_files(files, denoiser, out, options, spread=spread, on_progress=tell)
