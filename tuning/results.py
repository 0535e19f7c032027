"""The files that a search leaves: its numbers, the best configuration, pictures, and what they say in words."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import dump
from pipeline.console import strict
from pipeline.training.rundir import write_json
from tuning.ablations import table_as_markdown, table_of
from tuning.conclusion import conclude
from tuning.importance import Importance, importance_of
from tuning.objective import trial_config
from tuning.plots import draw_all
from tuning.population_conclusion import conclude_population
from tuning.schedule import write_schedule
from tuning.toml import to_toml

if TYPE_CHECKING:
    from tuning.plan import Plan
    from tuning.summary import Summary


def explained(summary: Summary, plan: Plan) -> Summary:
    """Return the summary with what explains the scores, and what it all says."""
    if summary.population:
        return replace(summary, conclusion=conclude_population(summary))
    importance = importance_of(summary.trials) if plan.ablation is None else None
    return replace(
        summary,
        importance=asdict(importance) if importance is not None else {},
        conclusion=conclude(summary, plan, importance),
    )


def write_results(out: Path, plan: Plan, summary: Summary) -> list[Path]:
    """Write `tune.json`, and the rest if a trial gave a score; return what was written, tune.json first."""
    written: list[Path] = []
    importance = Importance(**summary.importance) if summary.importance else None
    if summary.best is not None:
        path = out / "best.toml"
        path.write_text(best_toml(plan, summary), "utf-8")
        written.append(path)
        path = out / "conclusion.md"
        path.write_text("# What the search found\n\n" + "".join(f"- {line}\n" for line in summary.conclusion), "utf-8")
        written += [path, *(write_schedule(out, plan, summary) or draw_all(out, summary, importance))]
    if plan.ablation is not None:
        table = table_of(plan, summary)
        write_json(out / "table.json", strict(table))
        (out / "table.md").write_text(table_as_markdown(table), "utf-8")
        written += [out / "table.md", out / "table.json"]
    write_json(out / "tune.json", strict(asdict(summary)))
    return [out / "tune.json", *written]


def best_toml(plan: Plan, summary: Summary) -> str:
    """Return the best trial's configuration, complete but for the data, with what is known of it in front."""
    best = summary.best
    assert best is not None
    tree = dump(trial_config(plan.base(), best.overrides))
    # Where the images were is no part of what was found; `--data` says where they are.
    del tree["data"]["path"]
    head = f"# Best of {len(summary.trials)} trials: {summary.score_name} {best.score:.6g}"
    if summary.population and not best.preset:
        head += ", reached by a schedule (schedule.json) of which these are the last values"
    leader = next((one for one in summary.leaders if one.key == best.key), None)
    if leader is not None:
        head += f"; over {leader.n} seeds {leader.mean:.6g}, standard deviation {leader.sd:.2g}"
    return f"{head}.\n# {summary.score_name}: {summary.score_definition}.\n\n" + to_toml(tree)
