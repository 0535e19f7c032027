"""`unveil models import`: foreign weights, read where they can do no harm, or a whole model of another registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import Json
from pipeline.console import console, print_json
from pipeline.data.paths import shown

_LAYOUTS = {"auto": None, "masked-training": "masked-training", "swinir": "swinir"}


def import_foreign(
    file: Annotated[
        Path,
        typer.Argument(
            help="A .pth, .pt, .ckpt or .safetensors of masked training or SwinIR; or a .zip of `models export`."
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="New folder for the weights.", show_default=False)] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="With a .zip: registered model to add it to as it is.", show_default=False),
    ] = None,
    alias: Annotated[
        str, typer.Option("--alias", help="With a .zip: alias to move to it, if its gate lets it.")
    ] = "champion",
    which: Annotated[
        str | None, typer.Option("--which", help="Which weights of the file, such as params or params_ema.")
    ] = None,
    layout: Annotated[
        str, typer.Option("--layout", help="auto, masked-training (no skips, attention masks) or swinir (skips, none).")
    ] = "auto",
    attention_ratio: Annotated[
        float, typer.Option("--attention-ratio", min=0, max=1, help="Tokens hidden in training; masked-training only.")
    ] = 0.75,
    json_output: Json = False,
) -> None:
    """Convert foreign weights, in a child process that runs no code of the file; or take in a whole model by hash."""
    from pipeline.errors import UserError
    from pipeline.registry.archive import is_archive
    from pipeline.weights_import import import_weights

    if (out is None) == (name is None):
        raise UserError(
            "--out, --name: expected one of the two, a folder for the weights or (with a .zip of `models export`) a "
            f"registered model, found {'neither' if out is None else 'both'}"
        )
    if is_archive(file):
        _import_whole(file, out, name, alias, json_output=json_output)
        return
    if out is None:
        raise UserError(
            f"--name: expected with a .zip of `models export` only, found {shown(file)}; convert it with --out FOLDER, "
            "and `unveil models register` the folder"
        )
    if layout not in _LAYOUTS:
        raise UserError(f"--layout: expected one of {', '.join(_LAYOUTS)}, found {layout!r}")
    done = import_weights(
        file,
        out,
        which=which,
        layout=_LAYOUTS[layout],  # type: ignore[arg-type]
        attention_ratio=attention_ratio,
    )
    from models import describe
    from models.spec_io import spec_to_dict

    network = describe(done.spec)
    if json_output:
        print_json(
            {
                "weights": str(out.resolve()),
                "network": network,
                "spec": spec_to_dict(done.spec),
                "card": done.card,
                "notes": list(done.notes),
            }
        )
        return
    source = done.card["source"]
    console.print(
        f"weights  {out.resolve()}\n"
        f"network  {source['layout']}, {network['parameters']:,} parameters, from {source['taken']}",
        markup=False,
        soft_wrap=True,
    )
    for note in done.notes:
        console.print(f"note     {note}", markup=False, soft_wrap=True)


def _import_whole(file: Path, out: Path | None, name: str | None, alias: str, *, json_output: bool) -> None:
    import shutil

    from pipeline.errors import UserError
    from pipeline.registry.archive import opened
    from pipeline.registry.artifact import WEIGHTS
    from pipeline.registry.promotion import not_promoted

    with opened(file) as served:
        if out is not None:
            if out.exists():
                raise UserError(f"--out {str(out)!r}: expected a folder that does not exist yet")
            shutil.copytree(served.folder / WEIGHTS, out)
            if json_output:
                print_json({"weights": str(out.resolve()), "digest": served.digest, "card": served.card})
                return
            console.print(f"weights  {out.resolve()}", markup=False, soft_wrap=True)
            return
        from pipeline.registry.store import new_run, upload

        assert name is not None  # the caller has seen to it
        done = upload(served, run_id=new_run("unveil", f"import {file.name}"), model=name, alias=alias)
    if json_output:
        told = {"registered_model": name, "version": done.version, "alias": done.alias, "gate": done.gate}
        print_json({**told, "digest": served.digest})
        return
    console.print(f"registered  models:/{name}/{done.version}, unchanged to the byte", markup=False, soft_wrap=True)
    if done.alias:
        console.print(
            f"alias       models:/{name}@{alias} points at it now; gate: {done.gate}", markup=False, soft_wrap=True
        )
    else:
        console.print(f"note        {not_promoted(name, done, alias)}", markup=False, soft_wrap=True)
