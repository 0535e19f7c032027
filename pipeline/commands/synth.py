"""``unveil synth``: pairs of noisy and clean pictures from clean ones, with a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import Json


def synth(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of clean pictures, or one picture.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Gets noisy/, clean/ and manifest.json.")],
    seed: Annotated[int, typer.Option(help="Decides every random number.")],
    recipe: Annotated[str, typer.Option(help="gaussian or camera.")] = "camera",
    level: Annotated[
        str | None,
        typer.Option(help="gaussian: sigma in 1/255, e.g. 25 or 5,50. camera: shot noise, e.g. 0.01 or 0.0001,0.012."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many pictures, in order of name.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace pairs that exist.")] = False,
    json_output: Json = False,
) -> None:
    """Put noise on clean pictures. The same seed and the same file give the same bytes.

    Exit code 3: some files failed, 1: all failed.
    """
    from pipeline.console import console, print_json, progress
    from pipeline.data.paths import shown
    from pipeline.data.synth_files import find_clean, make_recipe, synthesise

    made = make_recipe(recipe, level)
    files = find_clean(source, out, limit, overwrite=overwrite)
    with progress() as bar:
        task = bar.add_task("synth", total=len(files))
        result = synthesise(files, out, made, seed, on_progress=lambda: bar.update(task, advance=1))
    if json_output:
        print_json(result)
    else:
        for row in result["failures"]:
            console.print(row["error"], markup=False, style="red", soft_wrap=True)
        console.print(f"{result['ok']} pairs in {shown(out)}", markup=False, soft_wrap=True)
    if result["failed"]:
        raise typer.Exit(3 if result["ok"] else 1)
