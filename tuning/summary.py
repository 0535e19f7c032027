"""What a search found: all trials with their scores, the leaders over several seeds, and the best."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pipeline.training.history import read_history
from tuning.objective import rungs
from tuning.pareto import front
from tuning.space import SEED, overrides, own_point, trial_key

if TYPE_CHECKING:
    from pipeline.schema import TrainConfig
    from tuning.plan import Plan
    from tuning.score import Score

IDLE: Final = 12**-0.5
"""A network that changes less than this, in 1/255 (root mean square), does less than rounding to 8 bits would."""

_BEST_KEYS = ("key", "overrides", "score", "state")


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One trial and how far it got."""

    key: str
    number: int
    overrides: dict[str, Any]
    """Without the seed."""

    seed: int
    """It was trained with."""

    state: Literal["finished", "stopped", "failed"]
    """`stopped` trials fell behind at a rung; their scores are those of a shorter training."""

    score: float | None
    """At the last rung it reached."""

    scores: dict[str, float]
    """All that it was judged by, there."""

    parts: dict[str, float]
    """What the score is the mean of, where that has names."""

    rung: int
    step: int
    seconds: float
    """Of training, without judging and without waiting for a process."""

    judging: float
    """Seconds of judging."""

    preset: bool
    """Whether it is the base configuration itself."""

    error: str | None
    history: list[dict[str, Any]]
    effect: float | None = None
    """Root mean square of what the network itself changes in noisy crops, in 1/255; None before the end."""

    @property
    def idle(self) -> bool:
        """Whether the network does nothing, so that only the masks' fill was judged, as after too high a rate."""
        return self.effect is not None and self.effect < IDLE


@dataclass(frozen=True, kw_only=True, slots=True)
class Leader:
    """A trial that was trained to the end with more than one seed."""

    key: str
    number: int
    overrides: dict[str, Any]
    preset: bool
    scores: dict[str, float]
    """Score at the end, by seed."""

    mean: float
    sd: float
    """Standard deviation over the seeds, with n - 1."""

    n: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The result of a search; the JSON of `unveil tune --json`."""

    out: str
    best: Trial | None
    score_name: str
    score_mode: str
    score_definition: str
    rungs: int
    trials: list[Trial]
    """Those of the search, without the repetitions."""

    failed: int
    best_config: str | None
    mlflow_run_id: str
    seconds: float
    objectives: list[dict[str, str]] = field(default_factory=list)
    """Name, mode and definition of each score."""

    leaders: list[Leader] = field(default_factory=list)
    """Best first, by the mean."""

    repeats: list[Trial] = field(default_factory=list)
    """Leaders with other seeds."""

    pareto: list[str] = field(default_factory=list)
    """Keys of the finished trials that no other one beats in every objective, where there are several."""

    conclusion: list[str] = field(default_factory=list)
    """Sentences."""

    importance: dict[str, Any] = field(default_factory=dict)
    """What explains the scores; see `tuning.importance`."""

    population: dict[str, Any] = field(default_factory=dict)
    """Members by interval and the schedule of the best one, where settings changed on the way."""

    def as_json(self) -> dict[str, Any]:
        """Return the object that scripts read, without the trials' histories."""
        value = asdict(self)
        for trial in (*value["trials"], *value["repeats"]):
            del trial["history"]
        value["best"] = {name: value["best"][name] for name in _BEST_KEYS} if self.best else None
        return value


def summarize(out: Path, plan: Plan, scores: Sequence[Score], failed: dict[str, str], *, run_id: str) -> Summary:
    """Read the trials' folders; the best is the best of those that were trained longest and did not fail.

    That is to the end, unless the trial that the others were stopped for failed afterwards. Where leaders were trained
    with several seeds, it is the leader with the best mean.
    """
    from tuning.runs import known_trials

    config, score = plan.base(), scores[0]
    own = trial_key({} if plan.ablation else overrides(config, own_point(config, plan.search)))
    count = rungs(config)
    read = [
        read_trial(out, key, known, failed.get(key), config, own, count) for key, known in known_trials(out).items()
    ]
    read.sort(key=lambda trial: (trial.number, trial.seed))
    trials = [trial for trial in read if trial.seed == config.seed]
    repeats = [trial for trial in read if trial.seed != config.seed]
    leaders = find_leaders(trials, repeats, score.mode)
    best = next((trial for trial in ranked(trials, score.mode) if trial.state != "failed" and trial.rung), None)
    if leaders:
        best = next(trial for trial in trials if trial.key == leaders[0].key)
    return assemble(out, scores, count, trials, repeats, leaders, best, run_id)


