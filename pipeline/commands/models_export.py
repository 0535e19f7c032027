"""`unveil models export`: a model as one file for programs that have never heard of unveil."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import Json
from pipeline.console import console, print_json

_FORMATS = ("pt2", "onnx")
_ATTENTION = ("off", "seeded")


def export(
    ref: Annotated[str, typer.Argument(help="Weights folder, run folder, models:/name@alias or runs:/id.")],
    out: Annotated[Path, typer.Option("--out", help="New file; what its user must do is written beside it as .json.")],
    file_format: Annotated[
        str | None, typer.Option("--format", help="pt2 (torch.export) or onnx; default: the ending of --out.")
    ] = None,
    attention: Annotated[
        str | None, typer.Option("--attention", help="Attention masks: off or seeded; default: as the model's card.")
    ] = None,
    height: Annotated[
        int | None, typer.Option("--height", min=1, help="Rows of the image that is traced; any others work too.")
    ] = None,
    width: Annotated[int | None, typer.Option("--width", min=1, help="Columns of the image that is traced.")] = None,
    json_output: Json = False,
) -> None:
    """Write a model as one file, compared with the network at three sizes before it is kept."""
    from pipeline.errors import UserError
    from pipeline.model_export import export_model

    for option, value, choices in (("format", file_format, _FORMATS), ("attention", attention, _ATTENTION)):
        if value is not None and value not in choices:
            raise UserError(f"--{option}: expected one of {', '.join(choices)}, found {value!r}")
    done = export_model(
        ref,
        out,
        kind=file_format,  # type: ignore[arg-type]  # checked above
        attention=attention,  # type: ignore[arg-type]
        height=height,
        width=width,
    )
    if json_output:
        print_json({"file": str(done.file.resolve()), "sidecar": str(done.sidecar.resolve()), **done.facts})
        return
    rows = done.facts["checked"]
    sizes = ", ".join(f"{row['height']}x{row['width']}" for row in rows)
    worst = max(row["largest_difference"] for row in rows)
    console.print(
        f"file     {done.file.resolve()}\n"
        f"how      {done.sidecar.resolve()}\n"
        f"checked  {sizes}: at most {worst:.1e} from the network",
        markup=False,
        soft_wrap=True,
    )
