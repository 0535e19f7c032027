"""``unveil synth``: pairs of noisy and clean pictures from clean ones, with a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.options import Json

if TYPE_CHECKING:
    from pipeline.data.folders import SourceFile
    from pipeline.data.synth_pairs import PairTask


def _print_recipes(wanted: bool) -> None:
    if not wanted:
        return
    from rich.console import Console
    from rich.table import Table

    from pipeline.data.synth_recipes import recipe_table

    table = Table("recipe", "what --level is", "default", "levels of the paper")
    for row in recipe_table():
        table.add_row(row["recipe"], row["level"], row["default"], row["paper"])
    # The table is the answer, so it goes to stdout.
    Console(highlight=False, markup=False).print(table)
    raise typer.Exit


def _print_recipes_if_asked(recipe: str) -> str:
    _print_recipes(recipe == "list")
    return recipe


def synth(
    source: Annotated[
        Path,
        typer.Argument(metavar="SRC", help="Clean pictures: a folder or one; monte_carlo: a folder of renderings."),
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Gets noisy/, clean/, manifest.json and contact_sheet.png.")
    ],
    seed: Annotated[int, typer.Option(help="Decides every random number.")],
    recipe: Annotated[
        str,
        typer.Option(
            help="Name of the noise (see --list), or a .json file with a recipe or an older manifest.",
            is_eager=True,
            callback=_print_recipes_if_asked,
        ),
    ] = "camera",
    level: Annotated[
        str | None, typer.Option(help="How much noise, x or lowest,highest, in the unit of the recipe (see --list).")
    ] = None,
    camera: Annotated[
        str | None, typer.Option(help="camera, isp: a sensor such as pixel or A7S2. eld: a camera such as D850.")
    ] = None,
    levels: Annotated[
        Path | None, typer.Option(help="camera, isp: noise levels of your own files, from inspect --save-levels.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any other key of the recipe: dotted.key=value, repeatable.")
    ] = None,
    format: Annotated[str, typer.Option(help="png, or dng (camera, isp, eld): the raws behind the pictures.")] = "png",
    workers: Annotated[
        int | None, typer.Option(help="Processes; the bytes do not depend on it. Default: up to one for each core.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many pictures, in order of name.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace pairs that exist.")] = False,
    _listed: Annotated[
        bool, typer.Option("--list", is_eager=True, callback=_print_recipes, help="Show all recipes and their levels.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Put noise on clean pictures. The same seed and the same file give the same bytes.

    Exit code 3: some files failed, 1: all failed.
    """
    from pipeline.console import console, print_json, progress
    from pipeline.data.paths import shown
    from pipeline.data.synth_files import find_clean, find_rendered, synthesise
    from pipeline.data.synth_recipes import make_recipe, parse_level

    made = make_recipe(recipe, level, camera=camera, levels=levels, settings=settings or [])
    tasks: list[SourceFile] | list[PairTask]
    if made.kind == "monte_carlo":
        samples = None if level is None else parse_level(level)
        tasks = find_rendered(source, out, limit, samples=samples, overwrite=overwrite)
    else:
        tasks = find_clean(source, out, limit, overwrite=overwrite)
    with progress() as bar:
        task = bar.add_task("synth", total=len(tasks))
        result = synthesise(
            tasks,
            out,
            made,
            seed,
            workers=_processes(len(tasks)) if workers is None else workers,
            format=format,
            on_progress=lambda: bar.update(task, advance=1),
        )
    if json_output:
        print_json(result)
    else:
        for row in result["failures"]:
            console.print(row["error"], markup=False, style="red", soft_wrap=True)
        mean = result["psnr_rgb_u8"]
        quality = "" if mean is None else f", mean PSNR {mean:.2f} dB (psnr_rgb_u8)"
        console.print(f"{result['ok']} pairs in {shown(out)}{quality}", markup=False, soft_wrap=True)
        if result["contact_sheet"]:
            console.print(f"a look at some: {shown(result['contact_sheet'])}", markup=False, soft_wrap=True)
    if result["failed"]:
        raise typer.Exit(3 if result["ok"] else 1)


def _processes(files: int) -> int:
    """A process takes seconds to start, so it should have some pictures to make."""
    import os

    return max(min(os.cpu_count() or 1, files // 8), 1)
