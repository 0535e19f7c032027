"""`unveil models show` and `unveil models networks`: what a model is, what it costs and how far it looks."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.options import Json
from pipeline.console import console, print_json
from pipeline.data.paths import shown

if TYPE_CHECKING:
    from models import NetworkSpec


def show(
    ref: Annotated[
        str,
        typer.Argument(
            help="Weights folder, run folder, models:/name@alias, models:/name/3, runs:/id or default; or a preset, "
            "which needs no weights."
        ),
    ],
    measure: Annotated[
        bool, typer.Option(help="Measure how far a changed pixel is seen with these weights, which takes seconds.")
    ] = True,
    json_output: Json = False,
) -> None:
    """Show size, cost, receptive field, inference mode and card of a model or a preset."""
    from pipeline.config import preset_names
    from pipeline.inference.shipped import NAMES

    # A folder goes first: what lies there is what the other commands would take.
    facts = _of_preset(ref) if ref in preset_names() and not Path(ref).exists() else _of_weights(ref, measure)
    if json_output:
        print_json(facts)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(shown(ref)), show_header=False)
    for name, value in _rows(facts):
        # A card may come from anywhere: nothing in it may restyle or command the terminal.
        table.add_row(Text(shown(name)), Text(shown(value)))
    console.print(table)
    if facts["model"] in NAMES and facts["readme"]:
        console.print(facts["readme"], markup=False, soft_wrap=True)


def networks(json_output: Json = False) -> None:
    """List the kinds of networks, each with its default size and cost."""
    from models import default_specs, describe

    kinds = [describe(spec) for spec in default_specs().values()]
    if json_output:
        print_json({"networks": kinds})
        return
    from rich.table import Table

    table = Table("network.kind", "parameters", "MACs a pixel", "512x512", "receptive field", "masks of its own")
    for facts in kinds:
        table.add_row(
            facts["kind"],
            f"{facts['parameters']:,}",
            f"{facts['macs_per_pixel']:,}",
            f"{facts['macs_512x512'] / 1e9:.1f} G",
            _square(facts["receptive_field"]),
            "attention" if facts["stochastic"] else "none",
        )
    console.print(table)


def _of_preset(name: str) -> dict[str, Any]:
    from pipeline.config import dump, load_config

    config = load_config(preset=name)
    return {**_facts(name, config.network, config.inference), "preset": name, "config": dump(config)}


def _of_weights(ref: str, measure: bool) -> dict[str, Any]:
    from models import load, measure_reach
    from pipeline.errors import UserError
    from pipeline.inference.denoiser import find_weights
    from pipeline.registry.card import licence
    from pipeline.registry.links import evaluations_for

    _check(ref)
    folder = find_weights(ref)
    try:
        loaded = load(folder)
    except (ValueError, OSError) as error:
        raise UserError(f"{shown(folder)}: expected weights made by unveil; {' '.join(str(error).split())}") from error
    facts = _facts(ref, loaded.spec, loaded.inference)
    if measure:
        facts["network"]["receptive_field_measured"] = 2 * measure_reach(loaded.network) + 1
    told = {"licence": licence(loaded.card), "readme": _readme(folder), "evaluations": evaluations_for(ref)}
    return {**facts, "folder": str(folder), "card": loaded.card, "sha256": loaded.sha256, **told}


def _readme(folder: Path) -> str | None:
    """The card for people, which registering has written beside the weights."""
    from pipeline.registry.artifact import README

    path = folder / README
    return path.read_text("utf-8", errors="replace")[:100_000] if path.is_file() else None


def _check(ref: str) -> None:
    """Say what presets there are before a name that is nothing else is looked for as a folder."""
    from pipeline.config import preset_names
    from pipeline.errors import UserError
    from pipeline.inference.shipped import NAMES

    if ref in NAMES or ref.startswith(("models:/", "runs:/")) or Path(ref).exists() or "/" in ref:
        return
    close = difflib.get_close_matches(ref, preset_names(), 1)
    hint = f"; did you mean the preset '{close[0]}'?" if close else ""
    raise UserError(
        f"{shown(ref)}: expected a weights or run folder, models:/name@alias, {' or '.join(NAMES)}, or a preset "
        f"({', '.join(preset_names())}), found nothing of that name{hint}"
    )


def _facts(ref: str, spec: NetworkSpec, inference: Any) -> dict[str, Any]:
    from models import describe
    from models.inference_spec import describe_inference
    from models.spec_io import spec_to_dict

    network = describe(spec)
    means = describe_inference(inference, stochastic=network["stochastic"])
    return {
        "model": ref,
        "folder": None,
        "preset": None,
        "network": {**network, "receptive_field_measured": None},
        "spec": spec_to_dict(spec),
        "inference": {**means, **spec_to_dict(inference), **means},
        "card": {},
        "licence": None,
        "readme": None,
        "evaluations": {},
        "sha256": None,
    }


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    from pipeline.config import flatten

    network, spec, inference = facts["network"], facts["spec"], facts["inference"]
    measured = network["receptive_field_measured"]
    field = _square(network["receptive_field"])
    if measured is not None:
        field += f" at most; with these weights a changed pixel is seen in {_square(measured)}"
    tiles = "equal to the whole image" if network["reach"] is not None else "close to the whole image"
    rows = [
        ("weights", facts["folder"] or "none, a preset"),
        ("network", f"{spec['kind']}: {_pairs(spec, leave_out='kind')}"),
        ("parameters", f"{network['parameters']:,}"),
        (
            "multiply-accumulates",
            f"{network['macs_per_pixel']:,} a pixel, {network['macs_512x512'] / 1e9:.1f} G for 512x512 "
            "(nothing saved by masks)",
        ),
        ("receptive field", field),
        ("tiles", f"{tiles}, start at multiples of {network['multiple']} pixels"),
        ("inference", f"{inference['mode']}: {_pairs(inference, leave_out='mode')}"),
    ]
    config = facts.get("config") or facts["card"].get("config")
    if isinstance(config, dict):
        # What the run was told, in short; --json has all of it.
        rows += [(name, _pairs(config.get(name)) or "none") for name in ("method", "noise")]
    gate = facts["card"].get("gate")
    if isinstance(gate, dict) and {"passed", "why"} <= gate.keys():
        from pipeline.training.rundir import gate_text

        # What it was measured by is in --json.
        rows.append(("gate", gate_text(gate)))
    rows += [(f"evaluated on {name}", _evaluation(found)) for name, found in facts["evaluations"].items()]
    if facts["licence"] is not None:
        rows.append(("licence of the data", facts["licence"]))
    adapted = facts["card"].get("adaptation")
    if isinstance(adapted, dict):
        rows.append(("adapted", f"from {adapted.get('start')}; kept: {adapted.get('kept')}, {adapted.get('why')}"))
    # What a shipped model's makers say of it stands in its README, which follows.
    elsewhere = ("config", "gate", "adaptation", "shipped")
    card = flatten({name: value for name, value in facts["card"].items() if name not in elsewhere})
    rows += [(name, str(value)) for name, value in card.items()]
    return [*rows, ("sha256", facts["sha256"])] if facts["sha256"] else rows


def _evaluation(found: dict[str, Any]) -> str:
    """What a tag of the registry says of an evaluation; anybody may have written it."""
    numbers = [
        f"{name} {found[key]}"
        for name, key in ((found.get("metric"), "value"), ("noisy", "noisy"), ("n", "n"))
        if found.get(key) is not None
    ]
    return f"{', '.join(numbers)}; run {found.get('run_id')}"


def _square(side: int | None) -> str:
    return "the whole image" if side is None else f"{side}x{side} pixels"


def _pairs(values: Any, *, leave_out: str = "") -> str:
    if not isinstance(values, dict):
        return "" if values is None else str(values)
    return ", ".join(f"{name} {value}" for name, value in values.items() if name != leave_out)
