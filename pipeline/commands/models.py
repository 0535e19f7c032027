"""`unveil models`: what is registered, what a model is, and where its files are."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.commands.models_export import export
from pipeline.commands.models_import import import_foreign
from pipeline.commands.models_promote import promote
from pipeline.commands.models_show import networks, show
from pipeline.commands.models_verify import verify
from pipeline.commands.options import Json
from pipeline.console import console, print_json

models_app = typer.Typer(
    help="List, show, register, promote, pull, verify and move trained models.", no_args_is_help=True
)

_Ref = Annotated[
    str, typer.Argument(help="Weights folder, run folder, models:/name@alias, models:/name/3, runs:/id or default.")
]


@models_app.command("list")
def list_registered(json_output: Json = False) -> None:
    """List the models that come with unveil, and the registered versions, newest first."""
    from pipeline.data.paths import shown
    from pipeline.errors import RunError
    from pipeline.inference.shipped import list_shipped
    from pipeline.registry.listing import list_models
    from pipeline.tracking import masked_uri

    shipped, rows, problem = list_shipped(), [], None
    named = "MLFLOW_TRACKING_URI" in os.environ  # MLflow sets it too, once it is asked
    try:
        if shipped and os.environ.get("UNVEIL_OFFLINE", "") not in ("", "0"):
            problem = "UNVEIL_OFFLINE is set, so the registry was not asked"
        else:
            rows = list_models()
    except RunError as error:
        if named or not shipped:
            raise  # who named a server wants its models
        problem = str(error)
    if json_output:
        registered = [{**row, "shipped": False, "default": False} for row in rows]
        print_json({"registry": masked_uri(), "models": [*registered, *shipped], "problem": problem})
        return
    _print(shipped, rows, "" if problem else masked_uri())
    if problem:
        console.print(f"note: {shown(problem)}", markup=False, style="yellow", soft_wrap=True)


def _print(shipped: list[dict[str, Any]], rows: list[dict[str, Any]], registry: str) -> None:
    """Print what comes with unveil as lines, and what is registered as a table; without one if no registry answers."""
    from pipeline.data.paths import shown

    for one in shipped:
        kind = "raw files" if one["domain"] == "raw" else "pictures"
        console.print(
            f"{one['model']}: comes with unveil, used for {kind} without --model; {one['network']}, "
            f"{one['parameters']:,} parameters",
            markup=False,
            soft_wrap=True,
        )
    if not registry:
        return
    from rich.table import Table
    from rich.text import Text

    table = Table("model", "version", "aliases", "gate", "created", "run", title=registry)
    for row in rows:
        created = datetime.fromtimestamp(row["created"], UTC).strftime("%Y-%m-%d %H:%M")
        # The word alone; `show` and --json have the reason.
        gate = re.split(r"[ :,]", shown(row["gate"] or "unknown"), maxsplit=1)[0]
        cells = (row["model"], str(row["version"]), ", ".join(row["aliases"]), gate, created, row["run_id"] or "")
        # Names and tags come from a server: nothing in them may restyle the terminal.
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)


models_app.command()(show)
models_app.command()(networks)


@models_app.command()
def register(
    ref: _Ref,
    name: Annotated[str, typer.Option("--name", help="Registered model to add a version to.")] = "unveil",
    alias: Annotated[
        str, typer.Option("--alias", help="Alias to move to the new version, if its gate lets it.")
    ] = "champion",
    licence: Annotated[
        str | None, typer.Option("--licence", help="Licence of the training data, for the card.", show_default=False)
    ] = None,
    json_output: Json = False,
) -> None:
    """Register a weights folder as a new version."""
    from pipeline.inference.denoiser import find_weights
    from pipeline.registry.promotion import not_promoted
    from pipeline.registry.store import register_weights

    folder = find_weights(ref)
    done = register_weights(folder, experiment="unveil", model=name, alias=alias, licence=licence)
    if json_output:
        print_json({"registered_model": name, "version": done.version, "alias": done.alias, "gate": done.gate})
        return
    console.print(f"registered  models:/{name}/{done.version}", markup=False)
    if done.alias:
        console.print(
            f"alias       models:/{name}@{alias} points at it now; gate: {done.gate}", markup=False, soft_wrap=True
        )
    else:
        console.print(f"note        {not_promoted(name, done, alias)}", markup=False, soft_wrap=True)


models_app.command()(promote)
models_app.command()(verify)


@models_app.command()
def pull(
    ref: _Ref,
    out: Annotated[
        Path | None, typer.Option("--out", help="New folder for the weights; without it they are kept for later use.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask the registry; take what was pulled before.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Fetch a model from the registry, every file checked by hash; from then on it works without the registry."""
    import shutil

    from pipeline.errors import UserError
    from pipeline.inference.denoiser import NetworkDenoiser, find_weights
    from pipeline.registry import pull as registry

    if out is not None and out.exists():
        raise UserError(f"--out {str(out)!r}: expected a folder that does not exist yet")
    note = None
    if ref.startswith(("models:/", "runs:/")):
        pulled = registry.pull(ref, offline=offline or None)
        folder, note = pulled.weights, pulled.note
    else:
        folder = find_weights(ref)
    NetworkDenoiser(folder, "cpu")
    if out is not None:
        shutil.copytree(folder, out)
        folder = out
    if json_output:
        print_json({"model": ref, "weights": str(folder.resolve()), "note": note})
        return
    if note:
        console.print(f"note: {note}", markup=False, style="yellow", soft_wrap=True)
    console.print(f"weights  {folder.resolve()}", markup=False, soft_wrap=True)


models_app.command("import")(import_foreign)
models_app.command()(export)