def assemble(
    out: Path,
    scores: Sequence[Score],
    count: int,
    trials: list[Trial],
    repeats: list[Trial],
    leaders: list[Leader],
    best: Trial | None,
    run_id: str,
) -> Summary:
    """Return the summary of trials that were counted in `count` parts."""
    score = scores[0]
    return Summary(
        out=str(out),
        best=best,
        score_name=score.name,
        score_mode=score.mode,
        score_definition=score.definition,
        rungs=count,
        trials=trials,
        failed=sum(trial.state == "failed" for trial in (*trials, *repeats)),
        best_config=str(out / "best.toml") if best else None,
        mlflow_run_id=run_id,
        seconds=0.0,
        objectives=[{"name": one.name, "mode": one.mode, "definition": one.definition} for one in scores],
        leaders=leaders,
        repeats=repeats,
        pareto=_front(trials, scores),
    )


def read_trial(
    out: Path, key: str, known: Mapping[str, Any], failed: str | None, config: TrainConfig, own: str, count: int
) -> Trial:
    """Return what the folder of a trial holds; `own` is the key of the configuration itself."""
    rows = read_history(out / "trials" / key)
    last: dict[str, Any] = rows[-1] if rows else {"rung": 0, "score": None, "step": 0, "seconds": 0.0}
    finished = last["rung"] >= count
    return Trial(
        key=key,
        number=known["number"],
        overrides={name: value for name, value in known["overrides"].items() if name != SEED},
        seed=known["overrides"].get(SEED, config.seed),
        state="finished" if finished else "failed" if failed is not None else "stopped",
        score=last["score"],
        scores=last.get("scores") or {},
        parts=last.get("parts") or {},
        rung=last["rung"],
        step=last["step"],
        seconds=round(last["seconds"], 3),
        judging=round(sum(row.get("judging", 0.0) for row in rows), 3),
        preset=key == own,
        error=None if finished else failed,
        history=rows,
        effect=last.get("effect"),
    )


def ranked(trials: Sequence[Trial], mode: str) -> list[Trial]:
    """Return the trials, best first: by how far they got, idle networks after others, then by score."""
    sign = -1 if mode == "max" else 1
    return sorted(trials, key=lambda trial: (-trial.rung, trial.idle, sign * (trial.score or 0.0)))


def repetitions(summary: Summary, plan: Plan) -> list[dict[str, Any]]:
    """Return the overrides of what is to be trained to the end with other seeds: the leaders, and the base itself.

    The base is trained on with its own seed as well, which the search may have stopped early.
    """
    finished = [one for one in ranked(summary.trials, summary.score_mode) if one.state == "finished"]
    base = [one for one in summary.trials if one.preset and one.state != "failed"]
    chosen = {one.key: one for one in (*finished[: plan.leaders], *base)}
    first = plan.base().seed
    return [{**one.overrides, SEED: seed} for seed in range(first, first + plan.seeds) for one in chosen.values()]


def find_leaders(trials: Sequence[Trial], repeats: Sequence[Trial], mode: str) -> list[Leader]:
    """Return the trials with two seeds or more at the end, `in_order`; only those with the most seeds can lead."""
    leaders = []
    for trial in trials:
        runs = [trial, *(one for one in repeats if one.overrides == trial.overrides)]
        ended = {str(one.seed): one.score for one in runs if one.state == "finished" and one.score is not None}
        if len(ended) > 1 and trial.state == "finished":
            values = list(ended.values())
            leaders.append(
                Leader(
                    key=trial.key,
                    number=trial.number,
                    overrides=trial.overrides,
                    preset=trial.preset,
                    scores=ended,
                    mean=statistics.fmean(values),
                    sd=statistics.stdev(values),
                    n=len(values),
                )
            )
    return in_order(leaders, trials, mode)


def in_order(leaders: Sequence[Leader], trials: Sequence[Trial], mode: str) -> list[Leader]:
    """Return the leaders among the trials, best first: by seeds, idle networks after others, then by the mean."""
    sign, idle = -1 if mode == "max" else 1, {trial.key for trial in trials if trial.idle}
    return sorted(leaders, key=lambda one: (-one.n, one.key in idle, sign * one.mean))


def _front(trials: Sequence[Trial], scores: Sequence[Score]) -> list[str]:
    ended = [
        trial for trial in trials if trial.state == "finished" and not trial.idle and len(trial.scores) == len(scores)
    ]
    if len(scores) < 2:
        return []
    signs = [-1 if score.mode == "max" else 1 for score in scores]
    points = [
        tuple(sign * trial.scores[score.name] for sign, score in zip(signs, scores, strict=True)) for trial in ended
    ]
    return [ended[index].key for index in front(points)]
