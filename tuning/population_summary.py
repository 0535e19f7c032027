"""What a population found: its members, the schedule of the best one, and that schedule with other seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuning.course import course_of
from tuning.population import (
    GIVEN,
    Generation,
    best_member,
    interval_count,
    line_of,
    member_key,
    read_population,
    settings_of,
    step_after,
)
from tuning.runs import known_trials
from tuning.summary import Leader, Summary, Trial, assemble, find_leaders, in_order, ranked, read_trial

if TYPE_CHECKING:
    from pipeline.schema import TrainConfig
    from tuning.plan import Plan
    from tuning.score import Score


def summarize_population(
    out: Path, plan: Plan, scores: Sequence[Score], failed: dict[str, str], *, run_id: str
) -> Summary:
    """Read the members' folders; the best is the member or the configuration as given with the best mean over seeds.

    With one seed it is that with the best score, of those that were trained longest.
    """
    config, mode = plan.base(), scores[0].mode
    count = interval_count(config)
    read = [
        (course_of(known["point"]).of, read_trial(out, key, known, failed.get(key), config, GIVEN, count))
        for key, known in known_trials(out).items()
    ]
    # A member's values are those that its last row was trained with.
    read = [
        (of, replace(one, overrides=one.history[-1]["settings"] if one.history else one.overrides)) for of, one in read
    ]
    read.sort(key=lambda pair: (pair[1].number, pair[1].seed))
    trials = [one for _, one in read if one.seed == config.seed]
    repeats = [one for _, one in read if one.seed != config.seed]
    leaders = _leaders(read, config, mode)
    best = next((one for one in ranked(trials, mode) if one.state != "failed" and one.rung), None)
    if leaders:
        best = next(one for one in trials if one.key == leaders[0].key)
    summary = assemble(out, scores, count, trials, repeats, leaders, best, run_id)
    return replace(summary, population=_told(read_population(out), config, mode, trials))


def _leaders(read: Sequence[tuple[str, Trial]], config: TrainConfig, mode: str) -> list[Leader]:
    found = []
    for of, trial in read:
        if trial.seed == config.seed:
            found += find_leaders([trial], [one for other, one in read if other == of and one is not trial], mode)
    return in_order(found, [one for _, one in read], mode)


def _told(generations: Sequence[Generation], config: TrainConfig, mode: str, trials: Sequence[Trial]) -> dict[str, Any]:
    """Return the state of the population as people and the report read it."""
    through = [one for one in generations if any(score is not None for score in one.scores)]
    if not through:
        return {}
    count = interval_count(config)
    best = best_member(through[-1], mode)
    line = line_of(through, best)
    settings = settings_of(config, through, line)
    histories = {trial.key: trial.history for trial in trials}
    members = []
    for number in range(len(through[0].seats)):
        rows = {row["rung"]: row for row in histories.get(member_key(number), [])}
        members.append(
            {
                "key": member_key(number),
                "intervals": [
                    {
                        "to_step": step_after(config, at + 1),
                        "parent": None if (parent := one.seats[number].parent) is None else member_key(parent),
                        "settings": settings_of(config, [one], [number])[0],
                        "score": rows[at + 1]["score"] if at + 1 in rows else None,
                    }
                    for at, one in enumerate(through)
                ],
            }
        )
    return {
        "intervals": count,
        "through": len(through),
        "steps": config.training.steps,
        "winner": member_key(best),
        "schedule": [
            {
                "from_step": step_after(config, at),
                "to_step": step_after(config, at + 1),
                "member": member_key(member),
                "settings": values,
            }
            for at, (member, values) in enumerate(zip(line, settings, strict=True))
        ],
        "members": members,
    }
