"""Measure denoisers on sets of pictures, beside the noisy input and classical baselines, picture by picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pipeline
from pipeline.console import strict
from pipeline.evaluation.case_sets import data_set
from pipeline.evaluation.cases import CaseSet
from pipeline.evaluation.contenders import OURS, Contender, Model, contenders_of, described
from pipeline.evaluation.metrics import definitions, pick_metrics
from pipeline.evaluation.protocols import Protocol, pick_protocol
from pipeline.evaluation.score_cache import ScoreCache
from pipeline.evaluation.score_case import Crops, Scored
from pipeline.evaluation.scoring import Task, Work, score_here
from pipeline.evaluation.summary import seed_groups, set_hash, summarise_set
from pipeline.inference.denoiser import Denoiser, load_denoiser

FORMAT = 2
DEFAULT_BASELINES = ("nlm", "tv")

Progress = Callable[[int, int], None]


@dataclass(kw_only=True, slots=True)
class Evaluation:
    """What was found."""

    result: dict[str, Any]
    """As JSON holds it: see docs/evaluate.md."""

    crops: dict[tuple[str, str], Crops] = field(default_factory=dict)
    """(set, picture) -> windows of the pictures that were asked for."""

    measured: int = 0
    """Pictures on which somebody was measured now; the others were known."""


def evaluate(
    model: str | Denoiser,
    data: str | Path,
    *,
    layout: str = "auto",
    baselines: Sequence[str] = DEFAULT_BASELINES,
    limit: int | None = None,
    threads: int = 0,
    device: str = "auto",
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure one model on one folder, in this process; `measure_sets` with what most callers want.

    Args:
        model: a reference for `pipeline.inference.denoiser.load_denoiser`, or a denoiser; its label is ``ours``.
        data: folder; see `pipeline.evaluation.case_sets.data_set`.
        layout: as there.
        baselines: names of `pipeline.evaluation.baselines.BASELINES`.
        limit: evaluate this many pictures, evenly spaced over the sorted names; None takes all.
        threads: 0 takes one a core, at most 8.
        device: where the model runs, when ``model`` is a reference.
        on_progress: called as (done, total).

    Returns:
        ``result`` of `measure_sets`.

    Raises:
        UserError: no pictures, sizes that differ, a picture that cannot be read, or an unknown name.
    """
    one = data_set(Path(data), layout, limit)
    denoiser = load_denoiser(model, device) if isinstance(model, str) else model
    named = Model(label=OURS, denoiser=denoiser, ref=model if isinstance(model, str) else None)
    return measure_sets([named], [one], baselines=baselines, threads=threads, on_progress=on_progress).result


