"""``unveil evaluate``: numbers on pictures whose truth is known, or made noisy here, or not known at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.options import Attention, Draws, Json, Offset

if TYPE_CHECKING:
    from pipeline.evaluation.cases import CaseSet
    from pipeline.evaluation.contenders import Model


def evaluate(
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REF",
            help="Weights folder, run folder, models:/name@alias or default; LABEL=REF names it. Any number of times; "
            "runs that differ by their seed alone get one label.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Folder of noisy and clean pictures, or of photos without clean partners. Any number of times.",
            show_default=False,
        ),
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            help="auto; pairs: noisy/ and clean/ with equal stems; polyu: *_real.* and *_mean.*; sidd: *NOISY_SRGB* "
            "and *GT_SRGB*; nind: NIND_<scene>_ISO<value>; blocks: SIDD's two validation .mat files; photos: no "
            "clean partners."
        ),
    ] = "auto",
    clean: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR", help="Folder of clean pictures to put --noise on. Any number of times.", show_default=False
        ),
    ] = None,
    noise: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RECIPE[:LEVEL,...]",
            help="Noise for --clean, as of `unveil synth`: poisson:2,3.5 is two sets, isp one. Any number of times.",
            show_default=False,
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(help="Many --noise at once: masked, those of the masked-training paper; quick, some of them."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    protocol: Annotated[
        str, typer.Option(help="Whose numbers: unveil, sidd-paper, sidd-kaggle, apbsn, amsnet, tbsn, masked or dnd.")
    ] = "unveil",
    metrics: Annotated[str, typer.Option(help="Metrics beside those of the protocol, comma-separated.")] = "",
    baselines: Annotated[
        str, typer.Option(help="Classical denoisers, comma-separated: nlm, tv, wavelet, bm3d; or empty.")
    ] = "nlm,tv",
    limit: Annotated[int | None, typer.Option(help="Take this many pictures of each folder, evenly spaced.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Also write the result here.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Also write a self-contained report here.")
    ] = None,
    attention: Attention = None,
    draws: Draws = None,
    offset: Offset = None,
    record: Annotated[
        bool, typer.Option("--record", help="Write mode and numbers into the model's card, as validated.")
    ] = False,
    track: Annotated[
        bool, typer.Option("--track", help="Also keep the evaluation in MLflow, beside the models it is about.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again what was measured before with the same weights and pictures.")
    ] = False,
    workers: Annotated[
        str,
        typer.Option(
            metavar="auto|N",
            help="Worker processes, through Ray; 0: this process alone. auto: all of a cluster (RAY_ADDRESS, or a "
            "submitted job), else this process.",
        ),
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    json_output: Json = False,
) -> None:
    """Measure models beside classical denoisers; every number names its definition.

    Stopped and called again it goes on where it was.
    """
    import json

    from pipeline.commands.evaluate_tables import tell
    from pipeline.console import console, print_json, progress
    from pipeline.data.allocator import keep_freed_memory
    from pipeline.data.images import write_bytes
    from pipeline.data.paths import shown
    from pipeline.errors import UserError
    from pipeline.evaluation.contenders import read_models
    from pipeline.evaluation.evaluate import measure_sets
    from pipeline.evaluation.protocols import pick_protocol
    from pipeline.evaluation.report import check_place, command_line
    from pipeline.evaluation.score_cache import ScoreCache
    from pipeline.evaluation.validated import check_recordable, check_single, record_validation
    from pipeline.inference.spread import workers_of

    if out is not None and report is not None and out.absolute() == report.with_suffix(".json").absolute():
        raise UserError(f"--out {shown(out)}: expected another name, found the one of the numbers beside --report")
    if report is not None:
        check_place(report)
    names = [name.strip() for name in baselines.split(",") if name.strip()]
    count, chosen = workers_of(workers), pick_protocol(protocol)
    for ref in model or () if record else ():
        check_recordable(ref)
    sets = _sets(data or [], layout, clean or [], noise or [], suite, seed, limit)
    models = _in_mode(read_models(model or [], device), attention, draws, offset)
    if not models and not names:
        raise UserError("--model, --baselines: expected somebody to measure, found neither")
    if record:
        check_single(models, sets)
    if track:
        from pipeline.tracking import check_store

        check_store()
    keep_freed_memory()
    cache = ScoreCache(read=not fresh)
    with progress() as bar:
        reading = bar.add_task("read", total=None)
        task = bar.add_task("evaluate", total=None, visible=False, start=False)

        def advance(done: int, total: int) -> None:
            bar.start_task(task)
            bar.update(task, completed=done, total=total, visible=True)
            bar.update(reading, visible=False)

        def read(done: int, total: int) -> None:
            bar.update(reading, completed=done, total=total)
            if done == total:
                advance(0, total)

        found = measure_sets(
            models,
            sets,
            protocol=chosen,
            more_metrics=[name.strip() for name in metrics.split(",") if name.strip()],
            baselines=names,
            cache=cache,
            workers=count,
            device=_device(models, device),
            crops=_windows(sets) if report is not None else None,
            on_read=read,
            on_progress=advance,
        )
    result = found.result
    if cache.problem:
        console.print(f"note: {cache.problem}", markup=False, style="yellow", soft_wrap=True)
    if record:
        record_validation(models[0].denoiser, result)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out, (json.dumps(result, indent=1) + "\n").encode())
    picture = None
    if report is not None:
        from pipeline.evaluation.evaluation_report import report_evaluation

        again = command_line(
            "evaluate",
            model=model,
            data=data,
            layout=None if layout == "auto" else layout,
            clean=clean,
            noise=noise,
            suite=suite,
            seed=seed or None,
            protocol=None if protocol == "unveil" else protocol,
            metrics=metrics,
            baselines=None if baselines == "nlm,tv" else baselines,
            limit=limit,
            attention=attention,
            draws=draws,
            offset=offset,
        )
        picture = report_evaluation(report, found, sets, models, commands=[again])
        console.print(f"report: {shown(report)}", markup=False, soft_wrap=True)
    if track:
        from pipeline.evaluation.tracked import track_evaluation

        named = [(one.label, one.ref) for one in models if one.ref is not None]
        tracked = result["tracked"] = track_evaluation(
            result, report=report, pictures=[picture] if picture else [], models=named
        )
        for line in (f"tracked: {tracked['url'] or tracked['run_id']}", *tracked["notes"]):
            console.print(line, markup=False, soft_wrap=True)
    for one in result["sets"]:
        for path in one["unpaired"]:
            console.print(f"no partner, left out: {shown(path)}", markup=False, style="yellow", soft_wrap=True)
    if json_output:
        print_json(result)
    else:
        tell(result)
        known = sum(len(one.cases) for one in sets) - found.measured
        if known:
            console.print(
                f"{known} pictures were measured before and not again (--fresh does)", style="dim", markup=False
            )


def _sets(
    data: list[Path],
    layout: str,
    clean: list[Path],
    noise: list[str],
    suite: str | None,
    seed: int,
    limit: int | None,
) -> list[CaseSet]:
    from pipeline.errors import UserError
    from pipeline.evaluation.case_sets import data_set, noised_sets, noises_of, suite_noises, unique_names

    if not data and not clean:
        raise UserError("--data, --clean: expected a folder of pictures, found none")
    if bool(clean) != bool(noise or suite):
        missing = "--noise or --suite" if clean else "--clean"
        raise UserError(f"{missing}: expected with {'--clean' if clean else '--noise and --suite'}, found none")
    if not 0 <= seed < 2**63:
        raise UserError(f"--seed: expected 0 to 2^63 - 1, found {seed}")
    typed = noises_of(noise)
    noises = list(dict.fromkeys((*(suite_noises(suite) if suite else ()), *typed)))
    sets = [data_set(folder, layout, limit) for folder in data]
    for folder in clean:
        sets += noised_sets(folder, noises, seed, limit)
    return unique_names(sets)


def _in_mode(models: list[Model], attention: str | None, draws: int | None, offset: str | None) -> list[Model]:
    """Return the models in the mode asked for; of several, those that know no attention masks are left as they are."""
    from dataclasses import replace

    from pipeline.console import console
    from pipeline.errors import UserError
    from pipeline.inference.modes import with_mode

    changed, refused = [], []
    for model in models:
        try:
            denoiser, warning = with_mode(model.denoiser, attention=attention, draws=draws, offset=offset)
        except UserError as error:
            refused.append(error)
            denoiser, warning = with_mode(model.denoiser, offset=offset)
        if warning:
            console.print(f"note: {model.label}: {warning}", markup=False, style="yellow", soft_wrap=True)
        changed.append(replace(model, denoiser=denoiser))
    if refused and len(refused) == len(models):
        raise refused[0]
    return changed


def _device(models: list[Model], device: str) -> str:
    """Return what workers are to use: what this process would."""
    from pipeline.inference.denoiser import NetworkDenoiser

    kinds = {model.denoiser.device for model in models if isinstance(model.denoiser, NetworkDenoiser)}
    return "cuda" if any(kind.startswith("cuda") for kind in kinds) and device != "cpu" else "cpu"


def _windows(sets: list[CaseSet]) -> Any:
    from pipeline.evaluation.pictures import sheet_numbers

    return lambda one: sheet_numbers(one, len(sets))
