"""`unveil tune`: a search over the mask ratios, or a table of a paper, ending in a configuration for `unveil train`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.options import Config, Data, Json, Overrides, Preset
from pipeline.console import console, print_json
from pipeline.errors import UserError

if TYPE_CHECKING:
    from tuning.plan import Plan
    from tuning.summary import Summary

_SAMPLES, _SEEDS, _LEADERS, _MOST = 12, 3, 2, 1000


def tune(
    out: Annotated[Path, typer.Option("--out", help="Folder of the search: trials, tune.json, best.toml, pictures.")],
    overrides: Overrides = None,
    preset: Preset = None,
    config: Config = None,
    data: Data = None,
    search: Annotated[
        list[str] | None,
        typer.Option("--search", help="A key to search, repeatable (docs/tune.md); the mask ratios unless given."),
    ] = None,
    ablation: Annotated[
        str | None,
        typer.Option("--ablation", help="Train a table of a paper: table1, table2, table3a, amsnet-ratio, amsnet-pd."),
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option("--objective", help="psnr, trust, noise_left, structure_lost, estimated_error or blind_l1."),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", help="Judge trials on these noisy and clean pictures.", show_default=False),
    ] = None,
    suite: Annotated[
        str | None, typer.Option("--suite", help="Judge on this suite of noises, with --clean: quick, masked.")
    ] = None,
    clean: Annotated[Path | None, typer.Option("--clean", help="Clean pictures for --suite.")] = None,
    samples: Annotated[
        int | None,
        typer.Option("--samples", min=1, help=f"Number of trials; {_SAMPLES} unless given.", show_default=False),
    ] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", min=0, help="End after so many minutes.")] = None,
    gpu_hours: Annotated[float | None, typer.Option("--gpu-hours", min=0, help="End after so much GPU time.")] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler", help="asha stops trials that fall behind, none stops none, pbt changes settings on the way."
        ),
    ] = None,
    searcher: Annotated[
        str | None, typer.Option("--searcher", help="random, or optuna, which learns from the trials before.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help=f"Seeds of the leaders in all; {_SEEDS} unless given.")
    ] = None,
    leaders: Annotated[
        int | None, typer.Option("--leaders", min=1, help=f"Best trials to repeat; {_LEADERS} unless given.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the sampling.", show_default=False)] = None,
    train_best: Annotated[
        bool, typer.Option("--train-best", help="Train and register the winner afterwards, below OUT/best.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the search in --out; more --samples extend it.")
    ] = False,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Serve the dashboard of an embedded Ray, at 3 % of a core.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Search the mask ratios with Ray Tune; the best trial becomes a preset."""
    asked = {
        "search": search,
        "ablation": ablation,
        "objectives": objective,
        "pairs": _absolute(pairs),
        "suite": suite,
        "clean": _absolute(clean),
        "samples": samples,
        "minutes": minutes,
        "gpu_hours": gpu_hours,
        "scheduler": scheduler,
        "searcher": searcher,
        "seeds": seeds,
        "leaders": leaders,
        "seed": seed,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    plan = _resolve(out, overrides or [], preset, config, data, given, resume=resume)
    if train_best and plan.scheduler == "pbt":
        raise UserError(
            "--train-best: expected a search for settings; --scheduler pbt ends in a schedule and leaves the weights "
            "that it trained in OUT/winner; leave --train-best out"
        )
    summary = _search(plan, out, resume=resume, dashboard=dashboard)
    _tell(summary, plan)
    trained = _train_best(summary, plan) if train_best else None
    if json_output:
        print_json({**summary.as_json(), **({"trained": trained} if train_best else {})})


def _absolute(folder: Path | None) -> str | None:
    return str(folder.expanduser().resolve()) if folder is not None else None


def _resolve(
    out: Path,
    overrides: list[str],
    preset: str | None,
    config: Path | None,
    data: str | None,
    given: dict[str, Any],
    *,
    resume: bool,
) -> Plan:
    """Put the call together; what a continued search is not told is what its folder says."""
    from dataclasses import replace

    from pipeline.config import apply_overrides, check, dump, load_config
    from tuning.ablations import pick_ablation
    from tuning.plan import PRESET_SEARCH, Plan, check_plan, read_plan
    from tuning.space import size

    before = read_plan(out) if resume else None
    if "ablation" in given and preset is None and config is None and before is None:
        preset = pick_ablation(given["ablation"]).preset
    if before is not None and preset is None and config is None:
        resolved = check(apply_overrides(before.config, overrides, data))
    else:
        resolved = load_config(preset=preset, file=config, overrides=overrides, data=data)
    if before is not None:
        return check_plan(replace(before, config=dump(resolved), **given))
    if "ablation" in given:
        rows = len(pick_ablation(given["ablation"]).rows)
        return check_plan(Plan(**{"config": dump(resolved), "seed": 0, **given, "samples": rows, "scheduler": "none"}))
    usual = {"seed": 0, "seeds": _SEEDS, "leaders": _LEADERS, "search": list(PRESET_SEARCH.get(preset or "", ()))}
    budget = given.get("minutes") or given.get("gpu_hours")
    points = size(resolved, given.get("search", usual["search"]))
    usual["samples"] = _SAMPLES if not budget else min(_MOST, points or _MOST)
    # A trial may be the best in one thing without being good in the first, by which ASHA would stop it.
    usual["scheduler"] = "none" if len(given.get("objectives", ())) > 1 else "asha"
    return check_plan(Plan(**{"config": dump(resolved), **usual, **given}))


def _search(plan: Plan, out: Path, *, resume: bool, dashboard: bool) -> Summary:
    from pipeline.commands.tune_show import shown_search
    from tuning.population import judgements
    from tuning.score import choose_scores
    from tuning.search import search

    larger = choose_scores(plan)[0].mode == "max"
    samples = plan.samples * plan.seeds if plan.ablation else plan.samples
    if plan.scheduler == "pbt":
        # Beside the members the configuration as given, and both with the other seeds.
        samples += 2 * plan.seeds - 1
    # What Ray has to say about dying trials would otherwise stand before the JSON object.
    with (
        contextlib.redirect_stdout(sys.stderr),
        shown_search(samples, judgements(plan), larger) as listen,
    ):
        return search(plan, out, resume=resume, dashboard=dashboard, listen=listen)


def _train_best(summary: Summary, plan: Plan) -> dict[str, Any]:
    """Train the winner from the start, as `unveil train` would, and register it."""
    from pipeline.commands.train import run_with_progress
    from pipeline.config import load_config
    from pipeline.training.launch import as_json

    assert summary.best_config is not None
    assert summary.best is not None
    config = load_config(file=Path(summary.best_config), data=plan.base().data.path)
    # A search that goes on may find another winner; the same one is not trained again.
    folder = Path(summary.out) / "best" / summary.best.key
    result = run_with_progress(config, folder, resume=folder.is_dir())
    console.print(f"trained  {result.weights}", soft_wrap=True, markup=False)
    return as_json(result)


def _tell(summary: Summary, plan: Plan) -> None:
    from rich.table import Table

    from tuning.conclusion import spell
    from tuning.summary import ranked

    table = Table(title=f"{len(summary.trials)} trials, {summary.failed} failed, {summary.seconds:.0f} s")
    table.add_column("trial")
    table.add_column("overrides", no_wrap=True)
    for one in summary.objectives:
        table.add_column(one["name"], justify="right")
    table.add_column("step", justify="right")
    table.add_column("state")
    for trial in ranked(summary.trials, summary.score_mode):
        changed = spell(trial.overrides).replace(", ", "\n").replace("method.", "")
        scores = [trial.scores.get(one["name"]) for one in summary.objectives]
        cells = ["-" if score is None else f"{score:.5g}" for score in scores]
        state = trial.state + (" (as given)" if trial.preset else "") + (", dead" if trial.idle else "")
        best = summary.best is not None and trial.key == summary.best.key
        table.add_row(trial.key, changed, *cells, str(trial.step), state, style="bold" if best else None)
    console.print(table)
    for one in summary.objectives:
        _line(f"{one['name']}: {one['definition']}", style="dim")
    if summary.best is not None and summary.best.state != "finished":
        early = "no trial reached the end: the best one's rival failed after stopping it, or the budget was used up; "
        _line(early + "--resume goes on", style="yellow")
    if summary.pareto:
        _line(f"front  {', '.join(summary.pareto)}: no other trial is as good in every objective and better in one")
    for line in summary.conclusion:
        _line(line)
    if plan.ablation is not None:
        console.print(Path(summary.out, "table.md").read_text("utf-8"), soft_wrap=True, markup=False)
    console.print(f"best  {summary.best_config}", soft_wrap=True, markup=False)
    following = f"unveil train --config {summary.best_config} --data ... --out ..."
    winner = summary.best
    if summary.population and winner is not None and winner.state == "finished" and not winner.preset:
        # Its configuration is the end of a schedule only, and it has been trained already.
        following = f"unveil denoise ... --model {Path(summary.out) / 'winner'} --out ..."
    console.print(f"next  {following}", soft_wrap=True, markup=False)


def _line(text: str, style: str | None = None) -> None:
    """Print a line, which on a terminal breaks between words only."""
    console.print(text, style=style, soft_wrap=not console.is_terminal, markup=False)