def measure_sets(
    models: Sequence[Model],
    sets: Sequence[CaseSet],
    *,
    protocol: Protocol | None = None,
    more_metrics: Sequence[str] = (),
    baselines: Sequence[str] = DEFAULT_BASELINES,
    cache: ScoreCache | None = None,
    threads: int = 0,
    workers: int | None = 0,
    device: str = "cpu",
    crops: Callable[[CaseSet], Sequence[int]] | None = None,
    on_read: Progress | None = None,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Measure any number of models on any number of sets.

    How the pictures are shared out changes nothing but the time: each is measured alone.

    Args:
        models: who, with different labels.
        sets: on what, with different names.
        protocol: whose numbers; None takes ours.
        more_metrics: names of metrics beside those of the protocol.
        baselines: names of `pipeline.evaluation.baselines.BASELINES`.
        cache: where scores are looked for and kept; None does neither.
        threads: in this process; 0 takes one a core, at most 8.
        workers: processes that Ray starts, or has on a cluster; 0 measures in this one; None takes what a cluster
            has, and this process where there is none.
        device: of the workers: ``cpu`` or ``cuda``.
        crops: called with a set; numbers of its pictures of which windows are wanted.
        on_read: called as (done, total) before anything is measured, while files are read to know which are new.
        on_progress: called as (done, total), in pictures.

    Raises:
        UserError: a picture cannot be read, is too small, or an unknown name. What was measured before is kept.
        RunError: a picture ends the processes that measure it.
    """
    protocol = protocol or pick_protocol("unveil")
    metrics = list(dict.fromkeys((*protocol.metrics, *pick_metrics(more_metrics))))
    contenders = contenders_of(models, baselines)
    identities = _identified(sets, on_read)
    board = _Board(sets, identities, contenders, metrics, cache)
    tasks = board.tasks(crops)
    denoisers = {model.label: model.denoiser for model in models}
    total = sum(len(one.cases) for one in sets)
    done = total - len(tasks)
    if on_progress is not None and done:
        on_progress(done, total)
    workers = workers if tasks else 0
    with _work(contenders, denoisers, metrics, threads=threads, workers=workers, device=device) as work:
        for task, scored in work(tasks):
            board.take(task, scored)
            done += 1
            if on_progress is not None:
                on_progress(done, total)
    summaries = [
        summarise_set(one, board.scored[at], contenders, metrics, set_hash([case.name for case in one.cases], known))
        for at, (one, known) in enumerate(zip(sets, identities, strict=True))
    ]
    result = {
        "format": FORMAT,
        "unveil": pipeline.__version__,
        "protocol": {"name": protocol.name, "text": protocol.text},
        "metrics": metrics,
        "definitions": definitions(metrics),
        "models": [described(model) for model in models],
        "baselines": [one.label for one in contenders if one.kind == "classical"],
        "sets": summaries,
        "groups": seed_groups(models, summaries),
    }
    return Evaluation(result=strict(result), crops=board.crops, measured=len(tasks))


def _identified(sets: Sequence[CaseSet], on_read: Progress | None) -> list[list[str]]:
    """Read every file once: of large sets this takes minutes."""
    total = sum(len(one.cases) for one in sets)
    found: list[list[str]] = []
    done = 0
    for one in sets:
        found.append([])
        for case in one.cases:
            found[-1].append(case.identity())
            done += 1
            if on_read is not None:
                on_read(done, total)
    return found


class _Board:
    """Scores as they come, from the cache and from work."""

    def __init__(
        self,
        sets: Sequence[CaseSet],
        identities: Sequence[Sequence[str]],
        contenders: Sequence[Contender],
        metrics: list[str],
        cache: ScoreCache | None,
    ) -> None:
        self._sets, self._identities, self._contenders = sets, identities, contenders
        self._metrics, self._cache = metrics, cache
        self.scored: list[list[Scored]] = [[Scored(facts={}) for _ in one.cases] for one in sets]
        self.crops: dict[tuple[str, str], Crops] = {}

    def tasks(self, crops: Callable[[CaseSet], Sequence[int]] | None) -> list[Task]:
        """Fill in what is known, and return what is left to do."""
        found = []
        for at, one in enumerate(self._sets):
            wanted = set(crops(one)) if crops is not None else set()
            for number, case in enumerate(one.cases):
                missing = self._contenders if number in wanted else self._unknown(at, number)
                if missing:
                    task = Task(at=(at, number), case=case, contenders=tuple(missing), crops=number in wanted)
                    found.append(task)
        return found

    def take(self, task: Task, scored: Scored) -> None:
        """Fill in what was measured, and keep it."""
        at, number = task.at
        mine = self.scored[at][number]
        mine.facts = scored.facts
        mine.rows |= scored.rows
        if scored.crops is not None:
            self.crops[self._sets[at].name, task.case.name] = scored.crops
        if self._cache is not None:
            for who in task.contenders:
                row = {**scored.rows[who.label], "facts": scored.facts}
                self._cache.keep(who, self._identities[at][number], row)

    def _unknown(self, at: int, number: int) -> list[Contender]:
        mine, missing = self.scored[at][number], []
        metrics = [] if self._sets[at].kind == "photos" else self._metrics
        for who in self._contenders:
            row = self._cache.find(who, self._identities[at][number], metrics) if self._cache is not None else None
            if row is None:
                missing.append(who)
            else:
                mine.facts = row["facts"]
                mine.rows[who.label] = {key: value for key, value in row.items() if key != "facts"}
        return missing


@contextmanager
def _work(
    contenders: Sequence[Contender],
    denoisers: dict[str, Denoiser],
    metrics: Sequence[str],
    *,
    threads: int,
    workers: int | None,
    device: str,
) -> Iterator[Work]:
    """Yield what measures: threads of this process, or workers of Ray, which is started and left."""
    from pipeline.cluster import embeds, start_ray, submitted

    if workers == 0 or (workers is None and embeds() and not submitted()):
        yield lambda tasks: score_here(tasks, denoisers, metrics, threads)
        return
    from pipeline.evaluation.ray_scoring import bundle, score_on_ray

    packed = bundle(contenders, metrics, device=device)
    started = start_ray(workers or 1)
    count = workers or max(1, int(started.gpus if device.startswith("cuda") else started.cpus))
    try:
        yield lambda tasks: score_on_ray(tasks, packed, count)
    finally:
        started.leave()
