"""An evaluation as one MLflow run: parameters, metrics by data set, tables, report, and links to what it measured.

Metrics are also kept with the logged model that they were measured on, and headline numbers in the tags of its
registered version, so that whoever looks at a model finds what it was evaluated on.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from pipeline.console import strict
from pipeline.data.paths import shown
from pipeline.errors import RunError
from pipeline.evaluation.evaluation_tables import image_table, paired_table, summary_table, summary_text
from pipeline.evaluation.evaluation_values import legal_names, mean_of, named_values, parameters_of, title_of
from pipeline.registry.links import Link, find_link, tag_version
from pipeline.tracking import answering, connect, experiment_id, masked_uri, one_line, tracking_uri

_BATCH: Final = 500


def track_evaluation(
    evaluation: Mapping[str, Any],
    *,
    experiment: str = "unveil-evaluations",
    report: Path | None = None,
    pictures: Sequence[Path] = (),
    models: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Write an evaluation to MLflow.

    Args:
        evaluation: what `unveil evaluate` made; not changed.
        experiment: the MLflow experiment; made if there is none.
        report: HTML file to keep with it.
        pictures: files to keep with it.
        models: (label in the evaluation, reference) of each model; references to the registry and to run folders are
            linked.

    Returns:
        ``run_id``, ``experiment``, ``url`` of the run (None without a server), ``store``, ``metrics`` (how many),
        ``linked`` (for each model what MLflow knows of it) and ``notes`` (what could not be linked, one line each).

    Raises:
        RunError: MLflow does not answer; a run that was begun is marked as failed.
    """
    mlflow = connect()
    client = mlflow.MlflowClient()
    with _sending(mlflow):
        experiment_key = experiment_id(mlflow, experiment)
        links, notes = _links(models)
        absent = [path for path in (report, *pictures) if path is not None and not path.is_file()]
        notes += [f"{shown(path)}: not there, left out" for path in absent]
        run = client.create_run(experiment_key, run_name=title_of(evaluation), tags=_tags(evaluation))
    run_id = str(run.info.run_id)
    try:
        with _sending(mlflow):
            count = _send_numbers(mlflow, client, run_id, evaluation, links)
            _send_tables(client, run_id, evaluation)
            _send_files(client, run_id, report, pictures)
            _tag_versions(evaluation, links, run_id)
            client.set_terminated(run_id, "FINISHED")
    except BaseException:
        with contextlib.suppress(Exception):
            client.set_terminated(run_id, "FAILED")
        raise
    return {
        "run_id": run_id,
        "experiment": experiment,
        "url": run_url(experiment_key, run_id),
        "store": masked_uri(),
        "metrics": count,
        "linked": [
            {name: getattr(link, name) for name in ("label", "ref", "model_id", "name", "version", "run_id")}
            for link in links
        ],
        "notes": notes,
    }


def run_url(experiment: str, run_id: str) -> str | None:
    """Return the page of a run on the MLflow server, without a password; None where there is no server."""
    parts = urlsplit(tracking_uri())
    if parts.scheme not in ("http", "https"):
        return None
    host = parts.netloc.rpartition("@")[2]
    path = parts.path.rstrip("/") + "/"
    return urlunsplit((parts.scheme, host, path, "", f"/experiments/{experiment}/runs/{run_id}"))


def _links(models: Sequence[tuple[str, str]]) -> tuple[list[Link], list[str]]:
    """A model that cannot be found any more costs its link, not the evaluation."""
    links, notes = [], []
    for label, ref in models:
        try:
            links.append(find_link(label, ref))
        except RunError as error:
            links.append(Link(label=label, ref=ref))
            notes.append(f"{shown(ref)} is not linked: {error}")
    return links, notes


