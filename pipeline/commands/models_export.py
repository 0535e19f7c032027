"""`unveil models export`: a model as one file, for programs that have never heard of unveil or for another registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import Json
from pipeline.console import console, print_json

_FORMATS = ("pt2", "onnx", "unveil")
_ATTENTION = ("off", "seeded")


def export(
    ref: Annotated[str, typer.Argument(help="Weights folder, run folder, models:/name@alias, runs:/id or default.")],
    out: Annotated[
        Path, typer.Option("--out", help="New file; for pt2 and onnx, how to use it is written beside it as .json.")
    ],
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="pt2 (torch.export), onnx, or unveil: the whole registered model as a .zip, for `models import` into "
            "another registry; default: the ending of --out.",
        ),
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
    """Write a model as one file; pt2 and onnx are compared with the network at three sizes before they are kept."""
    from pipeline.errors import UserError
    from pipeline.model_export import export_model

    for option, value, choices in (("format", file_format, _FORMATS), ("attention", attention, _ATTENTION)):
        if value is not None and value not in choices:
            raise UserError(f"--{option}: expected one of {', '.join(choices)}, found {value!r}")
    if file_format == "unveil" or (file_format is None and out.suffix == ".zip"):
        if (attention, height, width) != (None, None, None):
            raise UserError("--attention, --height, --width: expected with pt2 and onnx only, found --format unveil")
        _export_whole(ref, out, json_output=json_output)
        return
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


def _export_whole(ref: str, out: Path, *, json_output: bool) -> None:
    from pipeline.registry.archive import export_archive

    digest = export_archive(ref, out)
    if json_output:
        print_json({"file": str(out.resolve()), "format": "unveil", "digest": digest})
        return
    console.print(
        f"file     {out.resolve()}\nnext     unveil models import {out.name} --name NAME   (in the other registry)",
        markup=False,
        soft_wrap=True,
    )
