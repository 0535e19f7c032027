"""What a search says, in sentences that are made of its numbers, and what it cannot say."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tuning.space import plain_values

if TYPE_CHECKING:
    from tuning.importance import Importance
    from tuning.plan import Plan
    from tuning.summary import Leader, Summary, Trial

_LEVEL = 0.975
"""Quantile of Student's t from which a difference is told from chance: 1 in 20 such differences is chance."""


def conclude(summary: Summary, plan: Plan, importance: Importance | None) -> list[str]:
    """Return the sentences, what was found first."""
    if summary.best is None:
        return ["No trial gave a score."]
    found = [
        _best(summary),
        *idle_networks(summary),
        *against_base(summary),
        *_what_mattered(summary, importance),
        spell_work(summary),
    ]
    return found + [f"Not told by this: {line}" for line in _limits(summary, plan, importance)]


def spell(overrides: dict[str, Any]) -> str:
    """Return overrides as they are typed, without those that follow others."""
    values = plain_values(overrides)
    ranges = {key: f"[{value[0]:g},{value[1]:g}]" for key, value in overrides.items() if isinstance(value, list)}
    shown = {key.removesuffix(".low") for key in values if not key.endswith(".high")}
    return ", ".join(f"{key}={_spelt(key, overrides, ranges)}" for key in overrides if key in shown) or "as given"


def _spelt(key: str, overrides: dict[str, Any], ranges: dict[str, str]) -> str:
    value = overrides[key]
    return ranges[key] if key in ranges else f"{value:g}" if isinstance(value, float) else str(value)


def worth(summary: Summary, best: Trial) -> str:
    """Spell the score of the best, over its seeds where it has more than one."""
    assert best.score is not None
    leader = next((one for one in summary.leaders if one.key == best.key), None)
    if leader is not None:
        return f"{summary.score_name} {leader.mean:.4g} ± {leader.sd:.2g} over {leader.n} seeds"
    return f"{summary.score_name} {best.score:.4g}"


def _best(summary: Summary) -> str:
    best = summary.best
    assert best is not None
    early = "" if best.state == "finished" else f", at rung {best.rung} of {summary.rungs} only"
    what = "the configuration as given" if best.preset else f"trial {best.number}, {spell(best.overrides)}"
    return f"Best of {len(summary.trials)}: {what}: {worth(summary, best)}{early}."


def idle_networks(summary: Summary) -> list[str]:
    """Say which networks do nothing, although their scores may be good."""
    idle = [one for one in summary.trials if one.idle]
    if not idle:
        return []
    numbers = ", ".join(str(one.number) for one in idle)
    who = f"trial {numbers}: the network changes" if len(idle) == 1 else f"trials {numbers}: the networks change"
    text = (
        f"Dead: {who} noisy crops by less than rounding to 8 bits does, so the score is that of the masks' fill alone"
    )
    if summary.best is not None and summary.best.idle:
        return [f"{text}. All that were trained as long are dead; look at optimizer.lr, or train longer."]
    return [f"{text}; never the winner where another one lives. A lower optimizer.lr keeps networks alive."]


def against_base(summary: Summary) -> list[str]:
    """Return how the best compares with the configuration as given, as far as that was trained."""
    best = summary.best
    base = next((one for one in summary.trials if one.preset), None)
    if best is None or base is None or best.preset:
        return []
    leaders = {one.key: one for one in summary.leaders}
    if best.key in leaders and base.key in leaders:
        return [_difference(leaders[best.key], leaders[base.key])]
    if base.state == "finished" and base.score is not None and best.score is not None:
        gap = abs(best.score - base.score)
        return [
            f"The configuration as given: {base.score:.4g}, {gap:.2g} worse, with one seed each: how much of that is "
            "luck is not known (--seeds)."
        ]
    return [f"The configuration as given was stopped at rung {base.rung} of {summary.rungs}."]


