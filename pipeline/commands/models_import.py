"""`unveil models import`: foreign weights, read where they can do no harm, as a weights folder of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import Json
from pipeline.console import console, print_json

_LAYOUTS = {"auto": None, "masked-training": "masked-training", "swinir": "swinir"}


def import_foreign(
    file: Annotated[Path, typer.Argument(help="A .pth, .pt, .ckpt or .safetensors of masked training or SwinIR.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the weights.")],
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
    """Convert foreign weights, in a child process that runs no code of the file."""
    from pipeline.errors import UserError
    from pipeline.weights_import import import_weights

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
