"""Child runs in MLflow that a driver left behind when it died."""

from __future__ import annotations

from collections.abc import Collection

from pipeline.tracking import connect


def sweep(parent: str, known: Collection[str]) -> None:
    """Close the known children that are still open, and delete those that nobody knows.

    A driver that dies between opening a run and writing down its id leaves one that no trial will ever find again;
    the trial opens another.

    Args:
        parent: run of the search.
        known: children that its trials have.
    """
    client = connect().MlflowClient()
    experiment = client.get_run(parent).info.experiment_id
    token = None
    found = []
    while token != "":
        page = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'", page_token=token)
        found += list(page)
        token = page.token or ""
    for run in found:
        if run.info.run_id not in known:
            client.delete_run(run.info.run_id)
        elif run.info.status == "RUNNING":
            client.set_terminated(run.info.run_id, "KILLED")
