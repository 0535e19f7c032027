"""`unveil models`: what is registered, what a model is, and where its files are."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.models_export import export
from pipeline.commands.models_import import import_foreign
from pipeline.commands.models_show import networks, show
from pipeline.commands.options import Json
from pipeline.console import console, print_json

models_app = typer.Typer(help="List, show, register and pull trained models.", no_args_is_help=True)

_Ref = Annotated[
    str, typer.Argument(help="Weights folder, run folder, models:/name@alias, models:/name/3 or runs:/id.")
]


@models_app.command("list")
def list_registered(json_output: Json = False) -> None:
    """List the registered versions, newest first."""
    from pipeline.registry import list_models
    from pipeline.tracking import masked_uri

    rows = list_models()
    if json_output:
        print_json({"registry": masked_uri(), "models": rows})
        return
    from rich.table import Table

    table = Table("model", "version", "aliases", "created", "run", title=masked_uri())
    for row in rows:
        created = datetime.fromtimestamp(row["created"], UTC).strftime("%Y-%m-%d %H:%M")
        table.add_row(row["model"], str(row["version"]), ", ".join(row["aliases"]), created, row["run_id"])
    console.print(table)


models_app.command()(show)
models_app.command()(networks)


@models_app.command()
def register(
    ref: _Ref,
    name: Annotated[str, typer.Option("--name", help="Registered model to add a version to.")] = "unveil",
    alias: Annotated[str, typer.Option("--alias", help="Alias to move to the new version.")] = "champion",
    json_output: Json = False,
) -> None:
    """Register a weights folder as a new version."""
    from models import load
    from pipeline.inference.denoiser import find_weights
    from pipeline.registry import register_weights

    folder = find_weights(ref)
    version = register_weights(folder, experiment="unveil", model=name, alias=alias, card=load(folder).card)
    if json_output:
        print_json({"registered_model": name, "version": version, "alias": alias})
        return
    console.print(f"registered  models:/{name}@{alias} (version {version})", markup=False)


@models_app.command()
def promote(
    name: Annotated[str, typer.Argument(help="Registered model.")],
    version: Annotated[int, typer.Argument(help="Version to point the alias at.")],
    alias: Annotated[str, typer.Option("--alias", help="Alias to move.")] = "champion",
    json_output: Json = False,
) -> None:
    """Point an alias at a version."""
    from pipeline.registry import set_alias

    set_alias(name, version, alias)
    if json_output:
        print_json({"registered_model": name, "version": version, "alias": alias})
        return
    console.print(f"models:/{name}@{alias} is now version {version}", markup=False)


@models_app.command()
def pull(
    ref: _Ref,
    out: Annotated[Path, typer.Option("--out", help="New folder for the weights.")],
    json_output: Json = False,
) -> None:
    """Copy a model's weights folder out of the registry, checked by hash."""
    import shutil

    from models import load
    from pipeline.errors import UserError
    from pipeline.inference.denoiser import find_weights

    if out.exists():
        raise UserError(f"--out {str(out)!r}: expected a folder that does not exist yet")
    folder = find_weights(ref)
    load(folder)
    shutil.copytree(folder, out)
    if json_output:
        print_json({"model": ref, "weights": str(out.resolve())})
        return
    console.print(f"weights  {out.resolve()}", markup=False, soft_wrap=True)


models_app.command("import")(import_foreign)
models_app.command()(export)
