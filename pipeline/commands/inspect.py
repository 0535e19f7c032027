"""``unveil inspect``: what the files are, how much noise they hold, and which training that suggests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.options import Json

if TYPE_CHECKING:
    from pipeline.data.folders import SourceFile


def inspect(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Pictures and raw files, or folders of them.")],
    limit: Annotated[int, typer.Option(help="Measure the noise of at most this many files, evenly spaced.")] = 40,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the noise curves of the first nine measured files into this PNG.")
    ] = None,
    save_levels: Annotated[
        Path | None,
        typer.Option(help="Fit noise levels to the raw files of one camera and save them here, for synth --levels."),
    ] = None,
    flat_pair: Annotated[
        bool, typer.Option("--flat-pair", help="PATH... are two files of one even field (or four, six, ... files).")
    ] = False,
    json_output: Json = False,
) -> None:
    """Tell what each file is, measure its noise, and suggest a training.

    For each channel the noise line, variance = shot * level + read, with 95 % intervals: of a raw file in units of
    its range, black 0 and white 1. What the data cannot tell is left out, and the interval says how much it can be.
    Of a folder with noisy and clean images (a data set, by its file names) the noisy ones are measured.

    Exit code 3: some files cannot be read, 1: none can.
    """
    from pipeline.data.folders import scan
    from pipeline.errors import UserError

    if picture is not None and picture.suffix.lower() != ".png":
        raise UserError(f"--picture: expected a name ending in .png, found {picture.name!r}")
    if flat_pair:
        if save_levels is not None:
            raise UserError("--save-levels: expected without --flat-pair, found both")
        _flat_pair(paths, picture, json_output=json_output)
        return
    files = scan(paths)
    if all(path.is_dir() for path in paths):
        files = _noisy_side(files)
    _survey(files, limit, picture, save_levels, json_output=json_output)


def _noisy_side(files: list[SourceFile]) -> list[SourceFile]:
    """Leave the clean images of known trees out, as training does: they would spoil what is pooled."""
    from pipeline.console import console
    from pipeline.data.noisy_side import split_sides
    from pipeline.errors import UserError

    try:
        sides = split_sides(files)
    except UserError:
        # Training refuses a tree of clean images; whoever wants to look at one may.
        return files
    if sides.clean:
        console.print(f"{len(sides.clean)} clean images beside {len(sides.noisy)} noisy ones: left out")
    return sides.noisy


def _survey(
    files: list[SourceFile], limit: int, picture: Path | None, save_levels: Path | None, *, json_output: bool
) -> None:
    from pipeline.console import console, print_json, progress
    from pipeline.evaluation.survey import survey

    with progress() as bar:
        task = bar.add_task("inspect", total=len(files))
        result = survey(files, limit=limit, on_progress=lambda: bar.update(task, advance=1))
    if json_output:
        print_json(result)
    else:
        _tell(result)
    if picture is not None:
        _draw(result["files"], picture)
    if save_levels is not None:
        from pipeline.evaluation.save_levels import save_levels_of

        console.print(save_levels_of(result["files"], save_levels), soft_wrap=True, markup=False)
    if result["failed"]:
        raise typer.Exit(1 if result["failed"] == len(files) else 3)


def _flat_pair(paths: list[Path], picture: Path | None, *, json_output: bool) -> None:
    from pipeline.console import console, print_json
    from pipeline.evaluation.flat_pair import flat_pairs
    from pipeline.evaluation.survey_text import channel_lines

    result = flat_pairs(paths)
    if json_output:
        print_json(result)
    else:
        for line in (*channel_lines(result["noise"]), *(f"  note: {note}" for note in result["notes"])):
            console.print(line, markup=False)
    if picture is not None:
        _draw([result], picture)


def _draw(rows: list[dict[str, Any]], picture: Path) -> None:
    from pipeline.console import console
    from pipeline.data.paths import shown
    from pipeline.evaluation.noise_picture import draw_noise

    count = draw_noise(rows, picture)
    text = f"noise curves of {count} files: {shown(picture)}" if count else "no noise curve to draw"
    console.print(text, markup=False, soft_wrap=True)


def _tell(result: dict[str, Any]) -> None:
    from pipeline.console import console
    from pipeline.evaluation.survey_text import DETAILED, details, kinds, pooled_lines, reason, table_of_files

    rows = result["files"]
    if len(rows) <= DETAILED:
        for row in rows:
            if row["error"]:
                console.print(f"{Path(row['path']).name!r}: {reason(row)}", style="red", markup=False, soft_wrap=True)
            else:
                for line in details(row):
                    console.print(line, markup=False, soft_wrap=True)
    else:
        for line in kinds(rows):
            console.print(line, markup=False)
        console.print(table_of_files(rows))
    if result["pooled"]:
        *facts, suggestion = pooled_lines(result["pooled"])
        for line in facts:
            console.print(line, soft_wrap=True)
        console.print(suggestion, style="bold")
