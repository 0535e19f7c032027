"""What is registered: every version with its aliases, its gate, and who overruled it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.registry.links import evaluations_of
from pipeline.registry.store import ALIAS_TAG, GATE_TAG
from pipeline.tracking import answering, connect


def list_models() -> list[dict[str, Any]]:
    """Return every registered version, newest first: model, version, aliases, gate, evaluations, run, creation time."""
    mlflow = connect()
    client = mlflow.MlflowClient()
    rows = []
    with answering(mlflow):
        for registered in _pages(client.search_registered_models):
            aliases: dict[str, list[str]] = {}
            for alias, version in registered.aliases.items():
                aliases.setdefault(str(version), []).append(alias)
            for found in _pages(client.search_model_versions, f"name='{registered.name}'"):
                rows.append(
                    {
                        "model": registered.name,
                        "version": int(found.version),
                        "aliases": sorted(aliases.get(str(found.version), [])),
                        "gate": found.tags.get(GATE_TAG),
                        "promoted": {
                            name.removeprefix(ALIAS_TAG): value
                            for name, value in found.tags.items()
                            if name.startswith(ALIAS_TAG)
                        },
                        "evaluations": evaluations_of(found.tags),
                        "run_id": found.run_id,
                        "created": found.creation_timestamp / 1000,
                    }
                )
    return sorted(rows, key=lambda row: (row["model"], -row["version"]))


def _pages(search: Any, *arguments: str) -> Iterator[Any]:
    token = None
    while True:
        page = search(*arguments, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
