"""What a population says in sentences that are made of its numbers, and what it cannot say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuning.conclusion import against_base, idle_networks, spell, spell_work, worth

if TYPE_CHECKING:
    from tuning.summary import Summary


def conclude_population(summary: Summary) -> list[str]:
    """Return the sentences, what was found first."""
    if summary.best is None:
        return ["No trial gave a score."]
    found = [_best(summary), *idle_networks(summary), *_schedule(summary), *against_base(summary)]
    return [*found, spell_work(summary), *_limits(summary)]


def _best(summary: Summary) -> str:
    best, members = summary.best, len(summary.population["members"])
    assert best is not None
    what = "the configuration as given, without a schedule" if best.preset else f"member {best.number}"
    early = "" if best.state == "finished" else f", after interval {best.rung} of {summary.rungs} only"
    return f"Best of a population of {members} and the configuration as given: {what}: {worth(summary, best)}{early}."


def _schedule(summary: Summary) -> list[str]:
    best, told = summary.best, summary.population
    if best is None or best.preset:
        return []
    parts: list[tuple[int, str]] = []
    for piece in told["schedule"]:
        text = spell(piece["settings"])
        if not parts or parts[-1][1] != text:
            parts.append((piece["from_step"], text))
    if len(parts) == 1:
        return [f"Its settings never changed: {parts[0][1]}."]
    by_others = sum(piece["member"] != best.key for piece in told["schedule"])
    changes = "; ".join(f"from step {step:,}: {text}" for step, text in parts)
    return [
        f"Its settings are a schedule (schedule.json): {changes}.",
        f"{by_others} of its {len(told['schedule'])} intervals were trained by other members, from which it took over.",
        "best.toml holds the last values of the schedule alone; the weights are in winner/.",
    ]


def _limits(summary: Summary) -> list[str]:
    limits = ["which value mattered: members took over each other's weights, so their scores do not tell."]
    if summary.best is not None and not summary.best.preset:
        limits.append("whether the last values, kept from the start, would do as well; no member was trained so.")
    if summary.leaders:
        limits.append("the mean of the schedule without luck: the seed that it was found with is among its seeds.")
    else:
        limits.append("how much is luck: neither the schedule nor the configuration was trained with a second seed.")
    return [f"Not told by this: {line}" for line in limits]
