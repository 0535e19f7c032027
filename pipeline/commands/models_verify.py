"""`unveil models verify`: that a model is what was registered, and does here what it did there."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.commands.options import Json
from pipeline.console import console, print_json


def verify(
    ref: Annotated[
        str,
        typer.Argument(
            help="models:/name@alias, models:/name/3, runs:/id, a pulled weights folder, or a .zip of export."
        ),
    ],
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask the registry; verify what was pulled before.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Check every file by hash, the card and the requirements, and run the stored test picture through the network."""
    from pipeline.registry.verify import verify_model

    done = verify_model(ref, offline=offline)
    if json_output:
        print_json({"model": ref, "verified": True, "checks": [{"name": name, "found": found} for name, found in done]})
        return
    from rich.table import Table
    from rich.text import Text

    table = Table("checked", "found", title=Text(f"{ref}: verified"))
    for name, found in done:
        table.add_row(Text(name), Text(found))
    console.print(table)
