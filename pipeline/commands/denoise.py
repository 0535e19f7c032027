"""``unveil denoise``: files and folders in, denoised files out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from pipeline.commands.options import Attention, Draws, Json, Offset

if TYPE_CHECKING:
    from pipeline.data.depth import BitDepth
    from pipeline.inference.fit import FitOptions


def denoise(
    sources: Annotated[list[Path], typer.Argument(metavar="SRC...", help="Pictures, or folders of them.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write; the tree is mirrored there.")],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="REF",
            help="Weights folder, run folder, models:/name@alias, default or default-raw. Without it and --fit the "
            "models that come with unveil: default for pictures, default-raw for raw files that it can serve.",
            show_default=False,
        ),
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
    """Denoise pictures with the model that comes with unveil, or with yours; size, bit depth and metadata stay.

    No input is ever overwritten. Exit code 0: all done, 3: some files failed, 1: all failed, 130: stopped by Ctrl-C or
    SIGTERM, which leaves what is finished and nothing else.
    """
    from pipeline.commands.denoise_parts import announce, fallback_part, pictures_part, refuse_shared, split
    from pipeline.commands.denoise_raw import raw_part
    from pipeline.commands.denoise_run import dry_parts, run_parts
    from pipeline.commands.denoise_tiles import run_verify, tile_side
    from pipeline.console import console
    from pipeline.data.allocator import keep_freed_memory
    from pipeline.data.folders import scan
    from pipeline.data.images import DENOISED_SUFFIXES
    from pipeline.errors import UserError
    from pipeline.inference.denoiser import NetworkDenoiser
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
    keep_freed_memory()
    if fitting is not None:
        if spread.workers:
            raise UserError("--workers: expected with --model only; a fit uses all threads for one photo")
        from pipeline.commands.denoise_fit import run_dry_fit, run_fit

        plan_outputs(files, out, options)  # a mistake in the paths should not cost the wait
        run = run_dry_fit if dry_run else run_fit
        raise typer.Exit(run(files, out, replace(fitting, device=device), options, json_output=json_output))
    given = model is not None
    modes = {"attention": attention, "draws": draws, "offset": offset}
    parts = []
    for ref, some in [(model, files)] if model is not None else split(files):
        if not is_for_raw(ref):
            parts.append(pictures_part(some, ref, out, options, modes=modes, device=device, spread=spread, tile=side))
            continue
        if verify_tiles or (given and side is not None):
            raise UserError("--tile, --verify-tiles: expected a model for pictures, found one for raw files")
        # What is asked of the pictures beside them is no mistake; levels of raw files are kept in any case.
        own = {**modes, "offset": None} if not given and offset == "level" else modes
        developed = {"modes": modes, "device": device, "spread": spread, "tile": side}
        fallback = None if given else fallback_part(some, files, out, options, **developed)
        parts.append(raw_part(some, ref, out, options, modes=own, device=device, spread=spread, fallback=fallback))
    refuse_shared(parts)
    threads = choose_threads()
    announce(parts, given=given, json_output=json_output)
    if verify_tiles and isinstance(parts[0].denoiser, NetworkDenoiser):
        raise typer.Exit(run_verify(parts[0].denoiser, files, json_output=json_output))
    if dry_run:
        raise typer.Exit(dry_parts(parts, out, options, json_output=json_output))
    raise typer.Exit(run_parts(parts, out, threads=threads, given=given, json_output=json_output))


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

    if model is not None and fit:
        raise UserError("--model, --fit: expected one of the two, a model or a fit to each photo alone, found both")
    if not fit:
        for option, value in (("minutes", minutes), ("steps", steps), ("seed", seed)):
            if value is not None:
                raise UserError(f"--{option}: expected with --fit only, found it without")
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