def _difference(best: Leader, base: Leader) -> str:
    gap, error = _gap(best, base)
    times = f"{gap / error:.1f} standard errors" if error else "without any spread"
    verdict = "more than chance between seeds explains" if _apart(best, base) else "no more than chance between seeds"
    return (
        f"The configuration as given: {base.mean:.4g} ± {base.sd:.2g}. The difference, {gap:.2g}, is {times} over "
        f"{min(best.n, base.n)} seeds: {verdict} (Student's t, 5 %)."
    )


def _gap(first: Leader, second: Leader) -> tuple[float, float]:
    """Difference of the means and its standard error."""
    return abs(first.mean - second.mean), math.sqrt(first.sd**2 / first.n + second.sd**2 / second.n)


def _apart(first: Leader, second: Leader) -> bool:
    from scipy.stats import t

    gap, error = _gap(first, second)
    return gap > error * float(t.ppf(_LEVEL, first.n + second.n - 2))


def _what_mattered(summary: Summary, importance: Importance | None) -> list[str]:
    if importance is None:
        return []
    where = f"at rung {importance.rung} of {summary.rungs}, {importance.trials} trials"
    clear = [name for name, share in importance.shares.items() if share > importance.chance[name]]
    unclear = [name for name in importance.shares if name not in clear]
    lines = []
    for name in clear:
        line = f"{name} mattered: it explains {importance.shares[name]:.0%} of the differences ({where}; shuffled "
        line += f"scores: {importance.chance[name]:.0%})"
        trend = importance.direction[name]
        if abs(trend) >= 0.3:
            better = (trend > 0) == (summary.score_mode == "max")
            line += f"; {'larger' if better else 'smaller'} was better (rank correlation {trend:+.2f})"
        lines.append(f"{line}.")
    if unclear:
        shares = ", ".join(f"{name} {importance.shares[name]:.0%}" for name in unclear)
        lines.append(f"No more than shuffled scores would give: {shares}.")
    return lines


def spell_work(summary: Summary) -> str:
    """Return what was trained, against every trial to the end."""
    whole = max((trial.step for trial in summary.trials), default=0)
    spent = sum(trial.step for trial in summary.trials)
    stopped = sum(trial.state == "stopped" for trial in summary.trials)
    seconds = sum(trial.seconds for trial in (*summary.trials, *summary.repeats))
    judging = sum(trial.judging for trial in (*summary.trials, *summary.repeats))
    share = spent / (whole * len(summary.trials)) if whole else 0.0
    text = f"{stopped} of {len(summary.trials)} trials were stopped early, which left {share:.0%} of the training steps"
    repeated = f", and {len(summary.repeats)} repetitions with other seeds" if summary.repeats else ""
    return f"{text}{repeated}; {seconds:.0f} s of training and {judging:.0f} s of judging in all."


def _limits(summary: Summary, plan: Plan, importance: Importance | None) -> list[str]:
    limits = []
    if not summary.leaders:
        limits.append("how much of a difference is luck, since no trial was trained with a second seed.")
    elif len(summary.leaders) > 1 and not _apart(*summary.leaders[:2]):
        first, second = summary.leaders[:2]
        limits.append(
            f"whether trial {first.number} is better than trial {second.number}: their seeds overlap "
            f"({first.mean:.4g} ± {first.sd:.2g}, {second.mean:.4g} ± {second.sd:.2g})."
        )
    if summary.leaders:
        limits.append("the means without luck altogether: the seed that the leaders were chosen by is among theirs.")
    if importance is None:
        limits.append("which value mattered: too few trials, or too much alike.")
    if any(trial.state == "stopped" for trial in summary.trials):
        limits.append("what the stopped trials would have become; some start slowly.")
    kind = plan.objectives[0] if plan.objectives else ""
    if summary.score_name in ("trust", "noise_left", "structure_lost", "estimated_error") or kind == "blind_l1":
        limits.append(
            f"PSNR: {summary.score_name} is measured without clean pictures. How well such measures agree with PSNR is "
            "in docs/results/trust.md."
        )
    if summary.score_name == "psnr_synthetic":
        limits.append("noises other than the recipe's (--suite).")
    return limits
