"""`unveil models promote`: what others pull by an alias, and who decided it."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.commands.options import Json
from pipeline.console import console, print_json


def promote(
    name: Annotated[str, typer.Argument(help="Registered model.")],
    version: Annotated[int, typer.Argument(help="Version to point the alias at.")],
    alias: Annotated[str, typer.Option("--alias", help="Alias to move.")] = "champion",
    force: Annotated[bool, typer.Option("--force", help="Move it although the gate says no; needs --why.")] = False,
    why: Annotated[
        str | None, typer.Option("--why", help="Reason; kept in the registry with your name and the time.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Point an alias at a version whose gate lets it; what was decided is kept as a tag of the version."""
    import json

    from pipeline.errors import UserError
    from pipeline.inference.denoiser import NetworkDenoiser
    from pipeline.registry.promotion import record, verdict
    from pipeline.registry.pull import pull
    from pipeline.registry.store import alias_of, point_alias

    if force and not (why and why.strip()):
        raise UserError("--force: expected --why with the reason, which is kept in the registry, found none")
    reference = f"models:/{name}/{version}"
    pulled = pull(reference, offline=False)
    if pulled.note:
        raise UserError(f"promote: {pulled.note}; nothing was moved")
    found = verdict(NetworkDenoiser(pulled.weights, "cpu").card)
    if not found.passed and not force:
        raise UserError(
            f"{reference}: expected a gate that passed for @{alias}, found {found.text}; "
            "--force --why '...' moves it all the same, and is recorded"
        )
    before = alias_of(name, alias)
    facts = record(found, forced=not found.passed, why=(why or "").strip())
    point_alias(name, version, alias, facts)
    if json_output:
        done = {"registered_model": name, "version": version, "alias": alias, "before": before}
        print_json({**done, "record": json.loads(facts)})
        return
    was = f", was version {before}" if before not in (None, version) else ""
    console.print(f"models:/{name}@{alias} is now version {version}{was}", markup=False)
    told = "gate       " if found.passed else "forced past"
    console.print(f"{told} {found.text}", markup=False, soft_wrap=True)