def _send_numbers(mlflow: Any, client: Any, run_id: str, evaluation: Mapping[str, Any], links: Sequence[Link]) -> int:
    entities = mlflow.entities
    parameters = parameters_of(evaluation, links)
    for part in _batches([entities.Param(name, str(value)[:6000]) for name, value in parameters.items()], 100):
        client.log_batch(run_id, params=part)
    datasets = {one["name"]: _dataset(entities, one) for one in evaluation["sets"]}
    models = [entities.LoggedModelInput(link.model_id) for link in _once(links)]
    for chunk in _batches(list(datasets.values()), 100):
        client.log_inputs(run_id, datasets=[entities.DatasetInput(each, [_context(entities)]) for each in chunk])
    if models:
        client.log_inputs(run_id, models=models)
    now = int(1000 * time.time())
    of_model = {link.label: link.model_id for link in links}
    metrics = [
        entities.Metric(
            name,
            value,
            now,
            0,
            model_id=of_model.get(method),
            dataset_name=datasets[data_set].name,
            dataset_digest=datasets[data_set].digest,
            run_id=run_id,
        )
        for name, value, data_set, method in named_values(evaluation)
    ]
    for part in _batches(metrics, _BATCH):
        client.log_batch(run_id, metrics=part)
    return len(metrics)


def _dataset(entities: Any, one: Mapping[str, Any]) -> Any:
    facts = {"kind": one["kind"], "pictures": one["n"], "of": one["available"], "noise": one.get("noise")}
    return entities.Dataset(
        name=one["name"][:500],
        digest=str(one["hash"])[:36],
        source_type="local",
        source=json.dumps({"uri": str(one["data"])}),
        profile=json.dumps(facts),
    )


def _context(entities: Any) -> Any:
    return entities.InputTag("mlflow.data.context", "evaluation")


def _send_tables(client: Any, run_id: str, evaluation: Mapping[str, Any]) -> None:
    client.log_dict(run_id, strict(dict(evaluation)), "evaluation.json")
    client.log_table(run_id, summary_table(evaluation), "tables/summary.json")
    if paired := paired_table(evaluation):
        client.log_table(run_id, paired, "tables/paired.json")
    sets = legal_names(one["name"] for one in evaluation["sets"])
    for one in evaluation["sets"]:
        if one["images"]:
            client.log_table(run_id, image_table(one), f"tables/images/{sets[one['name']]}.json")


def _send_files(client: Any, run_id: str, report: Path | None, pictures: Sequence[Path]) -> None:
    if report is not None and report.is_file():
        client.log_artifact(run_id, str(report), "report")
    pictures = [path for path in pictures if path.is_file()]
    count = Counter(path.name for path in pictures)
    for index, path in enumerate(pictures):
        # Two of one name would overwrite each other.
        client.log_artifact(run_id, str(path), "pictures" if count[path.name] == 1 else f"pictures/{index}")


def _tag_versions(evaluation: Mapping[str, Any], links: Sequence[Link], run_id: str) -> None:
    headline = next(iter(evaluation["metrics"]), None)
    hashes = {model["label"]: model.get("sha256") for model in evaluation["models"]}
    sets = legal_names(one["name"] for one in evaluation["sets"])
    for one in evaluation["sets"]:
        for link in links:
            if link.label not in one["methods"]:
                continue
            # The number first: MLflow's page shows the beginning of a tag.
            facts = {
                "metric": headline,
                "value": mean_of(one, link.label, headline),
                "noisy": mean_of(one, "noisy", headline),
                "n": one["n"],
                "protocol": evaluation["protocol"]["name"],
                "run_id": run_id,
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "weights_sha256": hashes.get(link.label),
            }
            tag_version(link, sets[one["name"]], facts)


def _tags(evaluation: Mapping[str, Any]) -> dict[str, str]:
    return {"unveil.kind": "evaluation", "mlflow.note.content": summary_text(evaluation)}


def _once(links: Sequence[Link]) -> list[Link]:
    return list({link.model_id: link for link in links if link.model_id is not None}.values())


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


@contextlib.contextmanager
def _sending(mlflow: Any) -> Iterator[None]:
    """Turn what MLflow, its database or its way to the files raise into one line."""
    try:
        with answering(mlflow):
            yield
    except RunError as error:
        raise RunError(f"--track: {error}") from error
    except OSError as error:
        raise RunError(f"--track: {masked_uri()} does not answer: {one_line(error)}") from error
