"""``unveil inspect``: what the files are, how much noise they hold, and which training that suggests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.commands.options import Json

_LISTED = 40


def inspect(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Pictures, or folders of them.")],
    limit: Annotated[int, typer.Option(help="Measure the noise of at most this many pictures, evenly spaced.")] = 40,
    json_output: Json = False,
) -> None:
    """Tell size, depth and format of each picture, estimate its noise, and suggest a training.

    Exit code 3: some files cannot be read, 1: none can.
    """
    from pipeline.console import print_json, progress
    from pipeline.data.folders import scan
    from pipeline.evaluation.survey import survey

    files = scan(paths)
    with progress() as bar:
        task = bar.add_task("inspect", total=len(files))
        result = survey(files, limit=limit, on_progress=lambda: bar.update(task, advance=1))
    if json_output:
        print_json(result)
    else:
        _tell(result)
    if result["failed"]:
        raise typer.Exit(1 if result["failed"] == len(files) else 3)


def _tell(result: dict[str, Any]) -> None:
    from collections import Counter

    from rich.table import Table
    from rich.text import Text

    from pipeline.console import console
    from pipeline.data.paths import shown

    kinds = Counter(
        f"{row['width']}x{row['height']}, {row['channels']} channel{'s' * (row['channels'] > 1)} "
        f"of {row['bits']} bits, {row['format']}"
        for row in result["files"]
        if not row["error"]
    )
    for kind, count in kinds.most_common(8):
        console.print(f"{count} x {kind}", markup=False)
    if len(kinds) > 8:
        console.print(f"and {len(kinds) - 8} other kinds")
    table = Table()
    table.add_column("file", overflow="fold")
    for column in ("size", "channels", "bits", "format"):
        table.add_column(column)
    table.add_column("noise sigma (of 255)", justify="right")
    for row in result["files"]:
        if row["noise"] is None and not row["error"] and len(result["files"]) > _LISTED:
            continue
        name = Text(shown(Path(row["path"]).name))
        if row["error"]:
            table.add_row(name, Text(row["error"].removeprefix(f"{row['path']}: "), style="red"))
            continue
        noise = row["noise"]
        sigma = " ".join(f"{value:.1f}" for value in noise["sigma"]) if noise else ""
        size = f"{row['width']}x{row['height']}"
        table.add_row(name, size, str(row["channels"]), str(row["bits"]), row["format"], sigma)
    console.print(table)
    pooled = result["pooled"]
    if pooled:
        console.print(
            f"{pooled['measured']} measured, {pooled['reliable']} with enough flat areas: median noise sigma "
            f"{pooled['sigma']:.1f} of 255, correlation of neighbouring pixels {pooled['correlation']:.2f}",
            soft_wrap=True,
        )
        console.print(
            f"suggested: method.pd_stride={pooled['pd_stride']}, mask ratio {pooled['mask_ratio']:.2f}",
            style="bold",
        )
